"""Linear quantization: floats to small integers and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, dtype_from_onnx, onnx_dtype
from ..op import Case, Op, f16, f32, i8, i32, sample, u8
from ..types import FLOATS, TensorType

QUANTIZED = ("i8", "u8", "i16", "u16")


@dataclass(frozen=True)
class _Linear(Op):
    """Operands: data, scale, and a zero point shaped like the scale, zero when it is left out.

    The scale is one number, a vector along ``axis``, or, with ``block_size``, a tensor with one element for each block of
    that many elements along ``axis``.
    """

    elementwise = True
    injective = True
    axis: int = 1
    block_size: int = 0

    def check(self, x: TensorType, scale: TensorType, zero: Sequence[TensorType], zero_dtype: str) -> None:
        """Raises ``ShapeError`` unless scale and zero point fit the data."""
        if len(zero) > 1 or any(z.shape != scale.shape or z.dtype != zero_dtype for z in zero):
            raise ShapeError(f"the zero point must be {zero_dtype} and shaped like the scale, {list(scale.shape)}")
        if scale.dtype not in FLOATS:
            raise ShapeError(f"the scale is {scale.dtype}, not a float")
        if scale.shape in ((), (1,)):
            return
        if not -x.rank <= self.axis < x.rank:
            raise ShapeError(f"axis {self.axis} is out of range for rank {x.rank}")
        axis = self.axis % x.rank
        if not self.block_size:
            wanted: tuple[object, ...] = (x.shape[axis],)
        else:
            blocks = -(-x.sizes[axis] // self.block_size)
            wanted = (*x.shape[:axis], blocks, *x.shape[axis + 1 :])
        if scale.shape != wanted:
            raise ShapeError(f"the scale has shape {list(scale.shape)}, not {list(wanted)}")

    def parameter(self, p: Operand, index: Sequence[Any]) -> Any:
        """The element of scale or zero point that belongs to the data at ``index``."""
        if p.type.numel == 1:
            return p(*[0] * p.type.rank)
        axis = self.axis % len(index)
        if not self.block_size:
            return p(index[axis])
        return p(*index[:axis], index[axis] // self.block_size, *index[axis + 1 :])

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return inputs[0].rank == layout.rank and inputs[1].rank < 2


@dataclass(frozen=True)
class Quantize(_Linear):
    """``saturate(round(x / scale) + zero)``, rounding half to even; ONNX QuantizeLinear-23 to 8- and 16-bit integers."""

    name = "quantize"
    onnx = ("QuantizeLinear",)
    dtype: str = "u8"

    def infer(self, *types: TensorType) -> TensorType:
        x, scale, *zero = types
        if self.dtype not in QUANTIZED:
            raise ShapeError(f"does not make {self.dtype}; it makes {', '.join(QUANTIZED)}")
        if x.dtype not in (*FLOATS, "i32"):
            raise ShapeError(f"does not take {x.dtype}")
        self.check(x, scale, zero, self.dtype)
        return x.with_dtype(self.dtype)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *zero = xs
        bounds = np.iinfo(outs[0].numpy_dtype)
        precise = "float64" if "float64" in (x.dtype, scale.dtype) else "float32"

        def element(*i: Any) -> Any:
            y = k.tirx.nearbyint(x(*i).astype(precise) / self.parameter(scale, i).astype(precise))
            for z in zero:
                y = y + self.parameter(z, i).astype(precise)
            low, high = k.const(float(bounds.min), precise), k.const(float(bounds.max), precise)
            return k.tirx.min(k.tirx.max(y, low), high).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, self.name, mask=True)

    @classmethod
    def from_onnx(cls, n: ImportNode) -> Any:
        operands = n.present_inputs()
        code = n.attr("output_dtype", 0)
        dtype = dtype_from_onnx(code) if code else operands[2].type.dtype if len(operands) > 2 else "u8"
        if n.attr("precision", 0):
            raise n.unsupported("attribute precision is not supported")
        return n.emit(cls(n.attr("axis", 1), n.attr("block_size", 0), dtype), *operands)

    def to_onnx(self, n: ExportNode) -> None:
        n.node(
            "QuantizeLinear", n.inputs, n.outputs,
            axis=self.axis, block_size=self.block_size, output_dtype=onnx_dtype(self.dtype),
        )  # fmt: skip

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 4], np.array(0.013, np.float32), np.array(131, np.uint8))
        yield sample(
            cls(dtype="i8"), f32[2, 3, 4], np.array([0.5, 0.25, 1], np.float32), np.array([0, 3, -128], np.int8)
        )
        yield sample(cls(axis=-1, dtype="i16"), f32[2, 2], np.array([1e-5, 0.1], np.float32))
        yield sample(cls(), f16[7], np.array(0.5, np.float16), low=-90, high=200)
        yield sample(cls(axis=1, block_size=2), f32[2, 3], np.array([[0.1, 0.2], [0.3, 0.4]], np.float32))


@dataclass(frozen=True)
class Dequantize(_Linear):
    """``(x - zero) * scale`` in the dtype of the scale; ONNX DequantizeLinear-23 from 8-, 16- and 32-bit integers."""

    name = "dequantize"
    onnx = ("DequantizeLinear",)

    def infer(self, *types: TensorType) -> TensorType:
        x, scale, *zero = types
        if x.dtype not in (*QUANTIZED, "i32"):
            raise ShapeError(f"does not take {x.dtype}; it takes {', '.join((*QUANTIZED, 'i32'))}")
        self.check(x, scale, zero, x.dtype)
        return x.with_dtype(scale.dtype)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *zero = xs
        precise = "float64" if scale.dtype == "float64" else "float32"

        def element(*i: Any) -> Any:
            y = x(*i).astype("int32")
            for z in zero:
                y = y - self.parameter(z, i).astype("int32")
            return (y.astype(precise) * self.parameter(scale, i).astype(precise)).astype(scale.dtype)

        return k.compute(outs[0], element, self.name, mask=True)

    @classmethod
    def from_onnx(cls, n: ImportNode) -> Any:
        operands = n.present_inputs()
        code = n.attr("output_dtype", 0)
        if code and dtype_from_onnx(code) != n.input(1).type.dtype:
            raise n.unsupported("attribute output_dtype must be the dtype of the scale")
        return n.emit(cls(n.attr("axis", 1), n.attr("block_size", 0)), *operands)

    def to_onnx(self, n: ExportNode) -> None:
        n.node("DequantizeLinear", n.inputs, n.outputs, axis=self.axis, block_size=self.block_size)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        high = {"low": -128, "high": 255}
        yield sample(cls(), u8[2, 3, 4], np.array(0.013, np.float32), np.array(131, np.uint8), **high)
        yield sample(cls(), i8[2, 3, 4], f32[3], i8[3], low=-128, high=127)
        yield sample(cls(axis=-2), i8[2, 3], f16[2], low=-128, high=127)
        yield sample(cls(), i32[5], np.array(0.5, np.float32), low=-(1 << 20), high=1 << 20)
        yield sample(cls(axis=1, block_size=2), u8[2, 3], f32[2, 2], **high)
