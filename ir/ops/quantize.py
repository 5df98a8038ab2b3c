"""Linear quantization: floats to small integers and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from ..dtypes import FLOATS, SMALL, SMALL_FLOATS, SMALL_INTEGERS, dtype_names
from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, dtype_from_onnx, exports, imports, onnx_dtype
from ..op import Case, Op, f16, f32, i8, i32, sample, u8
from ..sizes import Sizes, same_shape
from ..types import TensorType
from ._small import decoded, encoded

QUANTIZED = ("i8", "u8", "i16", "u16", *SMALL_INTEGERS, *(d for d in SMALL_FLOATS if d != "f8e8m0"))

SMALL_ALONE = {"oracle": "reference", "note": "ONNX Runtime's numpy interface has no small dtypes"}


@dataclass(frozen=True)
class _Linear(Op):
    """The base class of both ops, with operands data, scale, and a zero point of the shape of the scale, which may be
    left out as 0.

    The scale is a single number, a vector along ``axis``, or, with ``block_size``, a tensor with one element for each
    block of ``block_size`` elements along ``axis``.
    """

    elementwise = True
    injective = True
    axis: int = 1
    block_size: int = 0

    def check(self, x: TensorType, scale: TensorType, zero: Sequence[TensorType], zero_dtype: str) -> None:
        """Raises ``ShapeError`` unless scale and zero point fit the data."""
        single: list[Sizes] = [(), (1,)]
        shapes = single if scale.shape in single else [scale.shape]
        if len(zero) > 1 or any(
            z.dtype != zero_dtype or (z.shape not in shapes and not same_shape(z.shape, shapes[-1])) for z in zero
        ):
            raise ShapeError(f"the zero point must be {zero_dtype} and shaped like the scale, {list(scale.shape)}")
        if scale.dtype not in FLOATS:
            raise ShapeError(f"the scale is {dtype_names(scale.dtype)}, not a float")
        if scale.shape in single:
            return
        if not -x.rank <= self.axis < x.rank:
            raise ShapeError(f"axis {self.axis} is out of range for rank {x.rank}")
        axis = self.axis % x.rank
        if not self.block_size:
            wanted: Sizes = (x.shape[axis],)
        else:
            blocks = -(-x.shape[axis] // self.block_size)
            wanted = (*x.shape[:axis], blocks, *x.shape[axis + 1 :])
        if not same_shape(scale.shape, wanted):
            raise ShapeError(f"the scale has shape {list(scale.shape)}, not {list(wanted)}")

    def parameter(self, p: Operand, index: Sequence[Any]) -> Any:
        """The element of the scale or the zero point that belongs to the data at ``index``."""
        if p.type.is_single:
            return p(*[0] * p.type.rank)
        axis = self.axis % len(index)
        if not self.block_size:
            return p(index[axis])
        return p(*index[:axis], index[axis] // self.block_size, *index[axis + 1 :])

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return inputs[0].rank == layout.rank and inputs[1].rank < 2


@dataclass(frozen=True)
class Quantize(_Linear):
    """``saturate(round(x / scale) + zero)``, rounding half to even; ONNX QuantizeLinear-23 to integers of up to 16
    bits.

    For a small float the result is ``saturate(x / scale + zero)``, rounded to the nearest, and the zero point must be
    0. Without ``saturate`` numbers beyond the range become infinity or NaN.
    """

    name = "quantize"
    rounds = False
    dtype: str = "u8"
    saturate: bool = True

    def infer(self, *types: TensorType) -> TensorType:
        x, scale, *zero = types
        if self.dtype not in QUANTIZED:
            raise ShapeError(f"does not make {dtype_names(self.dtype)}; it makes {dtype_names(*QUANTIZED)}")
        if x.dtype not in (*FLOATS, "i32"):
            raise ShapeError(f"does not take {dtype_names(x.dtype)}")
        self.check(x, scale, zero, self.dtype)
        return x.with_dtype(self.dtype)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *zero = (decoded(k, v) for v in xs)
        to_float = self.dtype in SMALL_FLOATS
        precise = "float64" if "float64" in (x.dtype, scale.dtype) else "float32"

        def element(*i: Any) -> Any:
            y = x(*i).astype(precise) / self.parameter(scale, i).astype(precise)
            y = y if to_float else k.tirx.nearbyint(y)
            for z in zero:
                y = y + self.parameter(z, i).astype(precise)
            if to_float:
                return encoded(k, y, self.dtype, self.saturate)
            low, high = (k.const(float(v), precise) for v in outs[0].bounds)
            y = k.tirx.min(k.tirx.max(y, low), high)
            return encoded(k, y, self.dtype) if self.dtype in SMALL else y.astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, self.name, mask=True)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 4], np.array(0.013, np.float32), np.array(131, np.uint8))
        yield sample(
            cls(dtype="i8"), f32[2, 3, 4], np.array([0.5, 0.25, 1], np.float32), np.array([0, 3, -128], np.int8)
        )
        yield sample(cls(axis=-1, dtype="i16"), f32[2, 2], np.array([1e-5, 0.1], np.float32))
        yield sample(cls(), f16[7], np.array(0.5, np.float16), low=-90, high=200)
        yield sample(cls(axis=1, block_size=2), f32[2, 3], np.array([[0.1, 0.2], [0.3, 0.4]], np.float32))
        scale = np.array(0.25, np.float32)
        for dtype in (*SMALL_INTEGERS, *SMALL_FLOATS):
            if dtype in QUANTIZED:
                zero = np.zeros((), TensorType(dtype, ()).numpy_dtype)
                yield sample(cls(dtype=dtype), f32[40], scale, zero, low=-200, high=200, **SMALL_ALONE)
        yield sample(cls(dtype="i4"), f32[40], scale, np.array(3, ml_dtypes.int4), **SMALL_ALONE)
        yield sample(cls(dtype="f8e5m2", saturate=False), f32[40], scale, low=-3e4, high=3e4, **SMALL_ALONE)


@imports("QuantizeLinear", folds=True)
def _import_quantize(n: ImportNode) -> Any:
    operands = n.present_inputs()
    code = n.attr("output_dtype", 0)
    dtype = dtype_from_onnx(code) if code else operands[2].type.dtype if len(operands) > 2 else "u8"
    if n.attr("precision", 0):
        raise n.unsupported("attribute precision is not supported")
    saturate = dtype not in SMALL_FLOATS or bool(n.attr("saturate", 1))
    return n.emit(Quantize(n.attr("axis", 1), n.attr("block_size", 0), dtype, saturate), *operands)


@exports(Quantize)
def _export_quantize(op: Quantize, n: ExportNode) -> None:
    n.node(
        "QuantizeLinear", n.inputs, n.outputs, axis=op.axis, block_size=op.block_size or None,
        output_dtype=onnx_dtype(op.dtype) if len(n.inputs) < 3 else None, saturate=None if op.saturate else 0,
    )  # fmt: skip


class Dequantize(_Linear):
    """``(x - zero) * scale`` in the dtype of the scale; ONNX DequantizeLinear-23 from small dtypes and integers of up
    to 32 bits.
    """

    name = "dequantize"
    rounds = False

    def infer(self, *types: TensorType) -> TensorType:
        x, scale, *zero = types
        if x.dtype not in (*QUANTIZED, "i32"):
            raise ShapeError(f"does not take {dtype_names(x.dtype)}; it takes {dtype_names(*QUANTIZED, 'i32')}")
        self.check(x, scale, zero, x.dtype)
        return x.with_dtype(scale.dtype)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *zero = (decoded(k, v) for v in xs)
        precise = "float64" if scale.dtype == "float64" else "float32"
        exact = precise if x.type.dtype in SMALL_FLOATS else "int32"

        def element(*i: Any) -> Any:
            y = x(*i).astype(exact)
            for z in zero:
                y = y - self.parameter(z, i).astype(exact)
            return (y.astype(precise) * self.parameter(scale, i).astype(precise)).astype(scale.dtype)

        return k.compute(outs[0], element, self.name, mask=True)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        high = {"low": -128, "high": 255}
        yield sample(cls(), u8[2, 3, 4], np.array(0.013, np.float32), np.array(131, np.uint8), **high)
        yield sample(cls(), i8[2, 3, 4], f32[3], i8[3], low=-128, high=127)
        yield sample(cls(axis=-2), i8[2, 3], f16[2], low=-128, high=127)
        yield sample(cls(), i32[5], np.array(0.5, np.float32), low=-(1 << 20), high=1 << 20)
        yield sample(cls(axis=1, block_size=2), u8[2, 3], f32[2, 2], **high)
        for dtype in (*SMALL_INTEGERS, *SMALL_FLOATS):
            if dtype in QUANTIZED:
                zero = np.zeros((), TensorType(dtype, ()).numpy_dtype)
                yield sample(cls(), TensorType(dtype, (40,)), np.array(0.25, np.float32), zero, **SMALL_ALONE)
        yield sample(cls(axis=0), TensorType("u4", (2, 9)), f32[2], np.array([3, 15], ml_dtypes.uint4), **SMALL_ALONE)


@imports("DequantizeLinear")
def _import_dequantize(n: ImportNode) -> Any:
    operands = n.present_inputs()
    code = n.attr("output_dtype", 0)
    if code and dtype_from_onnx(code) != n.input(1).type.dtype:
        raise n.unsupported("attribute output_dtype must be the dtype of the scale")
    return n.emit(Dequantize(n.attr("axis", 1), n.attr("block_size", 0)), *operands)


@exports(Dequantize)
def _export_dequantize(op: Dequantize, n: ExportNode) -> None:
    n.node("DequantizeLinear", n.inputs, n.outputs, axis=op.axis, block_size=op.block_size)
