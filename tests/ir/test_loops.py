"""What passes do with loops. Exported before and after them, a loop gives the same results by onnx's reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.graphs import ops
from support.open_sizes import at_sizes, final_graph, run_final
from support.oracles import run_reference
from support.tolerances import assert_close

import convc
from convc.backends.cpu.target import parse_target
from convc.backends.cuda.pipeline import pipeline
from convc.ir.builder import Builder
from convc.ir.errors import LimitError
from convc.ir.graph import Graph
from convc.ir.limits import Limits, using
from convc.ir.ops.loop import Loop
from convc.ir.passes.fix_shapes import with_sizes
from convc.ir.passes.loops import empty_bodies, fill_bodies, hoist, unroll, with_bodies
from convc.ir.sizes import at_least, named
from convc.ir.text import parse_graph, print_graph
from convc.ir.verify import verify

NESTED = parse_graph("""graph @g(%x: f32[3], %q: f32[6,3], %w: f32[3]) {
  %c: f32[3] = const [1.0, 2.0, 3.0]
  %last: f32[3], %all: f32[6,2,3] = loop(%x, %q, %c, %w, %c) {steps=6, states=1, scans=[1], stacks=[0],
    body=graph @outer(%s: f32[3], %e: f32[3], %c1: f32[3], %w1: f32[3], %c2: f32[3]) {
      %cc: f32[3] = mul(%c1, %c2)
      %wc: f32[3] = tanh(%w1)
      %se: f32[3] = mul(%s, %wc)
      %t: f32[3], %inner: f32[2,3] = loop(%se, %cc, %e) {steps=2, states=1, stacks=[1],
        body=graph @inner(%a: f32[3], %b: f32[3], %d: f32[3]) {
          %ab: f32[3] = add(%a, %b)
          %bd: f32[3] = sin(%d)
          %u: f32[3] = mul(%ab, %bd)
          return %u, "again"=%u
        }}
      return %t, %inner
    }}
  return %last, %all
}""")


OPEN = parse_graph(
    print_graph(NESTED)
    .replace("const [1.0,2.0,3.0]", "expand(%one) {shape=[3]}")
    .replace("%c: f32[3]", "%one: f32[1] = const [1.5] %c: f32[3]")
    .replace("f32[3]", 'f32["n"]')
    .replace("[3]", '["n"]')
    .replace("f32[6,3]", 'f32[6,"n"]')
    .replace("f32[6,2,3]", 'f32[6,2,"n"]')
    .replace("f32[2,3]", 'f32[2,"n"]')
)
"""The same with an open size."""
LONGER = parse_graph(print_graph(OPEN).replace("steps=6", "steps=9").replace("[6,", "[9,"))
"""The same with more steps than are spelt out."""


def loops(graph: Graph) -> list[Loop]:
    return [n.op for n in graph.nodes if isinstance(n.op, Loop)]


@pytest.mark.parametrize(
    "change",
    [
        lambda g: unroll(g, None),
        lambda g: unroll(g, 2),
        fill_bodies,
        lambda g: with_bodies(hoist, fill_bodies(g)),
        lambda g: with_bodies(empty_bodies, with_bodies(hoist, fill_bodies(g))),
    ],
)
@pytest.mark.parametrize("whole", [NESTED, OPEN], ids=["known sizes", "open sizes"])
def test_results_stay(whole: Graph, change: Callable[[Graph], Graph]) -> None:
    verify(whole)
    changed = change(whole)
    verify(changed)
    fixed, changed = (with_sizes(g, {"n": 3}) for g in (whole, changed))
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.uniform(-1, 1, v.type.sizes).astype(np.float32) for v in fixed.inputs}
    want = run_reference(convc.to_onnx(fixed), feeds)
    for a, b in zip(run_reference(convc.to_onnx(changed), feeds), want, strict=True):
        assert_close(a, b)


def test_short_loops_are_spelt_out() -> None:
    assert not loops(unroll(NESTED, None))
    (outer,) = loops(unroll(NESTED, 2))
    assert not loops(outer.body)
    assert unroll(NESTED, 1) == NESTED


def test_constants_move_in_and_out() -> None:
    (outer,) = loops(filled := fill_bodies(NESTED))
    assert list(outer.body.constants) == ["c1"]  # a constant that is captured twice is there once
    assert not filled.constants
    emptied = with_bodies(empty_bodies, with_bodies(hoist, filled))
    (outer,) = loops(emptied)
    assert not outer.body.all_constants()
    assert [n.op.name for n in outer.body.nodes] == ["mul", "sin", "loop"]  # the sine is hoisted out of the inner loop
    assert [n.op.name for n in emptied.nodes] == ["tanh", "mul", "loop"]


def test_gpus_get_no_loops() -> None:
    assert not loops(pipeline().run(NESTED))
    with using(Limits(nodes=20)), pytest.raises(LimitError, match="'last', whose steps become nodes one by one"):
        pipeline().run(NESTED)


def test_what_a_pass_assumes_in_a_body_is_assumed_by_the_graph() -> None:
    def run(graph: Graph) -> Graph:
        b = Builder.of(graph)
        with b.assumptions.noted(graph.name):
            assert at_least(named("n"), 2 if graph.name == "inner" else 1)
        return replace(graph, assumptions=b.assumptions.made)

    changed = with_bodies(run, OPEN)
    verify(changed)
    assert {str(a): about for a, about in changed.assumptions.items()} == {"n >= 2": "inner"}
    assert not loops(changed)[0].body.assumptions


@pytest.mark.parametrize("n", [1, 8])
def test_a_loop_of_open_sizes_goes_through_all_passes(n: int) -> None:
    here = parse_target("cpu", 1)
    final = final_graph(LONGER, here)
    assert final.assumptions == LONGER.assumptions
    assert ops(final)[-1] == "loop"
    fixed = with_sizes(LONGER, {"n": n})
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.uniform(-1, 1, v.type.sizes).astype(np.float32) for v in fixed.inputs}
    want = run_reference(convc.to_onnx(fixed), feeds)
    for a, b in zip(run_final(at_sizes(final, {"n": n}), here, feeds), want, strict=True):
        assert_close(a, b)
