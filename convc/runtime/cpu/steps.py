"""Loops that the runtime runs: the code of the body is called once a step, on states whose sizes may change.

The body is a program of its own, with its plan and its packed weights. The states of a step are the arrays that the
step before has made.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence

import numpy as np

from convc.ir.errors import LimitError, SizeError

from ..description import Port
from ..expressions import compiled
from .memory import address_of
from .plan import Operand, Plan, Steps
from .sizes import Values, texts

Body = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


class Runner:
    """A loop, which several threads may run at once."""

    def __init__(self, plan: Plan, loop: Steps, known: int, body: Callable[[list[Port], list[Port]], Body]) -> None:
        """``known`` is the number of named sizes of the plan that are known. ``body`` makes the program of the body,
        given its ports. Raises ``ValueError`` for a damaged plan.
        """
        self.loop, self._plan = loop, plan
        used = texts([*loop.sizes, *(size for o in loop.operands for size in o.shape)])
        self._used, self._evaluate = used, compiled(used, [f"s{i}" for i in range(known)])
        self._dtypes = [np.dtype(o.dtype) for o in loop.operands]
        self._body = body(*([Port(*p) for p in some] for some in (loop.inputs, loop.outputs)))
        self._number = Port(*loop.inputs[0])

    def __call__(self, bases: ctypes.Array[ctypes.c_int64], sizes: Sequence[int]) -> tuple[list[np.ndarray], list[int]]:
        """Run the loop. Returns its results, whose addresses are in ``bases`` then, and the sizes that it defines.

        Raises ``SizeError`` or ``LimitError`` for sizes that the code does not take, or for too many steps.
        """
        loop, values = self.loop, Values(self._plan, sizes)
        values.add(self._used, lambda *_: self._evaluate(*sizes))
        given = [_array(o, d, bases, values) for o, d in zip(loop.operands, self._dtypes, strict=True)]
        most, going = int(given[0].reshape(-1)[0]), bool(given[1].reshape(-1)[0])
        states, captured = given[2 : 2 + loop.states], given[2 + loop.states :]
        captured += [np.empty(values[size], bool) for size in loop.sizes]
        stacks: list[list[np.ndarray]] = [[] for _ in loop.results[loop.states :]]
        step = 0
        while step < most and going:
            if step == loop.most:
                raise LimitError(
                    f"{loop.about} takes more than {loop.most} steps; the limit is {loop.most}: raise it when you "
                    "compile, with limits=convc.Limits(steps=...) (--limit steps=...)"
                )
            number = np.full(self._number.sizes, step, np.int64)
            try:
                condition, *made = self._body([number, *states, *captured])
            except (SizeError, LimitError) as e:
                e.within(f"{loop.about}, step {step}")
                raise
            going, states = bool(condition.reshape(-1)[0]), made[: loop.states]
            for stack, element in zip(stacks, made[loop.states :], strict=True):
                stack.append(element)
            step += 1
        results = [np.ascontiguousarray(state) for state in states]
        results += [self._stacked(i, stack, values) for i, stack in enumerate(stacks, loop.states)]
        for base, result in zip(loop.results, results, strict=True):
            bases[base] = address_of(result)
        return results, [step if axis < 0 else results[i].shape[axis] for i, axis in loop.defined]

    def _stacked(self, i: int, stack: Sequence[np.ndarray], values: Values) -> np.ndarray:
        if stack:
            return np.stack(stack)
        port = self.loop.outputs[1 + i]
        shape = [size if isinstance(size, int) else 0 for size in port.shape]
        return np.empty((0, *shape), port.dtype)


def _array(o: Operand, dtype: np.dtype, bases: ctypes.Array[ctypes.c_int64], values: Values) -> np.ndarray:
    """A tensor that the runtime reads where it is."""
    shape = tuple(values[size] for size in o.shape)
    count = math.prod(shape)
    if not count:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(bases[o.place[0]] + int(o.place[1]))
    array: np.ndarray = np.frombuffer(memoryview(memory), dtype)
    return array.reshape(shape)
