"""Kernels that take sizes as arguments, for the cases of each op: one kernel gives the right results at several sizes.

The rule that takes every group makes these kernels. Results are compared with ONNX Runtime's or onnx's reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from support.open_cases import KNOWN, NAMES, holds, nothing, opened, other_values
from support.open_kernels import OpenKernel
from support.oracles import case_graph, expected
from support.tolerances import assert_close

import convc.ir.ops  # noqa: F401  registers every op
from convc.backends.cpu.schedules.fallback import fallback
from convc.ir.assumptions import Assumptions
from convc.ir.builder import infer_types
from convc.ir.errors import ShapeError
from convc.ir.graph import Node, Value
from convc.ir.op import REGISTRY, Case, f32, from_outside
from convc.ir.ops._elementwise import Elementwise
from convc.ir.ops.top_k import TopK
from convc.ir.sizes import at, named

Known = Callable[[Any, int, int, int], bool]


def _channels(op: Any, i: int, axis: int, rank: int) -> bool:
    """Groups of channels begin at multiples of quotients of sizes, which working memory cannot be reckoned from."""
    return max(op.group, getattr(op, "offset_group", 1)) > 1 and (i > 0 or axis == 1)


def _taps(op: Any, i: int, axis: int, rank: int) -> bool:
    """The number of elements that one result is made of follows from the ratio of sizes."""
    return op.antialias and bool(op.sizes)


def _picked(op: Any, i: int, axis: int, rank: int) -> bool:
    """Numbers of channels decide which operand a channel is from."""
    return axis == 1


FIXED: dict[str, Known] = {
    **dict.fromkeys(("conv", "conv_integer", "deform_conv"), _channels),
    "resize": _taps,
    "select_channels": _picked,
}
"""The sizes that kernels of ops must know, where inference need not know them."""
BY_FIXED = ("gru", "lstm", "rnn")
"""Ops whose results are compared with those of kernels of fixed sizes, since onnx's reference ignores lengths."""
FAST = 1
"""The number of cases of an op that the quick tests run."""
SLOW = ("deform_conv", "max_roi_pool", "non_max_suppression", "unique")
"""Ops with kernels that take seconds to compile."""


def _params() -> list[Any]:
    found = []
    for name, op in sorted(REGISTRY.items()):
        for i, case in enumerate(() if from_outside(op) else op.cases()):
            alike = issubclass(op, Elementwise) and op.arity == 1 and name != "relu"
            for naming in NAMES:
                slow = i >= FAST or alike or name in SLOW or naming != "each axis has its name"
                marks = [pytest.mark.slow] if slow else []
                found.append(pytest.param(case, naming, id=f"{name}-{i}-{naming.split()[0]}", marks=marks))
    return found


def _must_know(case: Case) -> Known:
    inferred, fixed = (table.get(case.op.name, nothing) for table in (KNOWN, FIXED))
    return lambda *place: inferred(*place) or fixed(*place)


def _node(case: Case, operands: list[Value]) -> tuple[Node, Assumptions]:
    assumed = Assumptions()
    with assumed.noted("here"):
        types = infer_types(case.op, operands)
    results = tuple(Value(f"y{i}", t) for i, t in enumerate(types))
    return Node(case.op, tuple(operands), results), assumed


def _at(case: Case, operands: list[Value], values: Mapping[str, int]) -> Case:
    """The case at values of its sizes. Arrays are repeated or cut to their new shapes."""
    shapes = [tuple(int(at(d, values)) for d in v.type.shape) for v in operands]
    inputs = [
        np.resize(x, s) if isinstance(x, np.ndarray) else x.with_shape(s)
        for x, s in zip(case.inputs, shapes, strict=True)
    ]
    return Case(case.op.at(values), tuple(inputs), case.low, case.high, case.oracle, case.note)


@pytest.mark.parametrize(("case", "naming"), _params())
def test_kernels_of_open_sizes(case: Case, naming: str) -> None:
    """At the sizes of the case, and at two others that inference allows."""
    operands, values = opened(case, naming, _must_know(case))
    if not values:
        return
    node, assumed = _node(case, operands)
    kernel = OpenKernel(node, rules=(fallback,))
    assert kernel.takes(values)
    assert not kernel.lowered.needs, "code needs more of sizes than inference does"
    others = [v for v in other_values(values) if holds(assumed, v) and kernel.takes(v)]
    for moved in (values, *others[:2]):
        there = _at(case, operands, moved)
        graph, feeds = case_graph(there)
        got = kernel(moved, list(feeds.values()))
        if case.op.counted is not None or case.op.name in BY_FIXED:
            fixed, _ = _node(there, list(graph.inputs))
            _same(got, OpenKernel(fixed, rules=(fallback,))({}, list(feeds.values())), f"{case.op} at {moved}")
            continue
        for oracle, want in expected(there, graph, feeds):
            _same(got, want, f"{case.op} at {moved} against {oracle}")


def _same(got: list[np.ndarray], want: list[np.ndarray], what: str) -> None:
    for g, w in zip(got, want, strict=True):
        assert_close(g, w, what)


@pytest.mark.parametrize("name", sorted(FIXED))
def test_a_kernel_that_must_know_a_size_says_so(name: str) -> None:
    """Some case for which the table above has sizes is refused without them, and not by an error of TVM's."""
    refused = False
    for case in REGISTRY[name].cases():
        operands, values = opened(case, "each axis has its name", KNOWN.get(name, nothing))
        if refused or values.keys() == opened(case, "each axis has its name", _must_know(case))[1].keys():
            continue
        try:
            OpenKernel(_node(case, operands)[0], rules=(fallback,))
        except ShapeError:
            refused = True
    assert refused, "it takes all open sizes"


def test_kernels_decide_as_the_graph_did() -> None:
    """A kernel's typical sizes are rounded, which changes nothing that was inferred before."""
    x = Value("x", f32[1].with_shape((named("n", typical=3), named("h", typical=112))))
    node, _ = _node(Case(TopK(axis=1, count=100), ()), [x])
    data = np.random.default_rng(0).permuted(np.arange(130, dtype=np.float32)[None].repeat(2, 0), axis=1)
    values, _ = OpenKernel(node)({"n": 2, "h": 130}, [data])
    np.testing.assert_array_equal(values, np.arange(129, 29, -1, dtype=np.float32)[None].repeat(2, 0))
