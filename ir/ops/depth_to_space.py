"""Moving blocks of channels into space, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports, onnx_op
from ..op import Case, Op, f16, f32, sample
from ..sizes import Dim, same
from ..types import TensorType


@onnx_op("DepthToSpace")
@dataclass(frozen=True)
class DepthToSpace(Op):
    """``N C H W -> N C/b**2 H*b W*b``, the pixel shuffle; ONNX DepthToSpace-13.

    The axis of channels is ``(row in block, column in block, channel)`` in mode ``DCR``, ``(channel, row, column)`` in
    ``CRD``.
    """

    name = "depth_to_space"
    moves_elements = True
    rounds = False
    injective = True
    blocksize: int = 1
    mode: str = "DCR"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        b = self.blocksize
        _check(x, b, self.mode)
        n, c, h, w = x.shape
        return x.with_shape((n, _divided(c, b * b), h * b, w * b))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        b, channels = self.blocksize, outs[0].shape[1]

        def element(n: Any, c: Any, h: Any, w: Any) -> Any:
            block = h % b * b + w % b
            source = block * channels + c if self.mode == "DCR" else c * (b * b) + block
            return x(n, source, h // b, w // b)

        return k.compute(outs[0], element, "depth_to_space")

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == 4 and not layout.is_blocked

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(2), f32[2, 8, 3, 2])
        yield sample(cls(2, "CRD"), f32[1, 12, 2, 5])
        yield sample(cls(3, "CRD"), f32[1, 9, 1, 4])


@onnx_op("SpaceToDepth")
@dataclass(frozen=True)
class SpaceToDepth(Op):
    """``N C H W -> N C*b**2 H/b W/b``, the inverse of ``DepthToSpace`` of the same mode; ONNX SpaceToDepth-28."""

    name = "space_to_depth"
    moves_elements = True
    rounds = False
    injective = True
    blocksize: int = 1
    mode: str = "DCR"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        b = self.blocksize
        _check(x, b, self.mode)
        n, c, h, w = x.shape
        return x.with_shape((n, c * b * b, _divided(h, b), _divided(w, b)))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        b, channels = self.blocksize, x.shape[1]

        def element(n: Any, c: Any, h: Any, w: Any) -> Any:
            block, source = (c // channels, c % channels) if self.mode == "DCR" else (c % (b * b), c // (b * b))
            return x(n, source, h * b + block // b, w * b + block % b)

        return k.compute(outs[0], element, "space_to_depth")

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == 4 and not layout.is_blocked

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(2), f32[2, 3, 4, 6])
        yield sample(cls(2, "CRD"), f32[2, 3, 4, 6])
        yield sample(cls(3), f16[1, 1, 3, 6])


@exports(SpaceToDepth)
def _export_space_to_depth(op: SpaceToDepth, n: ExportNode) -> None:
    if op.mode == "DCR":
        n.node("SpaceToDepth", n.inputs, n.outputs, blocksize=op.blocksize)
        return
    # the mode is newer than the opset that is written
    (count, channels, height, width), b = n.input_types[0].sizes, op.blocksize
    blocks = n.reshape(n.inputs[0], (count, channels, height // b, b, width // b, b))
    turned = n.node("Transpose", [blocks], perm=(0, 1, 3, 5, 2, 4))
    n.reshape(turned, (count, channels * b * b, height // b, width // b), n.outputs)


def _check(x: TensorType, blocksize: int, mode: str) -> None:
    if x.rank != 4 or (x.layout and x.layout.is_blocked) or mode not in ("DCR", "CRD") or blocksize < 1:
        raise ShapeError("takes data of rank 4 that is not in blocks, a blocksize of at least 1, and mode DCR or CRD")


def _divided(size: Dim, factor: int) -> Dim:
    if not same(size % factor, 0):
        raise ShapeError(f"size {size} is not divisible by {factor}")
    return size // factor
