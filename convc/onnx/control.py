"""Control flow: If, Loop and Scan are imported as the nodes that they run, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from convc.ir.errors import plural
from convc.ir.graph import Value
from convc.ir.limits import check
from convc.ir.onnx_io import ImportNode
from convc.ir.ops._axes import axis_of
from convc.ir.ops.concat import Concat
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.slice import Slice
from convc.ir.ops.where import Where

Body = Callable[[onnx.GraphProto, Mapping[str, Value]], list[Value]]
"""``body(graph, values)`` imports a subgraph of the node, which sees these values besides those around the node."""


def branch(n: ImportNode, body: Body) -> list[Value]:
    """``If``: the branch taken, when the condition is constant; else both, and of each pair of outputs the one chosen."""
    condition = n.builder.constant_of(n.input(0))
    branches = [_subgraph(n, name) for name in ("then_branch", "else_branch")]
    if condition is not None:
        return body(branches[not condition.reshape(-1)[0]], {})
    pairs = list(zip(*(body(graph, {}) for graph in branches), strict=True))
    if any(yes.type != no.type for yes, no in pairs):
        n.const(0, "condition, on which shapes or dtypes depend,")
    chosen = n.emit(Reshape(()), n.input(0))
    return [n.emit(Where(), chosen, yes, no) for yes, no in pairs]


def loop(n: ImportNode, body: Body) -> list[Value]:
    """``Loop``, its steps one after the other.

    Trip count and conditions must be constant, as they are in a counted loop.
    """
    graph = _subgraph(n, "body")
    trips, given = n.ints(0, "trip count"), n.const(1, "condition")
    steps = None if trips is None else trips[0]
    going = True if given is None else bool(given.reshape(-1)[0])
    check("nodes", steps or 0, f"{n.describe()}, its steps unrolled,")
    state = [n.input(i) for i in range(2, len(n.inputs))]
    stacks: list[list[Value]] = [[] for _ in graph.output[1 + len(state) :]]
    names = [i.name for i in graph.input]
    if len(names) != 2 + len(state) or len(graph.output) < 1 + len(state):
        raise n.error(
            f"its body must take {plural(2 + len(state), 'value')}, and give the condition and at least {len(state)}"
        )
    step = 0
    while going and (steps is None or step < steps):
        counter = n.constant(np.array(step, np.int64), "step")
        condition, *made = body(graph, dict(zip(names, [counter, n.constant(np.array(True)), *state], strict=True)))
        going = _known(n, condition)
        state = made[: len(state)]
        for stack, value in zip(stacks, made[len(state) :], strict=True):
            stack.append(value)
        step += 1
    return [*state, *(_stacked(n, stack, 0) for stack in stacks)]


def scan(n: ImportNode, body: Body) -> list[Value]:
    """``Scan``, its steps one after the other."""
    if n.opset < 9:
        raise n.unsupported("Scan before opset 9 is not supported; convert the model to a newer opset")
    graph, count = _subgraph(n, "body"), n.attr("num_scan_inputs")
    values = [n.input(i) for i in range(len(n.inputs))]
    if not isinstance(count, int) or not 0 < count <= len(values) or len(graph.input) != len(values):
        raise n.error(
            f"num_scan_inputs is {count!r} for {plural(len(values), 'input')} and a body that takes {len(graph.input)}"
        )
    state, sequences = values[: len(values) - count], values[len(values) - count :]
    axes = [axis_of(axis, x.type.rank) for axis, x in zip(_each(n, "scan_input_axes", count), sequences, strict=True)]
    lengths = {x.type.sizes[axis] for axis, x in zip(axes, sequences, strict=True)}
    if len(lengths) != 1:
        raise n.error(f"what it scans differs in length: {sorted(lengths)}")
    (steps,) = lengths
    check("nodes", steps, f"{n.describe()}, its steps unrolled,")
    backwards = _each(n, "scan_input_directions", count)
    stacks: list[list[Value]] = [[] for _ in graph.output[len(state) :]]
    names = [i.name for i in graph.input]
    for step in range(steps):
        elements = [
            _element(n, x, axis, steps - 1 - step if reverse else step)
            for x, axis, reverse in zip(sequences, axes, backwards, strict=True)
        ]
        made = body(graph, dict(zip(names, [*state, *elements], strict=True)))
        state = made[: len(state)]
        for stack, value in zip(stacks, made[len(state) :], strict=True):
            stack.append(value)
    places = zip(
        stacks,
        _each(n, "scan_output_axes", len(stacks)),
        _each(n, "scan_output_directions", len(stacks)),
        strict=True,
    )
    return [*state, *(_stacked(n, stack[::-1] if reverse else stack, axis) for stack, axis, reverse in places)]


CONTROL: Mapping[str, Callable[[ImportNode, Body], list[Value]]] = {"If": branch, "Loop": loop, "Scan": scan}
"""By the ONNX operator."""


def _subgraph(n: ImportNode, name: str) -> onnx.GraphProto:
    return next((a.g for a in n.proto.attribute if a.name == name), onnx.GraphProto())


def _each(n: ImportNode, name: str, count: int) -> Sequence[int]:
    """An attribute that has a number for each of ``count`` tensors, zeros when it is left out."""
    given: Any = n.attr(name) or (0,) * count
    if len(given) != count:
        raise n.error(f"attribute '{name}' has {plural(len(given), 'number')}, not {count}")
    return tuple(given)


def _known(n: ImportNode, condition: Value) -> bool:
    """The condition to go on that a step gives; raises when it is computed at run time."""
    array = n.builder.constant_of(condition)
    if array is None:
        raise n.unsupported("whether it goes on is computed at run time, so the number of its steps is not known")
    return bool(array.reshape(-1)[0])


def _element(n: ImportNode, x: Value, axis: int, at: int) -> Value:
    """One element along an axis, without that axis."""
    shape = x.type.sizes
    piece = n.emit(Slice((axis,), (at,), (at + 1,)), x) if shape[axis] > 1 else x
    made: Value = n.emit(Reshape((*shape[:axis], *shape[axis + 1 :]), True), piece)
    return made


def _stacked(n: ImportNode, parts: Sequence[Value], axis: int) -> Value:
    """The parts along a new axis."""
    if not parts:
        raise n.unsupported("it takes no step, so the size of what it stacks is not known")
    shape = parts[0].type.sizes
    axis = axis_of(axis, len(shape) + 1)
    apart = [n.emit(Reshape((*shape[:axis], 1, *shape[axis:]), True), p) for p in parts]
    made: Value = n.emit(Concat(axis), *apart) if len(apart) > 1 else apart[0]
    return made
