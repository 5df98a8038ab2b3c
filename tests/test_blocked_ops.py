"""Ops that can hold data in blocks of channels compute there what they compute row-major, and leave the padding zero."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import case_graph
from test_ops import CASES
from tolerances import assert_close

import convc
from convc import pipeline
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.layout import Layout
from convc.ir.op import Case
from convc.ir.ops.relayout import Relayout
from convc.ir.passes.fuse import fuse

BLOCK = 4


def layout_of(case: Case) -> Layout | None:
    """The blocked layout of the case's result, when the op takes it."""
    graph, _ = case_graph(case)
    node = graph.nodes[0]
    rank = node.output.type.rank
    if rank < 3 or rank > 5 or len(node.outputs) != 1:
        return None
    if node.op.elementwise and all(v.type.shape != node.output.type.shape for v in node.inputs):
        return None  # every operand is broadcast, so none says how the result is held
    layout = Layout(f"NC{'DHW'[5 - rank :]}{BLOCK}c")
    return layout if node.op.layouts([v.type for v in node.inputs], layout) else None


def blocked(graph: Graph, layout: Layout) -> Graph:
    """The graph with its one op run in the layout; the result is returned as it lies in memory."""
    node = graph.nodes[0]
    b = Builder()
    inputs = [b.input(v.name, v.type) for v in graph.inputs]
    held = [
        b.emit(Relayout(str(layout)), v)
        if v.type.rank == layout.rank and (not node.op.elementwise or v.type.shape == node.output.type.shape)
        else v
        for v in inputs
    ]
    y = b.emit(node.op, *held)
    assert y.type.layout == layout
    return b.finish([y])


BLOCKED = [p for p in CASES if layout_of(p.values[0])]  # type: ignore[arg-type]


@pytest.mark.parametrize("case", BLOCKED)
def test_blocked(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = case_graph(case)
    want = convc.compile(graph, threads=1)(*feeds.values())
    layout = layout_of(case)
    assert layout is not None
    monkeypatch.setattr(pipeline, "run", lambda g, *_: fuse(g))
    raw = np.asarray(convc.compile(blocked(graph, layout), threads=1)(*feeds.values()))
    got = np.moveaxis(raw, -1, 2).reshape(raw.shape[0], -1, *raw.shape[2:-1])
    channels = graph.outputs[0].type.sizes[1]
    assert_close(got[:, :channels], np.asarray(want), f"{case.op} in {layout}")
    assert not got[:, channels:].any(), f"{case.op} leaves its padding nonzero"
