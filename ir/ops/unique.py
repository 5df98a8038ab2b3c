"""The distinct elements of a tensor, or of its slices along an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import COMPUTED
from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, boolean, f32, i32, sample
from ..sizes import Dim, product
from ..types import TensorType
from ._axes import axis_of
from ._heap import COUNT, SLOTS, TAKEN, Heap
from ._math import wide
from .gather import Gather
from .reshape import Reshape
from .transpose import Transpose


@dataclass(frozen=True)
class Unique(Op):
    """The distinct rows of ``n m``, in ascending order or in that of their first occurrence; ONNX Unique-11.

    The results are int64: the index of the first occurrence of each distinct row, and the number of distinct rows; the
    place of each row among the distinct ones; and how often each distinct row occurs. All have shape ``n`` but for the
    number, ``1``. Rows are ordered by their first element in which they differ. NaN counts as larger than any number,
    and as equal to itself, as in numpy.
    """

    name = "unique"
    rounds = False
    on_gpu = False
    counted = 0
    counted_results = (0, 3)
    sorted: bool = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if x.rank != 2 or x.dtype not in COMPUTED:
            raise ShapeError(f"takes rows of {', '.join(COMPUTED)}, not {x}")
        each = TensorType("i64", x.shape[:1])
        return each, TensorType("i64", (1,)), each, each

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        rows, columns = xs[0].shape
        if rows == 0:
            return [k.compute(t, lambda *_: k.const(0, "int64")) for t in outs]
        work = [TensorType("i32", shape) for shape in ((1, rows), (1, SLOTS), (rows,), (rows,), (rows,), (2,))]

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            first, number, inverse, occurrences, items, state, rank, after, groups, held = results
            zero, one, found = k.const(0, "int32"), k.const(1, "int32"), number(0).astype("int32")
            ranked = _ranked(k, ins[0], items, state, rank, after, held, rows)

            def group(i: Any) -> Any:
                """Count row i in its group, whose first occurrence is the last that is stored."""
                return block(
                    k,
                    groups.store(rows - 1 - i, rank(rows - 1 - i)),
                    occurrences.store(occurrences(rank(i)) + k.const(1, "int64"), rank(i)),
                )

            def label(g: Any) -> Any:
                """Give the group of rank g, or that of row g, the next place in the order."""
                of = g if self.sorted else rank(g)
                new = block(k, first.store(groups(of), found), after.store(found, of), number.store(number(0) + 1, 0))
                return when(k, groups(of) >= zero if self.sorted else groups(of) == g, new)

            return block(
                k,
                loop(k, rows, lambda i: block(k, *(t.store(zero, i) for t in (rank, first, occurrences)),
                                              groups.store(-one, i))),
                loop(k, columns, ranked),
                loop(k, rows, group),
                number.store(k.const(0, "int64"), 0),
                loop(k, rows, label),
                loop(k, rows, lambda i: inverse.store(after(rank(i)), i)),
                # the counts are in the order of ranks so far, which are used up to the number of distinct rows
                loop(k, found, lambda g: items.store(occurrences(g), zero, after(g))),
                loop(k, found, lambda g: occurrences.store(items(zero, g), g)),
            )  # fmt: skip

        return [r.tensor for r in loop_nest(k, [*outs, *work], xs, body, self.name)[:4]]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        alone = {"oracle": "reference", "note": "ONNX Runtime lacks most dtypes"}
        numbers = np.array([[3], [1], [-0.0], [1], [0], [np.inf], [-np.inf], [3]], np.float32)
        for ordered in (True, False):
            yield sample(cls(ordered), i32[40, 1], low=0, high=9, **alone)
            yield sample(cls(ordered), i32[30, 3], low=0, high=1, **alone)
            yield sample(cls(ordered), numbers)
        for dtype in ("f16", "f64", "u64", "i8"):
            yield sample(cls(), TensorType(dtype, (9, 1)), low=0, high=4, **alone)
        yield sample(cls(False), boolean[7, 1], **alone)
        yield sample(cls(), f32[0, 1], **alone)


def _ranked(
    k: TensorExpressions,
    x: Memory,
    items: Memory,
    state: Memory,
    rank: Memory,
    after: Memory,
    held: Memory,
    rows: Dim,
) -> Callable[[Any], Any]:
    """A function that gives the statement for a column: rows of equal ``rank`` are ordered by their elements in it.

    ``after`` and ``held`` are temporary values.
    """
    zero, one = k.const(0, "int32"), k.const(1, "int32")

    def column(j: Any) -> Any:
        def less(a: Any, b: Any) -> Any:
            v, w = (wide(x(i, j)) for i in (a, b))
            if k.dtype(v) == "bool":
                v, w = v.astype("int8"), w.astype("int8")
            lower = v < w
            if "float" in k.dtype(v):
                lower = k.tirx.any(lower, k.tirx.all(k.tirx.isnan(w), k.tirx.Not(k.tirx.isnan(v))))
            return k.tirx.any(rank(a) < rank(b), k.tirx.all(rank(a) == rank(b), lower))

        heap = Heap(k, items, state, zero, less, rows)

        def next_row(_: Any) -> Any:
            """The next row in order: it begins a group if it is not equal to the row before."""
            taken, last, group = state(zero, TAKEN), held(0), held(1)
            new = k.tirx.any(last < zero, less(k.tirx.max(last, zero), taken))
            return block(
                k,
                heap.pop(),
                held.store(k.select(new, group + one, group), 1),
                after.store(group, taken),
                held.store(taken, 0),
            )

        return block(
            k,
            state.store(zero + rows, zero, COUNT),
            loop(k, rows, lambda i: items.store(i, zero, i)),
            heap.build(),
            held.store(-one, 0),
            held.store(-one, 1),
            loop(k, rows, next_row),
            loop(k, rows, lambda i: rank.store(after(i), i)),
        )

    return column


@imports("Unique", folds=True)
def _import_unique(n: ImportNode) -> Any:
    x, axis = n.input(0), n.attr("axis")
    if axis is None:
        x, axis = n.emit(Reshape((-1,)), x), 0
    axis = axis_of(axis, x.type.rank)
    order = (axis, *(a for a in range(x.type.rank) if a != axis))
    rows = n.emit(Transpose(order), x) if axis else x
    rows = n.emit(Reshape((x.type.shape[axis], product(x.type.shape[a] for a in order[1:])), True), rows)
    first, inverse, counts = n.emit(Unique(bool(n.attr("sorted", 1))), rows)
    return n.emit(Gather(axis), x, first), first, inverse, counts


@exports(Unique)
def _export_unique(op: Unique, n: ExportNode) -> None:
    first, number, inverse, counts = n.outputs
    n.node("Unique", n.inputs, [n.fresh("values"), first, inverse, counts], axis=0, sorted=int(op.sorted))
    n.node("Shape", [first], [number], start=0, end=1)
