"""Import of the quantization whose scale and zero point follow from the data."""

from __future__ import annotations

from typing import Any

from ..onnx_io import ImportNode, imports
from .binary import Div, Max, Min, Sub
from .cast import Cast
from .clip import Clip
from .compare import Equal
from .quantize import Quantize
from .reduce import ReduceMax, ReduceMin
from .unary import Round
from .where import Where


@imports("DynamicQuantizeLinear")
def _import_dynamic_quantize(n: ImportNode) -> Any:
    """Import the tensor in uint8, its scale and its zero point, from its smallest and largest element and 0; ONNX
    DynamicQuantizeLinear-11.

    The scale is 1 where all elements are 0, as in ONNX Runtime. By the formula it would be 0, and the zero point NaN.
    """
    x = n.input(0)
    if x.type.dtype != "f32":
        raise n.error(f"its data is {x.type}, not float32")
    nought, steps = n.scalar(0, x), n.scalar(255, x)
    low = n.emit(Min(), n.emit(ReduceMin(keepdims=False), x), nought)
    high = n.emit(Max(), n.emit(ReduceMax(keepdims=False), x), nought)
    span = n.emit(Div(), n.emit(Sub(), high, low), steps)
    scale = n.emit(Where(), n.emit(Equal(), span, nought), n.scalar(1, x), span)
    offset = n.emit(Clip(0.0, 255.0), n.emit(Div(), n.emit(Sub(), nought, low), scale))
    zero = n.emit(Cast("u8"), n.emit(Round(), offset))
    return n.emit(Quantize(dtype="u8"), x, scale, zero), scale, zero
