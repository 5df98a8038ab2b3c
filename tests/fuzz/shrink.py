"""Makes a failing graph small, as long as it fails in the same way.

The graph gets fewer outputs and nodes, default attributes and small sizes, by one change at a time. This is delta
debugging (A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np

from convc.ir.builder import Builder
from convc.ir.errors import ConvcError
from convc.ir.graph import Constant, Graph, Node, Value
from convc.ir.op import Op
from convc.ir.rewrite import drop_dead
from convc.ir.types import TensorType

Fails = Callable[[Graph], bool]
Retype = Callable[[TensorType], TensorType]


def shrink(graph: Graph, fails: Fails, seconds: float = 120) -> Graph:
    """The smallest failing graph that is found."""
    end = time.monotonic() + seconds
    progress = True
    while progress:
        progress = False
        for smaller in candidates(graph):
            if time.monotonic() > end:
                return graph
            if weight(smaller) < weight(graph) and fails(smaller):
                graph, progress = smaller, True
                break
    return graph


def weight(graph: Graph) -> tuple[int, int, int, int]:
    """The measures to reduce: nodes, outputs, attributes that are set, and sizes."""
    attributes = sum(getattr(n.op, f.name) != f.default for n in graph.nodes for f in fields(n.op))
    return len(graph.nodes), len(graph.outputs), attributes, sum(sum(v.type.sizes) for v in graph.values())


def candidates(graph: Graph) -> Iterator[Graph]:
    """The graphs that are one step smaller, the largest steps first."""
    if len(graph.outputs) > 1:
        yield from (tidy(replace(graph, outputs=(v,), output_names=(v.name,))) for v in graph.outputs)
    for node in graph.nodes:
        yield from without(graph, node)
    for node in graph.nodes:
        for f in fields(node.op):
            if f.default is not MISSING and getattr(node.op, f.name) != f.default:
                yield from rebuilt(graph, op=lambda n, node=node, f=f: plain(n, f) if n is node else n.op)  # type: ignore[misc]
    sizes = sorted({d for v in graph.values() for d in v.type.sizes if d > 1}, reverse=True)
    for size in sizes:
        for smaller in sorted({1, 2, size // 2, size - 1} - {size}):
            yield from rebuilt(graph, lambda t, s=size, z=smaller: resized(t, s, z))  # type: ignore[misc]
            yield from rebuilt(
                graph,
                lambda t, s=size, z=smaller: resized(t, s, z),  # type: ignore[misc]
                lambda n, s=size, z=smaller: renumbered(n.op, s, z),  # type: ignore[misc]
            )
    for dtype in ("f16", "f64"):
        yield from rebuilt(graph, lambda t, dtype=dtype: t.with_dtype("f32") if t.dtype == dtype else t)  # type: ignore[misc]


def without(graph: Graph, node: Node) -> Iterator[Graph]:
    """The graph without a node, in several ways.

    Operands replace its result, its result becomes a graph input, or the graph returns its operands.
    """
    for v in node.inputs:
        if v.type == node.output.type:
            yield from substituted(graph, node, v)
    fresh = Value(node.output.name, node.output.type)
    rest = tuple(n for n in graph.nodes if n is not node)
    if len(node.outputs) == 1 and node is not graph.producers.get(graph.outputs[0].name):
        yield tidy(replace(graph, inputs=(*graph.inputs, fresh), nodes=rest))
    made = tuple(v for v in node.inputs if v.name in graph.producers)
    if made and any(v.name in graph.output_set for v in node.outputs):
        yield tidy(replace(graph, outputs=made, output_names=tuple(v.name for v in made)))


def substituted(graph: Graph, node: Node, value: Value) -> Iterator[Graph]:
    """The graph with a node's result replaced by another value."""
    gone = node.output.name

    def use(v: Value) -> Value:
        return value if v.name == gone else v

    nodes = tuple(replace(n, inputs=tuple(map(use, n.inputs))) for n in graph.nodes if n is not node)
    outputs = tuple(map(use, graph.outputs))
    if all(v.name in graph.producers for v in outputs):
        yield tidy(replace(graph, nodes=nodes, outputs=outputs))


def tidy(graph: Graph) -> Graph:
    """The graph without the nodes and inputs on which no output depends."""
    graph = drop_dead(graph)
    read = {v.name for n in graph.nodes for v in n.inputs} | graph.output_set
    return replace(graph, inputs=tuple(v for v in graph.inputs if v.name in read))


def rebuilt(graph: Graph, retype: Retype = lambda t: t, op: Callable[[Node], Op] = lambda n: n.op) -> Iterator[Graph]:
    """The graph with inputs and constants of other types or with other ops; nothing where they do not fit together."""
    b = Builder(graph.name)
    b.reserve([v.name for v in graph.values()])
    env = {v.name: Value(v.name, retype(v.type)) for v in graph.inputs}
    b.inputs = list(env.values())
    for name, c in graph.constants.items():
        b.constants[name] = converted(c, retype(c.type))
        env[name] = Value(name, b.constants[name].type)
    try:
        for n in graph.nodes:
            made = b.reinfer(replace(n, op=op(n)), tuple(env[v.name] for v in n.inputs))
            env.update((v.name, v) for v in made)
        if has_empties(graph) or all(v.type.numel for v in env.values()):
            yield tidy(b.finish([env[v.name] for v in graph.outputs], graph.output_names))
    except (ConvcError, ArithmeticError, ValueError):
        return


def has_empties(graph: Graph) -> bool:
    """Whether a value of the graph has no elements. A graph without such values does not shrink to one with them."""
    return any(not v.type.numel for v in graph.values())


def converted(c: Constant, type: TensorType) -> Constant:
    """A constant converted to another type. Values that a rule generates are generated anew."""
    if c.initializer is not None:
        return Constant(type, c.initializer)
    return Constant(type, np.resize(c.array, type.sizes).astype(type.numpy_dtype))


def plain(node: Node, f: Any) -> Op:
    """The op of a node with one attribute set to its default."""
    return replace(node.op, **{f.name: f.default})


def resized(t: TensorType, size: int, smaller: int) -> TensorType:
    return t.with_shape([smaller if d == size else d for d in t.sizes])


def renumbered(op: Op, size: int, smaller: int) -> Op:
    """The op with a size replaced wherever an attribute contains it."""

    def change(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(change, value))
        return smaller if type(value) is int and value == size else value

    return replace(op, **{f.name: change(getattr(op, f.name)) for f in fields(op)})


def kind(message: str) -> str:
    """The kind of an error: its text without names and numbers. Two errors of one kind most likely have one cause."""
    return re.sub(r"'[^']*'|%\S+|[-+\d.][-+\d.e]*|\binf\b|\s+", " ", message)[:100]
