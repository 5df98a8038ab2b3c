"""A variant of the fuzzer: nodes of the exported file are in local functions, which differ by ``overload``."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence

import onnx
from onnx import helper

import convc
from convc.ir.graph import Graph
from convc.ir.text import print_graph
from convc.runtime.model import CompiledModel

DOMAIN = "fuzz.local"
NAME = "f"
"""All functions have one name, and are told apart by their overload (ONNX IR version 10)."""
IR_VERSION = 10
SCALARS = (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.INTS)


def in_functions(graph: Graph) -> CompiledModel:
    """The exported graph, with runs of its nodes in functions, compiled."""
    model = convc.to_onnx(graph)
    rng = random.Random(zlib.crc32(print_graph(graph).encode()))
    for _ in range(rng.choice((1, 1, 2))):  # the second time around, a function may call one of the first
        wrap(model, model.graph, rng)
    model.ir_version = max(model.ir_version, IR_VERSION)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return convc.compile(model, threads=1, tuning=None)


def wrap(model: onnx.ModelProto, graph: onnx.GraphProto, rng: random.Random) -> None:
    """Replace runs of one to three nodes of a graph, and of the graphs inside it, by calls of new functions."""
    nodes, made = list(graph.node), []
    kept = {o.name for o in graph.output}
    while nodes:
        count = rng.choice((0, 1, 1, 2, 3))
        run, nodes = nodes[: max(count, 1)], nodes[max(count, 1) :]
        for body in (a.g for n in run for a in n.attribute if a.type == onnx.AttributeProto.GRAPH):
            wrap(model, body, rng)
        if count:
            read = kept | {name for n in nodes for name in reads(n)}
            made.append(call(model, run, read, rng))
        else:
            made += run
    del graph.node[:]
    graph.node.extend(made)


def call(model: onnx.ModelProto, run: Sequence[onnx.NodeProto], read: set[str], rng: random.Random) -> onnx.NodeProto:
    """Move nodes to a new function of the model, and return the node that calls it."""
    results = [o for n in run for o in n.output if o]
    inputs = list(dict.fromkeys(name for n in run for name in reads(n) if name and name not in results))
    outputs = [o for o in results if o in read] or results[-1:]
    # inside, all has another name: that of some value of the model, of another kind than its own
    names = [*inputs, *results]
    turned = names[1:] + names[:1]
    renamed = dict(zip(names, turned if rng.random() < 0.5 else [f"{name}.inner" for name in names], strict=True))
    body, attributes = [], []
    for n in run:
        inner = onnx.NodeProto()
        inner.CopyFrom(n)
        rename(inner, renamed)
        attributes += passed(inner, len(attributes), rng)
        body.append(inner)
    overload = f"o{len(model.functions)}"
    opsets = [helper.make_opsetid(o.domain, o.version) for o in model.opset_import]
    function = helper.make_function(
        DOMAIN,
        NAME,
        [renamed[name] for name in inputs],
        [renamed[name] for name in outputs],
        body,
        [*opsets, helper.make_opsetid(DOMAIN, 1)],
        [a.name for a in attributes],
        overload=overload,
    )
    model.functions.append(function)
    made = helper.make_node(NAME, inputs, outputs, domain=DOMAIN, overload=overload)
    made.attribute.extend(attributes)
    return made


def passed(node: onnx.NodeProto, count: int, rng: random.Random) -> list[onnx.AttributeProto]:
    """Let an attribute of a node follow from one of the function, and return the function's, with its value."""
    own = [a for a in node.attribute if a.type in SCALARS]
    if not own or rng.random() < 0.5:
        return []
    chosen = rng.choice(own)
    given = onnx.AttributeProto()
    given.CopyFrom(chosen)
    given.name = f"given{count}"
    following = onnx.AttributeProto(name=chosen.name, type=chosen.type, ref_attr_name=given.name)
    chosen.CopyFrom(following)
    return [given]


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, also inside its graphs."""
    yield from node.input
    for a in node.attribute:
        if a.type == onnx.AttributeProto.GRAPH:
            own = {v.name for v in (*a.g.input, *a.g.initializer)} | {o for n in a.g.node for o in n.output}
            inner = [name for n in a.g.node for name in reads(n)]
            yield from (name for name in (*inner, *(o.name for o in a.g.output)) if name not in own)


def rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Rename values that a node reads and makes; what its graphs define themselves keeps its name."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for a in node.attribute:
        if a.type != onnx.AttributeProto.GRAPH:
            continue
        own = {v.name for v in (*a.g.input, *a.g.initializer)} | {o for n in a.g.node for o in n.output}
        # a graph may not define a name that it can see outside
        hidden = {name: f"{name}.own" for name in own}
        inside = {**names, **hidden}
        for v in (*a.g.input, *a.g.initializer, *a.g.output, *a.g.value_info):
            v.name = inside.get(v.name, v.name)
        for n in a.g.node:
            rename(n, inside)
