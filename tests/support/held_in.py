"""Models in another float dtype, made from models in float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DTYPES = {
    "f16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    "f32": (TensorProto.FLOAT, np.dtype(np.float32)),
    "f64": (TensorProto.DOUBLE, np.dtype(np.float64)),
}
"""ONNX's codes of the float dtypes and numpy's dtypes, by convc's names."""
ALWAYS_FLOAT32 = {"Resize": (1, 2), "Upsample": (1,)}
"""The operands that an operator takes in float32 whatever the dtype of its data, by their places."""


def held_in(dtype: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all of its floats in ``dtype``, inputs and outputs included."""
    code, _ = DTYPES[dtype]
    floats = {c for c, _ in DTYPES.values()}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    kept = {n.input[i] for n in graph.node for i in ALWAYS_FLOAT32.get(n.op_type, ()) if i < len(n.input)}
    for tensor in graph.initializer:
        if tensor.data_type in floats and tensor.name not in kept:
            tensor.CopyFrom(_converted(tensor, dtype))
    for node in graph.node:
        for a in node.attribute:
            if a.name == "to" and a.i in floats:
                a.i = code
            elif a.HasField("t") and a.t.data_type in floats and node.output[0] not in kept:
                a.t.CopyFrom(_converted(a.t, dtype))
    del graph.value_info[:]
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type in floats:
            info.type.tensor_type.elem_type = code
    return made


def _converted(tensor: onnx.TensorProto, dtype: str) -> onnx.TensorProto:
    code, numpy_dtype = DTYPES[dtype]
    array = numpy_helper.to_array(tensor).astype(numpy_dtype)
    return helper.make_tensor(tensor.name, code, array.shape, array.tobytes(), raw=True)
