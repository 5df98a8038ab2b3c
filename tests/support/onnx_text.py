"""Models in ONNX's text form, compiled and compared with an oracle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import parser

import convc
from convc.ir.onnx_io import dtype_from_onnx
from convc.ir.types import TensorType

from .oracles import run_onnxruntime, run_reference, values
from .tolerances import assert_close


def model(opset: int, inputs: str, body: str, outputs: str = "float y") -> onnx.ModelProto:
    """A model in ONNX's text form."""
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}')
    for i in made.graph.input:
        i.type.tensor_type.shape.SetInParent()  # the text form cannot say that there are no axes
    return made


def feeds_of(made: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """Random inputs."""
    rng = np.random.default_rng(0)
    feeds = {}
    for i in made.graph.input:
        t = i.type.tensor_type
        shape = (shapes or {}).get(i.name) or tuple(d.dim_value for d in t.shape.dim)
        feeds[i.name] = values(TensorType(dtype_from_onnx(t.elem_type), shape), rng, 0.1, 3)
    return feeds


def check(made: onnx.ModelProto, oracle: str = "onnxruntime") -> None:
    feeds = feeds_of(made)
    for o in made.graph.output:
        o.type.tensor_type.ClearField("shape")
    got = convc.compile(made, threads=1)(*feeds.values())
    want = (run_onnxruntime if oracle == "onnxruntime" else run_reference)(made, feeds)
    for g, w in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        assert_close(np.asarray(g), np.asarray(w), onnx.printer.to_text(made.graph))
