"""A variant of the fuzzer: in the exported file, operators of ONNX Runtime stand for ONNX's that do the same."""

from __future__ import annotations

import random
import zlib

import onnx
from onnx import helper

import convc
from convc.ir.graph import Graph
from convc.ir.text import print_graph
from convc.runtime.model import CompiledModel

DOMAIN = "com.microsoft"
ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid")
"""The activations that FusedConv computes; FusedGemm computes the first four."""
PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}
DEFAULTS = {"LeakyRelu": (0.01,), "HardSigmoid": (0.2, 0.5)}
QUANTIZED = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def with_contrib_operators(graph: Graph) -> CompiledModel:
    """The exported graph, with some of its nodes replaced by operators of ONNX Runtime, compiled."""
    model = convc.to_onnx(graph)
    rng = random.Random(zlib.crc32(print_graph(graph).encode()))
    replace(model, model.graph, rng)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return convc.compile(model, threads=1, tuning=None)


def replace(model: onnx.ModelProto, graph: onnx.GraphProto, rng: random.Random) -> None:
    """Replace each node that can be, most of the time."""
    for n in graph.node:
        for a in n.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                replace(model, a.g, rng)
    for rule in (fused_activation, quick_gelu, bias_gelu, renamed):
        for n in list(graph.node):
            if n in graph.node and rng.random() < 0.8:
                rule(model, graph, n)


def readers(graph: onnx.GraphProto, value: str) -> list[onnx.NodeProto]:
    """The nodes that read a value, or have a graph that may, and twice a node that reads it twice."""
    found = [n for n in graph.node for name in n.input if name == value]
    found += [n for n in graph.node if any(a.type == onnx.AttributeProto.GRAPH for a in n.attribute)]
    return found


def only_reader(graph: onnx.GraphProto, node: onnx.NodeProto, kinds: tuple[str, ...]) -> onnx.NodeProto | None:
    """The one node that reads a node's only output, when it is of these operators and nothing else reads it."""
    found = readers(graph, node.output[0])
    if len(found) != 1 or node.output[0] in {o.name for o in graph.output} or len(node.output) > 1:
        return None
    return found[0] if found[0].op_type in kinds and not found[0].domain else None


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((a.f for a in node.attribute if a.name == name), default)


def merged(graph: onnx.GraphProto, node: onnx.NodeProto, last: onnx.NodeProto, op_type: str) -> None:
    """Let one node stand for two, of which the second reads the first."""
    node.op_type, node.domain = op_type, DOMAIN
    node.output[0] = last.output[0]
    graph.node.remove(last)


def fused_activation(model: onnx.ModelProto, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Conv and an activation: FusedConv; Gemm and an activation: FusedGemm."""
    if node.domain or node.op_type not in ("Conv", "Gemm"):
        return
    conv = node.op_type == "Conv"
    last = only_reader(graph, node, ACTIVATIONS if conv else ACTIVATIONS[:4])
    if last is None:
        return
    kind = last.op_type
    values = [attribute(last, p, d) for p, d in zip(PARAMETERS.get(kind, ()), DEFAULTS.get(kind, ()), strict=True)]
    merged(graph, node, last, f"Fused{node.op_type}")
    node.attribute.append(helper.make_attribute("activation", kind))
    if conv and values:
        node.attribute.append(helper.make_attribute("activation_params", values))
    elif values:
        node.attribute.append(helper.make_attribute("activation_alpha", values[0]))


def quick_gelu(model: onnx.ModelProto, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """``x * Sigmoid(x)``: QuickGelu with an alpha of 1."""
    if node.domain or node.op_type != "Sigmoid":
        return
    last = only_reader(graph, node, ("Mul",))
    if last is not None and sorted(last.input) == sorted([node.input[0], node.output[0]]):
        merged(graph, node, last, "QuickGelu")
        node.attribute.append(helper.make_attribute("alpha", 1.0))


def bias_gelu(model: onnx.ModelProto, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Add of a constant vector along the last axis, and Gelu: BiasGelu."""
    if node.domain or node.op_type != "Add":
        return
    vectors = {t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 1}
    last = only_reader(graph, node, ("Gelu",))
    known = {v.name: v.type.tensor_type.shape.dim for v in (*graph.value_info, *graph.input)}
    x, bias = node.input
    if last is None or bias not in vectors or any(a.s == b"tanh" for a in last.attribute) or not known.get(x):
        return
    if known[x][-1].dim_value == vectors[bias]:
        merged(graph, node, last, "BiasGelu")


def renamed(model: onnx.ModelProto, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """A node whose operator ONNX Runtime has in a domain of its own too."""
    if node.domain or node.op_type not in ("Gelu", "MatMul", "QuantizeLinear", "DequantizeLinear"):
        return
    kept: list[onnx.AttributeProto] = []
    if node.op_type.endswith("Linear"):
        points = {t.name: t.data_type for t in graph.initializer}
        if len(node.input) < 3 or points.get(node.input[2]) not in QUANTIZED:
            return
        kept = [a for a in node.attribute if a.name == "axis"]
    tanh = any(a.s == b"tanh" for a in node.attribute)
    node.op_type = {"MatMul": "FusedMatMul", "Gelu": "FastGelu" if tanh else "Gelu"}.get(node.op_type, node.op_type)
    node.domain = DOMAIN
    del node.attribute[:]
    node.attribute.extend(kept)
