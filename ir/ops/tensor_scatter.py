"""Update of a cache: a range of positions in each sequence is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, sample
from ..sizes import same
from ..types import TensorType
from ._axes import axis_of, check_index, data_number

MODES = ("linear", "circular")


@dataclass(frozen=True)
class TensorScatter(Op):
    """The cache with ``update`` written along ``axis`` from position ``start[b]`` on, for each b of axis 0; ONNX
    TensorScatter-24.

    Operands: cache, update, start. With ``mode="circular"`` positions beyond the end of the cache continue at its
    front.
    """

    name = "tensor_scatter"
    injective = True
    axis: int = -2
    mode: str = "linear"

    def infer(self, *types: TensorType) -> TensorType:
        cache, update, start = types
        check_index(start)
        if self.mode not in MODES:
            raise ShapeError(f"unknown mode {self.mode!r}; known: {', '.join(MODES)}")
        axis = axis_of(self.axis, cache.rank)
        if axis == 0 or update.rank != cache.rank or update.dtype != cache.dtype:
            raise ShapeError("takes cache and update of one dtype and rank, and an axis that is not the first")
        others = [a for a in range(cache.rank) if a != axis]
        if not all(same(cache.shape[a], update.shape[a]) for a in others):
            raise ShapeError(f"cache {cache} and update {update} may differ only in axis {axis}")
        if update.shape[axis] > cache.shape[axis]:
            raise ShapeError(f"{update.shape[axis]} elements do not fit {cache.shape[axis]}")
        if start.rank != 1 or not same(start.shape[0], cache.shape[0]):
            raise ShapeError(f"start {start} must be one place for each of the {cache.shape[0]} sequences")
        return cache

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        cache, update, start = xs
        axis = axis_of(self.axis, cache.type.rank)
        size, written = cache.shape[axis], update.shape[axis]

        def element(*i: Any) -> Any:
            begin = start(i[0])
            if self.mode == "circular":
                begin = k.tirx.floormod(begin, k.like(size, begin))
            behind = i[axis] - data_number(k, begin, -size, size)
            if self.mode == "circular":
                behind = k.tirx.floormod(behind, k.like(size, behind))
            inside = k.tirx.all(behind >= 0, behind < written)
            at = k.tirx.max(k.tirx.min(behind, written - 1), 0)
            return k.guarded(inside, update(*i[:axis], at, *i[axis + 1 :]), cache(*i))

        return k.compute(outs[0], element, self.name)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        new = {"oracle": "reference", "note": "new in ONNX 24"}
        yield sample(cls(), f32[2, 3, 6, 4], f32[2, 3, 2, 4], np.array([1, 4]), **new)
        yield sample(cls(1, "circular"), f32[3, 5], f32[3, 3], np.array([0, 3, 4]), **new)
        yield sample(cls(-1), f16[2, 4], f16[2, 4], np.array([0, 0]), **new)


@imports("TensorScatter")
def _import_tensor_scatter(n: ImportNode) -> Any:
    cache, start = n.input(0), n.optional(2)
    if start is None:
        start = n.filled((cache.type.sizes[0],), 0, "i64", "start")
    return n.emit(TensorScatter(n.attr("axis", -2), n.attr("mode", "linear")), cache, n.input(1), start)


@exports(TensorScatter)
def _export_tensor_scatter(op: TensorScatter, n: ExportNode) -> None:
    n.node("TensorScatter", n.inputs, n.outputs, axis=op.axis, mode=op.mode)
