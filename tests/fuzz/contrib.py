"""A variant of the fuzzer: nodes of the exported file become ONNX Runtime's own operators (``contrib_forms.py``)."""

from __future__ import annotations

import random
import zlib

import onnx
from onnx import helper

import convc
from convc.ir.graph import Graph
from convc.ir.text import print_graph
from convc.runtime.model import CompiledModel

from .contrib_forms import REWRITES
from .contrib_site import MICROSOFT, Site


def with_contrib_operators(graph: Graph) -> CompiledModel:
    """The exported graph with nodes in ONNX Runtime's own forms, compiled."""
    return convc.compile(rewritten(graph), threads=1, tuning=None)


def rewritten(graph: Graph) -> onnx.ModelProto:
    """The exported graph with most nodes for which there is a form of ONNX Runtime's own in that form."""
    model = onnx.shape_inference.infer_shapes(convc.to_onnx(graph))
    rng = random.Random(zlib.crc32(print_graph(graph).encode()))
    model.graph.initializer.extend(_rewrite(model.graph, rng, {}))
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return model


def _rewrite(graph: onnx.GraphProto, rng: random.Random, outer: dict[str, onnx.TensorProto]) -> list[onnx.TensorProto]:
    """Rewrite nodes of a graph, and of the graphs inside it. Returns the constants that they need."""
    constants = {**outer, **{t.name: t for t in graph.initializer}}
    site = Site(graph, rng, constants)
    nodes: list[onnx.NodeProto] = []
    for n in graph.node:
        for a in n.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                site.weights += _rewrite(a.g, rng, constants)
        nodes += _instead(site, n) if rng.random() < 0.8 else [n]
    del graph.node[:]
    graph.node.extend(nodes)
    return site.weights


def _instead(site: Site, n: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that replace a node: the node itself where no rewrite takes it."""
    rewrites = list(REWRITES.get(n.op_type, ()))
    site.rng.shuffle(rewrites)
    for rewrite in rewrites:
        site.made = []
        if rewrite(site, n):
            return site.made
    return [n]
