"""Choose how each convolution is computed: directly, or by one of Winograd's algorithms.

The choice is the cheapest by the cost model (``ir/cost.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..builder import Builder
from ..cost import direct_cycles, winograd_candidates, winograd_plan
from ..graph import Graph, Node, Value
from ..machine import Machine
from ..ops.relayout import Relayout
from ..ops.winograd_conv import WinogradWeight
from ..rewrite import drop_dead, rebuild


def choose_algorithms(graph: Graph, machine: Machine) -> Graph:
    """``conv(x, relayout(w)) -> winograd_conv(x, winograd_weight(w))`` where that is faster on this machine."""
    weights = sum(c.type.nbytes for c in graph.constants.values())
    resident = 4 * weights < machine.shared_cache_bytes
    bandwidth = machine.cache_bytes_per_cycle if resident else machine.memory_bytes_per_cycle
    one_core = replace(machine, threads=1)  # what is computed may not depend on the number of threads

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        packed = graph.producers.get(node.inputs[1].name) if len(node.inputs) > 1 else None
        layout = node.output.type.layout
        if packed is None or not isinstance(packed.op, Relayout) or layout is None or node.output.type.dtype != "f32":
            return None
        x, out = inputs[0].type, node.output.type
        candidates = [(winograd_plan(x, out, op, one_core, bandwidth).cycles, op) for op in winograd_candidates(node)]
        cycles, op = min(candidates, key=lambda c: c[0], default=(math.inf, None))
        if op is None or cycles >= direct_cycles(node, machine, bandwidth):
            return None
        plan = winograd_plan(x, out, op, machine, bandwidth)
        weight = packed.inputs[0]
        inner = x.layout.block(1) if x.layout is not None else machine.block
        transform = WinogradWeight(op.tile, op.strides, layout.block(1), inner, plan.by_channel, x.layout is None)
        u = b.emit(transform, weight, names=[f"{weight.name}.winograd"])
        return [b.emit(op, inputs[0], u, *inputs[2:], names=[node.output.name])]

    return drop_dead(rebuild(graph, visit))
