"""Padding and cropping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import dtype_names, numpy_dtype
from ..errors import ShapeError, plural
from ..graph import Value
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, boolean, f16, f32, i64, sample
from ..sizes import Dim, Sizes, bounds, largest, least, no_less
from ..types import TensorType
from ._axes import axes_of, axis_of
from ._read_axes import is_read, pads_of
from ._window import flat_pads

PairsOfSizes = tuple[tuple[Dim, Dim], ...]
"""Two sizes for each axis."""
MODES = ("constant", "edge", "reflect", "wrap")


@dataclass(frozen=True)
class Pad(Op):
    """The operand with ``pads[a]`` = (begin, end) elements added at the ends of each axis; ONNX Pad-24.

    Negative pads crop, before the others are added. ``mode`` gives the values added: ``constant`` (``value``, or the
    one element of an optional second operand), ``edge`` (the last element), ``reflect`` (mirrored about the last
    element), ``wrap`` (periodic).
    """

    name = "pad"
    rounds = False
    injective = True
    pads: PairsOfSizes = ()
    mode: str = "constant"
    value: float = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, *value = types
        x.check_computed()
        if self.mode not in MODES:
            raise ShapeError(f"unknown mode {self.mode!r}; known: {', '.join(MODES)}")
        if len(self.pads) != x.rank:
            raise ShapeError(f"{plural(len(self.pads), 'pair')} of pads given for {plural(x.rank, 'axis', 'axes')}")
        if len(value) > 1 or (value and (value[0].dtype != x.dtype or value[0].numel != 1 or self.mode != "constant")):
            raise ShapeError(
                f"takes one constant of dtype {dtype_names(x.dtype)} beside the data, and only in mode constant"
            )
        shape = [self.padded(d, begin, end) for d, (begin, end) in zip(x.shape, self.pads, strict=True)]
        return x.with_shape(shape)

    def padded(self, size: Dim, begin: Dim, end: Dim) -> Dim:
        """The size of a padded axis.

        Raises ``ShapeError`` when it is negative, or when there are no elements to repeat.
        """
        if begin == end == 0:
            return size
        left = size + least(begin, 0) + least(end, 0)
        whole = size + begin + end
        known = isinstance(left, int) and isinstance(whole, int)
        if whole < 0 or (self.mode != "constant" and (left < 1 <= whole if known else not no_less(left, 1))):
            raise ShapeError(f"pads ({begin}, {end}) leave nothing of size {size}")
        return whole

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x = xs[0]
        fill = xs[1](*(0 for _ in xs[1].shape)) if len(xs) > 1 else k.const(self.value, x.dtype)

        def element(*i: Any) -> Any:
            at, inside = list(i), []
            for axis, (before, after) in enumerate(self.pads):
                if before != 0 or after != 0:
                    left = x.shape[axis] + least(before, 0) + least(after, 0)
                    j = i[axis] - largest(before, 0)
                    if self.mode == "constant":
                        inside += [j >= 0] if bounds(before)[1] > 0 else []
                        inside += [j < left] if bounds(after)[1] > 0 else []
                    at[axis] = _source(k, self.mode, j, left) + largest(-before, 0)
            if not inside:
                return x(*at)
            return k.guarded(k.tirx.all(*inside), x(*at), fill)

        return k.compute(outs[0], element, "pad", mask=True)

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return inputs[0].rank == layout.rank and all(
            layout.block(a) == 1 or p == (0, 0) for a, p in enumerate(self.pads)
        )

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(((0, 0), (0, 0), (1, 2), (3, 0))), f32[1, 2, 4, 5])
        yield sample(cls(((1, 0), (0, 2)), value=-1.5), f16[3, 2])
        yield sample(cls(((0, 3),), value=1), boolean[4])
        yield sample(cls(((1, 1), (0, 2))), f32[3, 2], f32[()])
        yield sample(cls(((0, 0), (2, 1)), "edge"), f32[2, 3])
        yield sample(cls(((0, 0), (2, 1), (0, 3)), "reflect"), f32[2, 3, 4])
        yield sample(cls(((0, 0), (4, 5)), "wrap"), f32[2, 3])
        note = "the reference cannot crop"
        yield sample(cls(((1, -1), (-2, 0)), value=7), i64[3, 4], oracle="onnxruntime", note=note)
        yield sample(cls(((-1, 2), (1, -2)), "reflect"), f32[5, 4], oracle="onnxruntime", note=note)
        yield sample(cls(((-1, 2), (1, -2)), "edge"), f32[5, 4], oracle="onnxruntime", note=note)


@imports("Pad")
def _import_pad(n: ImportNode) -> Any:
    x, mode = n.input(0), n.attr("mode", "constant")
    rank = x.type.rank
    axes: tuple[int, ...] = tuple(range(rank))
    if n.opset >= 11 and (is_read(n, 1) or is_read(n, 3)):
        flat: Sizes | None = pads_of(n, 1, 3)
    else:
        flat = n.sizes_from("paddings" if n.opset < 2 else "pads", 1)
        axes = tuple(axis_of(a, rank) for a in n.ints(3, "axes") or range(rank))
    if flat is None or len(flat) != 2 * len(axes) or len(axes_of(axes, rank)) != len(axes):
        raise n.error(f"pads must be two numbers for each of {len(axes)} axes")
    if mode not in MODES:
        raise n.error(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    given = {a: (flat[i], flat[i + len(axes)]) for i, a in enumerate(axes)}
    pads = tuple(given.get(a, (0, 0)) for a in range(rank))
    if all(pair == (0, 0) for pair in pads):
        return x
    value, operand = _fill(n, x) if mode == "constant" else (0, [])
    return n.emit(Pad(pads, mode, value), x, *operand)


@exports(Pad)
def _export_pad(op: Pad, n: ExportNode) -> None:
    value = n.inputs[1:] or [n.constant(_scalar(op.value, n.input_types[0].dtype), "value")]
    inputs = [n.inputs[0], n.ints(flat_pads(op.pads)), *(value if op.mode == "constant" else [])]
    n.node("Pad", inputs, n.outputs, mode=op.mode)


def _fill(n: ImportNode, x: Value) -> tuple[float, list[Value]]:
    """The value that a Pad node adds: a number, or an operand when it is computed at run time or NaN, which has no text
    form.
    """
    if n.opset < 11:
        return n.attr("value", 0.0), []
    given = n.optional(2)
    if given is None:
        return 0, []
    array = n.builder.constant_of(given)
    if array is None or array.size != 1:
        return 0, [given]
    value = array.reshape(-1)[0]
    number = float(value) if x.type.is_float else int(value)
    return (0, [given]) if math.isnan(number) else (number, [])


def _scalar(value: float, dtype: str) -> Any:
    return numpy_dtype(dtype).type(value)


def _source(k: TensorExpressions, mode: str, j: Any, size: Dim) -> Any:
    """The position in the operand of the element at position ``j`` of the result, for an axis of this size."""
    if mode == "constant":
        return j
    if mode == "edge" or size == 1:
        return k.tirx.max(k.tirx.min(j, size - 1), 0)
    period = size if mode == "wrap" else largest(2 * (size - 1), 1)
    around = j % period
    return around if mode == "wrap" else k.tirx.min(around, period - around)
