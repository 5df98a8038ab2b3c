"""Random loops: a body of random nodes, with states, scanned, captured and stacked values."""

from __future__ import annotations

import numpy as np

from convc.ir.errors import ConvcError, ShapeError
from convc.ir.graph import Value
from convc.ir.ops.loop import Loop
from convc.ir.ops.transcendental import Tanh

from . import layers, movement, pointwise, selection
from .draw import Draw

BODY = (
    layers.matmul,
    layers.softmax,
    layers.norm,
    pointwise.activation,
    pointwise.activation,
    pointwise.with_constant,
    pointwise.residual,
    pointwise.residual,
    pointwise.gate,
    movement.transpose,
    movement.reshape,
    movement.cut,
    movement.concat,
    movement.reduce,
    movement.cumulate,
    selection.integers,
)
LARGEST = 3000
"""The greatest number of elements of a state or a captured value."""


def loop(d: Draw) -> Value:
    """A loop whose body may hold another one."""
    scanned, steps = [], d.pick((1, 2, 3, 5, 6, 8, 13, 40))
    if d.chance(0.6):
        scanned.append(d.value(lambda v: v.type.rank > 0 and v.type.sizes[0] <= 40 and v.type.sizes[0] != 1))
        steps = scanned[0].type.sizes[0]
    if not scanned or d.chance(0.3):
        scanned.append(d.array(np.arange(steps), np.int64))
    states = [d.value(lambda v: v.type.numel <= LARGEST) for _ in range(d.pick((0, 1, 1, 2, 3)))]
    captured = [d.value(lambda v: v.type.numel <= LARGEST) for _ in range(d.pick((0, 0, 1, 2)))]
    inner = Draw(d.whole(0, 1 << 30))
    wild = any(v.name in d.wild for v in (*states, *scanned, *captured))
    for v in states:
        inner.input(v.type, wild)
    inner.exact.clear()  # a state need not stay exact, nor finite
    for v in (*scanned, *captured):
        is_scanned = len(inner.values) < len(states) + len(scanned)
        made = inner.input(v.type.with_shape(v.type.sizes[1:]) if is_scanned else v.type, v.name in d.wild)
        if v.name not in d.exact:
            inner.exact.discard(made.name)
    target = d.whole(1, 5)
    for _ in range(40):
        if len(inner.b.nodes) >= target:
            break
        try:
            (loop if inner.chance(0.04) else inner.pick(BODY))(inner)
        except ConvcError:
            continue
    after = [_next(inner, v) for v in inner.b.inputs[: len(states)]]
    stacks = [inner.pick(inner.values) for _ in range(d.pick((0, 1, 1, 2) if states else (1, 2)))]
    if steps * max((v.type.numel for v in stacks), default=0) > 20 * LARGEST:
        raise ShapeError("too large")
    directions = [tuple(d.pick((0, 1)) for _ in vs) for vs in (scanned, stacks)]
    body = inner.b.finish([*after, *stacks])
    return d.emit(Loop(body, steps, len(states), *directions), *states, *scanned, *captured)


def _next(inner: Draw, state: Value) -> Value:
    """The next value of a state: any of its type, often the same, another state or one that is computed."""
    found = inner.value(lambda v: v.type == state.type)
    return inner.emit(Tanh(), found) if state.type.is_float and inner.chance(0.5) else found
