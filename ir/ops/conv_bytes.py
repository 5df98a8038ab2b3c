"""Convolution of bytes by instructions that multiply four at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError, UnsupportedOpError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports
from ..op import Case
from ..types import TensorType
from ._window import pad_spatial
from .conv import Conv


@dataclass(frozen=True)
class ConvBytes(Conv):
    """The convolution of uint8 data ``N C H W`` with int8 weights, summed in int32; the data is padded with ``zero``.

    Weights are packed as int32 ``O C/4 kh kw``. Each int32 holds the weights of four channels, the first in its low
    bits; channels beyond those of the data have weight 0. A pass makes this op of a ``ConvInteger`` for processors with
    such instructions; no model holds it.
    """

    name = "conv_bytes"
    exact: bool = True
    zero: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, w = types
        if (x.dtype, w.dtype, x.rank, self.group) != ("u8", "i32", 4, 1) or not 0 <= self.zero <= 255:
            raise ShapeError(f"takes uint8 data [N, C, H, W] and weights of int32 in one group, not {x} and {w}")
        quads = TensorType("f32", (x.shape[0], -(-x.shape[1] // 4), *x.shape[2:]), x.layout)
        return super().infer(quads, w.with_dtype("f32")).with_dtype("i32")

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w = xs
        strides, pads, dilations = self.geometry(2)
        padded = pad_spatial(k, x, pads, self.zero)
        rc = k.reduce_axis(w.shape[1], "rc")
        rk = [k.reduce_axis(size, "rk") for size in w.shape[2:]]

        def element(n: Any, o: Any, *i: Any) -> Any:
            at = [s * j + d * r for s, j, d, r in zip(strides, i, dilations, rk, strict=True)]
            four = w(o, rc, *rk)
            total: Any = 0
            for j in range(4):
                c = k.tirx.min(rc * 4 + j, x.shape[1] - 1)  # beyond the last channel the weight is 0
                byte = (((four >> (8 * j)) & 255) ^ 128) - 128  # a left shift of an immediate could overflow
                total += padded(n, c, *at).astype("int32") * byte
            return k.te.sum(total, axis=[rc, *rk])

        return k.compute(outs[0], element, "conv")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 4 * super().flops(inputs, outputs)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        return iter(())


@exports(ConvBytes)
def _export_conv_bytes(op: ConvBytes, n: ExportNode) -> None:
    raise UnsupportedOpError(f"op {op.name} has no ONNX form")
