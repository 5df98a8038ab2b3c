"""ONNX models of one convolution, by its parameters, and inputs of deviation 1 for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from . import models

# channels in, out, kernel, stride, size, pad, dilation, groups (a pair: height and width)
Config = tuple[Any, ...]


def convolution(config: Config, epilogue: str, bias: bool) -> onnx.ModelProto:
    i, o, kernel, s, size, pad, dilation, group = config
    kernel, pads = (v if isinstance(v, tuple) else (v, v) for v in (kernel, pad))
    rng = np.random.default_rng(i + o)
    w = (rng.standard_normal((o, i // group, *kernel)) / np.sqrt(i // group * np.prod(kernel))).astype(np.float32)
    weights = {"w": w} | ({"b": rng.standard_normal(o).astype(np.float32)} if bias else {})
    inputs = {"x": [2, i, size, size]}
    attrs = {"strides": [s, s], "pads": [*pads, *pads], "dilations": [dilation] * 2, "group": group}
    nodes = [helper.make_node("Conv", ["x", "w", *["b"] * bias], ["c" if epilogue else "y"], name="conv", **attrs)]
    if epilogue == "residual":
        out = [(size + 2 * p - dilation * (k - 1) - 1) // s + 1 for k, p in zip(kernel, pads, strict=True)]
        inputs["r"] = [2, o, *out]
        nodes += [helper.make_node("Add", ["c", "r"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    elif epilogue:
        nodes.append(helper.make_node(epilogue, ["c"], ["y"]))
    return models.model(nodes, inputs, {"y": ["n", "c", "h", "w"]}, weights, opset=17)


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
