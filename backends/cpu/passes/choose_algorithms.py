"""Choose how each convolution is computed: directly, or by one of Winograd's algorithms.

The choice is the cheapest by the cost model (``backends/cpu/cost.py``), unless measurements chose another one
(``backends/cpu/choices.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from convc.ir.builder import Builder
from convc.ir.graph import Graph, Node, Value
from convc.ir.op import Op
from convc.ir.ops.relayout import Relayout
from convc.ir.ops.winograd_conv import WinogradConv, WinogradWeight
from convc.ir.rewrite import drop_dead, rebuild

from ..choices import Choices
from ..cost import direct_cycles, winograd_candidates, winograd_split
from ..machine import Machine

RESIDENT_MARGIN = 4
"""Weights are assumed to stay in the last-level cache when it holds this many times their bytes, since data passes
through it too. An estimate.
"""


def choose_algorithms(graph: Graph, machine: Machine, choices: Choices | None = None) -> Graph:
    """``conv(x, relayout(w)) -> winograd_conv(x, winograd_weight(w))`` where that is faster on this machine."""
    bandwidth = _bandwidth(graph, machine)
    ranked = {node.output.name: [op for _, op in ops] for node, ops in candidates(graph, machine)}

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if node.output.name not in ranked:
            return None
        op = (choices or Choices()).choose(node, ranked[node.output.name])
        if not isinstance(op, WinogradConv):
            return None
        x, out, weight = inputs[0].type, node.output.type, graph.producers[node.inputs[1].name].inputs[0]
        plan = winograd_split(x, out, op, machine, bandwidth)
        inner, block = (t.layout.block(1) if t.layout is not None else machine.block for t in (x, out))
        transform = WinogradWeight(op.tile, op.strides, block, inner, plan.by_channel, x.layout is None)
        u = b.emit(transform, weight, names=[f"{weight.name}.winograd"])
        return b.reinfer(replace(node, op=op), (inputs[0], u, *inputs[2:]))

    return drop_dead(rebuild(graph, visit))


def candidates(graph: Graph, machine: Machine) -> Iterator[tuple[Node, list[tuple[float, Op]]]]:
    """The convolutions with more than one algorithm, each with its ops and their cycles on one core, cheapest first."""
    bandwidth = _bandwidth(graph, machine)
    one_core = replace(machine, threads=1)  # the algorithm, and so the result, must not depend on the number of threads
    for node in graph.nodes:
        others = winograd_candidates(node) if _is_blocked(graph, node) else []
        if others:
            x, out = node.inputs[0].type, node.output.type
            plans = [(winograd_split(x, out, op, one_core, bandwidth).cycles, op) for op in others]
            ops: list[tuple[float, Op]] = [(direct_cycles(node, machine, bandwidth), node.op), *plans]
            yield node, sorted(ops, key=lambda o: o[0])


def _bandwidth(graph: Graph, machine: Machine) -> float:
    """Bytes per cycle at which weights are read: from the last-level cache when all of them stay there."""
    weights = sum(c.type.nbytes for c in graph.constants.values())
    resident = RESIDENT_MARGIN * weights < machine.shared_cache_bytes
    return machine.cache_bytes_per_cycle if resident else machine.memory_bytes_per_cycle


def _is_blocked(graph: Graph, node: Node) -> bool:
    """Whether a node reads row-major weights that are packed for it, and makes float32 data in blocks of channels."""
    packed = graph.producers.get(node.inputs[1].name) if len(node.inputs) > 1 else None
    if packed is None or not isinstance(packed.op, Relayout):
        return False
    if packed.inputs[0].type.layout is not None:  # a weight that is computed, and in blocks where it is made
        return False
    out = node.output.type
    return out.layout is not None and out.dtype == "f32"
