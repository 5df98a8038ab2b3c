"""LSTM with quantized weights."""

from __future__ import annotations

from typing import Any

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops.binary import Mul, Sub
from ..ops.cast import Cast
from ..ops.quantize import Dequantize
from ..ops.reshape import Reshape
from ..ops.transpose import Transpose
from ._operator import given, need, operator

ATTRIBUTES: dict[str, Any] = {
    "activation_alpha": "floats", "activation_beta": "floats", "activations": "strings", "clip": "float",
    "direction": "string", "hidden_size": "int", "input_forget": "int",
}  # fmt: skip


@operator(
    "DynamicQuantizeLSTM",
    "X W R B? sequence_lens? initial_h? initial_c? P? W_scale W_zero_point R_scale R_zero_point", "Y? Y_h? Y_c?",
    **ATTRIBUTES,
)  # fmt: skip
def _import_dynamic_lstm(n: ImportNode) -> Any:
    """Import an LSTM whose weights, ``D I 4*H`` and ``D H 4*H``, are quantized, and so is its input when it runs.

    ONNX Runtime also rounds the hidden state to 8 bits in every step; here it is kept as it is, which is more exact.
    """
    x, w, r = n.input(0), n.input(1), n.input(2)
    quantized, scale, zero = n.call("DynamicQuantizeLinear", x)
    x = n.emit(Dequantize(), quantized, scale, zero)
    weights = [_weight(n, v, n.input(i), n.input(i + 1)) for v, i in ((w, 8), (r, 10))]
    return n.call("LSTM", x, *weights, *(n.optional(i) for i in range(3, 8)), outputs=3, opset=22,
                  **given(n, *ATTRIBUTES))  # fmt: skip


def _weight(n: ImportNode, w: Value, scale: Value, zero: Value) -> Value:
    """The weight ``D 4*H I`` in floats, of a transposed one with a scale for each direction, or for each row too."""
    need(n, w.type.rank == 3, f"its weight {list(w.type.shape)} must have three axes: directions, inputs, gates")
    directions, _, rows = w.type.sizes
    shapes = {1: (1, 1, 1), directions: (directions, 1, 1), directions * rows: (directions, 1, rows)}
    for p in (scale, zero):
        need(n, p.type.numel in shapes,
             f"its scale or zero point {list(p.type.shape)} does not fit the weight {list(w.type.shape)}")  # fmt: skip
    wide, factor, offset = (n.emit(Cast("f32"), v) for v in (w, scale, zero))
    factor, offset = (n.emit(Reshape(shapes[p.type.numel]), p) for p in (factor, offset))
    made: Value = n.emit(Transpose((0, 2, 1)), n.emit(Mul(), n.emit(Sub(), wide, offset), factor))
    return made
