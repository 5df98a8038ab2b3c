"""Loops on CPUs: a subroutine that calls the kernels of the body in turn, in each step at other addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx

from convc.ir.graph import Node, Value
from convc.ir.ops.loop import Loop
from convc.runtime.place import Place

from ..memory import aligned
from ..network import Network, computed, nbytes, operands
from .abi import pointer
from .lower import Subroutine, call, repeated


def loop_subroutine(name: str, node: Node, op: Loop, kernels: Mapping[Node, Subroutine]) -> Subroutine:
    """The subroutine of a loop, whose body captures all its constants. ``kernels`` has those of the body's nodes.

    A state has two places, the result of the loop and one in the scratch memory. Each step reads one and writes the
    other, so that the last step writes the result. The first step reads the initial state where it is.
    """
    network = Network(op.body, {n.output.name: kernels[n].scratch for n in computed(op.body)})
    read = operands(node)
    others, size = [], 0
    for v in op.body.inputs[: op.states]:
        others.append(size)
        size = aligned(size + nbytes(v))

    def calls(arguments: Sequence[Any], scratch: Any, context: Any, step: Any) -> list[Any]:
        at = {v.name: a for v, a in zip(read, arguments, strict=False)}
        given, results = [at[v.name] for v in node.inputs], arguments[len(read) :]
        states = [_State(given[i], results[i], scratch + _const(others[i]), op.steps) for i in range(op.states)]

        def address(place: Place) -> tuple[Any, int]:
            if place.base == "workspace":
                return scratch, size + int(place.at)
            i = int(place.at)
            if place.base == "input":
                return (states[i].before(step) if i < op.states else _input(op, i, given[i], step)), 0
            return (states[i].after(step) if i < op.states else _output(op, i, results[i], step)), 0

        made = []
        for n in network.run:
            placed = zip((*operands(n), *n.outputs), network.arguments(n), strict=True)
            pointers = [pointer(*address(place), v.type.tvm_dtype) for v, place in placed]
            base, offset = address(network.scratch(n))
            made.append(call(kernels[n], pointers, base + _const(offset), context))
        return made

    dtypes = [v.type.tvm_dtype for v in (*read, *node.outputs)]
    parts = max((kernels[n].part for n in computed(op.body)), default=0)
    return repeated(name, dtypes, op.steps, calls, size + network.workspace, parts)


class _State:
    """The addresses of a state: at first, and then in turns those of the result and of another place."""

    def __init__(self, initial: Any, result: Any, other: Any, steps: int) -> None:
        self.initial, self.result, self.other, self.steps = initial, result, other, steps

    def after(self, step: Any) -> Any:
        """The address that a step writes: after the last one, the result's."""
        left = _const(self.steps - 1) - step
        return tirx.Select(left % _const(2) == _const(0), self.result, self.other)

    def before(self, step: Any) -> Any:
        """The address that a step reads."""
        return tirx.Select(step == _const(0), self.initial, self.after(step - _const(1)))


def _input(op: Loop, i: int, base: Any, step: Any) -> Any:
    """The address of a scanned or captured input of the body."""
    if i >= op.captured:
        return base
    return _element(base, op.body.inputs[i], op.scans[i - op.states], op.steps, step)


def _output(op: Loop, i: int, base: Any, step: Any) -> Any:
    """The address of an element of a stacked result."""
    return _element(base, op.body.outputs[i], op.stacks[i - op.states], op.steps, step)


def _element(base: Any, element: Value, backwards: int, steps: int, step: Any) -> Any:
    at = _const(steps - 1) - step if backwards else step
    return base + at * _const(nbytes(element))


def _const(value: int) -> Any:
    return tirx.const(value, "int64")
