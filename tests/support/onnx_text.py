"""Models in ONNX's text form, which are compiled and compared with an oracle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import parser

from convc.ir.onnx_io import dtype_from_onnx
from convc.ir.types import TensorType

from . import compare
from .oracles import run_onnxruntime, run_reference, values


def model(opset: int, inputs: str, body: str, outputs: str = "float y") -> onnx.ModelProto:
    """Parse a model in ONNX's text form."""
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}')
    for i in made.graph.input:
        i.type.tensor_type.shape.SetInParent()  # the text form cannot declare that there are no axes
    return made


def feeds_of(made: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """Random inputs for a model."""
    rng = np.random.default_rng(0)
    feeds = {}
    for i in made.graph.input:
        t = i.type.tensor_type
        shape = (shapes or {}).get(i.name) or tuple(d.dim_value for d in t.shape.dim)
        feeds[i.name] = values(TensorType(dtype_from_onnx(t.elem_type), shape), rng, 0.1, 3)
    return feeds


def check(made: onnx.ModelProto, oracle: str = "onnxruntime") -> None:
    """Compile a model and compare it with an oracle on random inputs."""
    feeds = feeds_of(made)
    for o in made.graph.output:
        o.type.tensor_type.ClearField("shape")
    reference = run_onnxruntime if oracle == "onnxruntime" else run_reference
    compare.check(made, feeds, reference, onnx.printer.to_text(made.graph))
