"""Ops that can hold data in a layout give the same results in it as on row-major data.

The layouts are blocks of channels, and channels last.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.cases import CASES
from support.compiling import compiled
from support.oracles import case_graph
from support.tolerances import assert_close

from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.layout import Layout
from convc.ir.op import Case
from convc.ir.ops.relayout import Relayout
from convc.ir.passes.fuse import fuse
from convc.ir.pipeline import Pass, Pipeline

BLOCK = 4


def layouts_of(case: Case) -> list[Layout]:
    """The layouts that the op takes for the result of the case."""
    graph, _ = case_graph(case)
    node = graph.nodes[0]
    rank = node.output.type.rank
    if rank < 3 or rank > 5 or len(node.outputs) != 1:
        return []
    if node.op.elementwise and all(v.type.shape != node.output.type.shape for v in node.inputs):
        return []  # every operand is broadcast, so none says how the result is held
    spatial = "DHW"[5 - rank :]
    known = (Layout(f"NC{spatial}{BLOCK}c"), Layout(f"N{spatial}C"))
    return [layout for layout in known if node.op.layouts([v.type for v in node.inputs], layout)]


def held(graph: Graph, layouts: list[Layout]) -> Graph:
    """The graph of the op row-major and in each layout. The results are returned as they lie in memory."""
    node = graph.nodes[0]
    b = Builder()
    inputs = [b.input(v.name, v.type) for v in graph.inputs]
    outputs = [b.emit(node.op, *inputs)]
    for layout in layouts:
        operands = [
            b.emit(Relayout(str(layout)), v)
            if v.type.rank == layout.rank and (not node.op.elementwise or v.type.shape == node.output.type.shape)
            else v
            for v in inputs
        ]
        outputs.append(b.emit(node.op, *operands))
        assert outputs[-1].type.layout == layout
    return b.finish(outputs)


HELD = [p for p in CASES if layouts_of(p.values[0])]  # type: ignore[arg-type]


@pytest.mark.parametrize("case", HELD)
def test_held_in_a_layout(case: Case) -> None:
    graph, feeds = case_graph(case)
    layouts = layouts_of(case)
    model = compiled(held(graph, layouts), change=lambda _: Pipeline((Pass("fuse", fuse),)))
    want, *results = map(np.asarray, model(*feeds.values()))
    for layout, raw in zip(layouts, results, strict=True):
        got = np.moveaxis(raw, -1, 2 if layout.is_blocked else 1)
        if layout.is_blocked:
            got = got.reshape(raw.shape[0], -1, *raw.shape[2:-1])
        channels = want.shape[1]
        assert_close(got[:, :channels], want, f"{case.op} in {layout}")
        assert not got[:, channels:].any(), f"{case.op} leaves its padding nonzero"
