"""Convolutions of quantized operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..graph import Value
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, i8, sample, u8
from ..sizes import same_shape
from ..types import TensorType
from ._quantized import along, operand, requantized
from ._window import Ints, Pads, flat_pads
from .binary import Add
from .conv import Conv, conv_geometry


@dataclass(frozen=True)
class ConvInteger(Op):
    """The convolution of ``x - x_zero`` with ``w - w_zero``, summed in int32; ONNX ConvInteger-10.

    The operands are data ``N C spatial`` and weight ``O C/group spatial`` of 8-bit integers, the zero point of the
    data, a single number, and that of the weight, a single number or a vector ``O``. Padding has the value of the zero
    point.
    """

    name = "conv_integer"
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()
    group: int = 1

    def plain(self) -> Conv:
        """The convolution of the same geometry."""
        return Conv(self.strides, self.pads, self.dilations, self.group)

    def infer(self, *types: TensorType) -> TensorType:
        x, w, x_zero, w_zero = types
        if x.dtype not in ("i8", "u8") or w.dtype not in ("i8", "u8"):
            raise ShapeError(
                f"takes data and weight of int8 or uint8, not {dtype_names(x.dtype)} and {dtype_names(w.dtype)}"
            )
        if (x_zero.dtype, w_zero.dtype) != (x.dtype, w.dtype):
            raise ShapeError("a zero point must have the dtype of what it belongs to")
        single = ((), (1,))
        if x_zero.shape not in single or (w_zero.shape not in single and not same_shape(w_zero.shape, w.shape[:1])):
            raise ShapeError(f"the data has one zero point, the weight one or {w.shape[0]}")
        return self.plain().infer(x.with_dtype("f32"), w.with_dtype("f32")).with_dtype("i32")

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, x_zero, w_zero = xs

        def from_zero(data: Operand, zero: Operand) -> Operand:
            def element(*i: Any) -> Any:
                at = [i[0] if not zero.type.is_single else 0] * zero.type.rank
                return data(*i).astype("int32") - zero(*at).astype("int32")

            wide = data.type.with_dtype("i32")
            return k.operand(k.compute(wide, element), wide)

        return self.plain().compute(k, [from_zero(x, x_zero), from_zero(w, w_zero)], outs)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return self.plain().flops(inputs[:2], outputs)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        high = {"low": -128, "high": 255}
        three, none = np.array(3, np.uint8), np.array(0, np.int8)
        yield sample(cls(), u8[1, 3, 7, 6], u8[4, 3, 3, 2], three, np.array(200, np.uint8), **high)
        yield sample(cls((2, 1), ((1, 0), (2, 1)), (1, 2)), u8[2, 4, 9, 9], u8[6, 4, 3, 3], three, three, **high)
        signed = {"low": -128, "high": 127, "oracle": "reference", "note": "ONNX Runtime takes only uint8 data"}
        yield sample(cls(group=2, pads=((1, 1),)), i8[1, 4, 9], i8[6, 2, 3], np.array(-7, np.int8), none, **signed)
        vector = np.array([1, 0, -128, 127], np.int8)
        yield sample(cls(pads=((1, 1), (1, 1))), i8[1, 2, 5, 5], i8[4, 2, 3, 3], none, vector, **signed)


@imports("ConvInteger")
def _import_conv_integer(n: ImportNode) -> Any:
    return _emit(n, n.input(0), n.input(1), n.optional(2), n.optional(3))


@exports(ConvInteger)
def _export_conv_integer(op: ConvInteger, n: ExportNode) -> None:
    strides, pads, dilations = op.plain().geometry(n.input_types[0].rank - 2)
    zeros = [n.scalar_where_equal(i) for i in (2, 3)]  # ONNX Runtime takes no other zero points
    n.node(
        "ConvInteger", [*n.inputs[:2], *zeros], n.outputs,
        strides=strides, pads=flat_pads(pads), dilations=dilations, group=op.group,
    )  # fmt: skip


@imports("QLinearConv")
def _import_q_linear_conv(n: ImportNode) -> Any:
    """Import a convolution of quantized data whose result is quantized; ONNX QLinearConv-10.

    The bias is int32 at scale ``x_scale * w_scale``.
    """
    (x, x_scale, x_zero), (w, w_scale, w_zero), bias = operand(n, 0), operand(n, 3), n.optional(8)
    total = _emit(n, x, w, x_zero, w_zero)
    if bias is not None:
        total = n.emit(Add(), total, along(n, bias, 1, x.type.rank))
    scales = along(n, x_scale, 1, x.type.rank), along(n, w_scale, 1, x.type.rank)
    return requantized(n, total, scales, n.input(6), n.input(7))


def _emit(n: ImportNode, x: Value, w: Value, x_zero: Value | None, w_zero: Value | None) -> Any:
    """Emit the op with the geometry of a node. A zero point that is left out is 0."""
    strides, pads, dilations, group = conv_geometry(n, x, w)
    zeros = [z or n.scalar(0, v) for z, v in ((x_zero, x), (w_zero, w))]
    return n.emit(ConvInteger(strides, pads, dilations, group), x, w, *zeros)
