"""Sums of products, by Einstein's notation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import FLOATS, INTEGERS
from ..errors import ShapeError, plural
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f16, f32, i64, sample
from ..sizes import Dim, same
from ..types import TensorType
from ._accumulate import accumulator
from ._reducers import total

Labels = tuple[str, ...]


@onnx_op("Einsum")
@dataclass(frozen=True)
class Einsum(Op):
    """The products of the operands, summed over every label that the result lacks; ONNX Einsum-12.

    An ellipsis stands for axes that broadcast. Narrow floats are accumulated in float32.
    """

    name = "einsum"
    contraction = True
    equation: str = ""

    def infer(self, *types: TensorType) -> TensorType:
        if not types or len({t.dtype for t in types}) > 1 or types[0].dtype not in FLOATS + INTEGERS:
            raise ShapeError("operands must be numbers of one dtype")
        terms, result = self.labels([t.rank for t in types])
        sizes = _sizes(terms, types)
        return TensorType(types[0].dtype, tuple(sizes[label] for label in result))

    def labels(self, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
        """The label of every axis of the operands and of the result; axes under an ellipsis are numbered from the
        right.
        """
        left, arrow, right = self.equation.replace(" ", "").partition("->")
        given = left.split(",")
        if len(given) != len(ranks):
            raise ShapeError(
                f"equation {self.equation!r} has {plural(len(given), 'term')} for {plural(len(ranks), 'operand')}"
            )
        terms = [_term(text, rank, self.equation) for text, rank in zip(given, ranks, strict=True)]
        broad = max((tuple(x for x in t if x.isdigit()) for t in terms), key=len)
        if not arrow:
            counts = Counter(label for t in terms for label in t if not label.isdigit())
            return terms, (*broad, *sorted(label for label, count in counts.items() if count == 1))
        result = _term(right, len(right.replace("...", "")) + (len(broad) if "..." in right else 0), self.equation)
        unknown = set(result) - {label for t in terms for label in t}
        if unknown or len(set(result)) < len(result):
            raise ShapeError(f"the result of {self.equation!r} repeats a label, or has one that no operand has")
        return terms, result

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (out,) = outs
        terms, result = self.labels([x.type.rank for x in xs])
        sizes = _sizes(terms, [x.type for x in xs])
        wide = accumulator(out)
        summed = [label for label in sizes if label not in result]

        def element(*i: Any) -> Any:
            inner = {label: k.reduce_axis(sizes[label]) for label in summed}
            at = {**dict(zip(result, i, strict=True)), **inner}
            factors = [
                x(*(0 if x.shape[a] == 1 else at[label] for a, label in enumerate(t))).astype(wide.tvm_dtype)
                for x, t in zip(xs, terms, strict=True)
            ]
            value = math.prod(factors[1:], start=factors[0])
            return total(k, value, list(inner.values())) if inner else value

        y = k.compute(wide, element, "einsum")
        if wide == out:
            return y
        sums = k.operand(y, wide)
        return k.compute(out, lambda *i: sums(*i).astype(out.tvm_dtype), "rounded")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        terms, _ = self.labels([t.rank for t in inputs])
        return len(inputs) * math.prod(int(s) for s in _sizes(terms, inputs).values())

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls("bij,bjk->bik"), f32[2, 3, 4], f32[2, 4, 5])
        yield sample(cls("...ij, ...jk"), f32[1, 3, 4], f32[2, 4, 5])
        yield sample(cls("bhwc,hkc->bhwk"), f32[2, 3, 2, 4], f32[3, 5, 4])
        yield sample(cls("ii->i"), f32[4, 4])
        yield sample(cls("ij->"), i64[3, 4])
        yield sample(cls("i,j,k->kij"), f32[2], f32[3], f32[4])
        yield sample(cls("ij,j"), f16[3, 40], f16[40])


def _term(text: str, rank: int, equation: str) -> Labels:
    """The labels of one term for a tensor of this rank."""
    before, dots, after = text.partition("...")
    hidden = rank - len(before) - len(after)
    if not all(c.isascii() and c.isalpha() for c in before + after) or hidden < 0 or (hidden and not dots):
        raise ShapeError(f"term {text!r} of equation {equation!r} does not fit rank {rank}")
    return (*before, *(str(d) for d in reversed(range(hidden))), *after)


def _sizes(terms: Sequence[Labels], types: Sequence[TensorType]) -> dict[str, Dim]:
    """The size of every label. Raises ``ShapeError`` where operands disagree."""
    sizes: dict[str, Dim] = {}
    for t, type in zip(terms, types, strict=True):
        for label, size in zip(t, type.shape, strict=True):
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size != 1 and not same(known, size):
                raise ShapeError(f"label '{label}' has sizes {known} and {size}")
    return sizes
