"""Joins of very many operands, and very many slices of one tensor."""

from __future__ import annotations

import numpy as np
import pytest
from support.compare import check
from support.compiling import compiled

import convc
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import f32
from convc.ir.ops.concat import Concat
from convc.ir.ops.slice import Slice
from convc.ir.ops.transcendental import Tanh
from convc.ir.passes.divide import divide


def joined(count: int) -> Graph:
    b = Builder("joined")
    return b.finish([b.emit(Concat(1), *(b.input(f"x{i}", f32[2, 1 + i % 2]) for i in range(count)))])


def sliced(count: int) -> Graph:
    b = Builder("sliced")
    x = b.input("x", f32[2, 2 * count])
    parts = [b.emit(Tanh(), b.emit(Slice((1,), (2 * i,), (2 * i + 2,)), x)) for i in reversed(range(count))]
    return b.finish([b.emit(Concat(1), *parts)])


@pytest.mark.parametrize("graph", [joined(600), sliced(600)], ids=lambda g: g.name)
def test_most_kernels_are_equal(graph: Graph) -> None:
    model = compiled(graph)
    assert len(model.kernels) < 90
    assert max(len(k.group.body.inputs) for k in model.kernels) <= 64
    rng = np.random.default_rng(0)
    check(convc.to_onnx(graph), {v.name: rng.normal(size=v.type.sizes).astype(np.float32) for v in graph.inputs})


def test_few_are_left_alone() -> None:
    for graph in (joined(64), sliced(64)):
        assert divide(graph).nodes == graph.nodes


def test_slices_that_are_far_apart_are_left_alone() -> None:
    b = Builder("apart")
    x = b.input("x", f32[10000])
    graph = b.finish([b.emit(Slice((0,), (100 * i,), (100 * i + 1,)), x) for i in range(100)])
    assert divide(graph).nodes == graph.nodes
