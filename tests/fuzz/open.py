"""A graph compiled once for all sizes, called at its own sizes and at others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import convc
from convc.ir.errors import ConvcError, InputError
from convc.ir.graph import Graph, Value
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.rewrite import rebuild
from convc.ir.sizes import Dim, named
from convc.runtime.model import CompiledModel, Model

from .compare import Feeds, Unclear, differences, exonerates, feeds_for, truth

STEPS = (1, 3)
"""By how much sizes grow that the graph is called with besides its own."""


def of_any_size(graph: Graph) -> Model:
    """The graph with open sizes, compiled once, after it gave right results at other sizes.

    Where an op needs a size, or the code does, the graph is compiled for its own sizes. Raises ``AssertionError`` for
    results at other sizes that differ from ONNX Runtime's and from those of the graph compiled for these sizes.
    """
    try:
        whole = opened(graph)
        fix_shapes(whole, {v.name: v.type.sizes for v in graph.inputs})  # a size may be 1 here, and broadcast
    except ConvcError:
        return convc.compile(graph, threads=2, tuning=None, cache=False)
    model = convc.compile(whole, threads=2, tuning=None, cache=False)
    if isinstance(model, CompiledModel):
        for wrong in _wrong_elsewhere(graph, whole, model):
            raise AssertionError(wrong)
    return model


def opened(graph: Graph) -> Graph:
    """The graph with a name for each size of its inputs above 1, except channels; equal sizes have one name.

    Raises ``ConvcError`` where an op needs to know a size.
    """

    def open_size(size: int, axis: int) -> Dim:
        return size if axis == 1 or size < 2 else named(f"s{size}", typical=size)

    inputs = {
        v.name: Value(v.name, v.type.with_shape([open_size(d, axis) for axis, d in enumerate(v.type.sizes)]))
        for v in graph.inputs
    }
    nodes = tuple(replace(n, inputs=tuple(inputs.get(v.name, v) for v in n.inputs)) for n in graph.nodes)
    outputs = tuple(inputs.get(v.name, v) for v in graph.outputs)
    return rebuild(
        replace(graph, inputs=tuple(inputs.values()), nodes=nodes, outputs=outputs),
        lambda b, node, operands: b.reinfer(node, operands),
    )


def _wrong_elsewhere(graph: Graph, whole: Graph, model: Model) -> Iterator[str]:
    for step in STEPS:
        shapes = {
            v.name: [s if isinstance(d, int) else s + step for d, s in zip(d_shape, v.type.sizes, strict=True)]
            for v, d_shape in ((v, o.type.shape) for v, o in zip(graph.inputs, whole.inputs, strict=True))
        }
        try:
            fixed = fix_shapes(whole, shapes)
            feeds = feeds_for(fixed)
            truths = truth(fixed, feeds)
        except (ConvcError, Unclear):
            continue  # sizes that the graph does not take, or of which no oracle is sure
        try:
            got = model(*feeds.values())
        except InputError:
            continue  # sizes that the code does not take
        found = list(got) if isinstance(got, tuple) else [got]
        wrong = differences(truths, found, f"sizes larger by {step}")
        if wrong and not exonerates(fixed, feeds, truths, found) and not _is_as_fixed(fixed, found, feeds):
            yield wrong[0]


def _is_as_fixed(graph: Graph, found: list[np.ndarray], feeds: Feeds) -> bool:
    """Whether the graph compiled for its sizes gives the same: then it is the oracle that is off."""
    fixed = convc.compile(graph, threads=2, tuning=None, cache=False)(*feeds.values())
    made = fixed if isinstance(fixed, tuple) else (fixed,)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(found, made, strict=True))
