"""The same bits as another dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import COMPUTED, SMALL_FLOATS, dtype_names
from ..errors import ShapeError
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, ImportNode, dtype_from_onnx, exports, imports, onnx_dtype
from ..op import Case, boolean, f32, f64, i64, sample
from ..types import TensorType
from ._elementwise import Elementwise
from .unary import SPECIAL

WHOLE = (*COMPUTED, *(d for d in SMALL_FLOATS if d.startswith("f8")))
"""The dtypes whose elements fill their bytes."""


@dataclass(frozen=True)
class BitCast(Elementwise):
    """The bits of x as dtype ``to``, which must be as wide, and whole bytes; ONNX BitCast-26."""

    name = "bit_cast"
    dtypes = WHOLE
    cost = 0
    to: str = "f32"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if self.to not in WHOLE or TensorType(self.to, ()).numpy_dtype.itemsize != x.numpy_dtype.itemsize:
            raise ShapeError(f"{dtype_names(x.dtype)} and {dtype_names(self.to)} are not equally wide")
        return super().infer(x).with_dtype(self.to)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        (x,) = xs
        target = TensorType(self.to, ()).tvm_dtype
        if target == "bool":
            return k.tirx.NE(x.astype("uint8"), k.const(0, "uint8"))
        if k.dtype(x) == "bool":
            x = x.astype("uint8")
        return x if k.dtype(x) == target else k.tirx.reinterpret(target, x)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        new = {"oracle": "reference", "note": "ONNX Runtime has no BitCast"}
        yield sample(cls("i32"), SPECIAL, **new)
        yield sample(cls("f32"), np.array([0, 1, -1, 0x7F800000], np.int32), **new)
        yield sample(cls("u64"), f64[2, 3], **new)
        yield sample(cls("f64"), i64[9], **new)
        yield sample(cls("u32"), f32[40], **new)
        yield sample(cls("f16"), np.array([0x3C00, 0x7E00, 1], np.uint16), **new)
        yield sample(cls("i16"), TensorType("bf16", (9,)), **new)
        yield sample(cls("u8"), boolean[9], **new)
        yield sample(cls("bool"), np.array([0, 1, 1], np.int8), **new)
        yield sample(cls("u8"), TensorType("f8e5m2", (9,)), **new)
        yield sample(cls("f8e4m3fn"), np.array([0, 1, 127, -128], np.int8), **new)


@imports("BitCast")
def _import_bit_cast(n: ImportNode) -> Any:
    x, to = n.input(0), dtype_from_onnx(n.attr("to"))
    return x if to == x.type.dtype else n.emit(BitCast(to), x)


@exports(BitCast)
def _export_bit_cast(op: BitCast, n: ExportNode) -> None:
    n.node("BitCast", n.inputs, n.outputs, to=onnx_dtype(op.to))
