"""The plan of a network on a CPU: the calls of its kernels, the memory that they need, and how weights are packed.

Every address is a *place*: the number of a base and an offset in bytes. The bases of a call are 0, which makes a place
an address or a plain number, then those that ``Base`` names, and after these the inputs and the outputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

Place = tuple[int, int]


class Base(IntEnum):
    """The numbers of the bases of a call."""

    ZERO = 0
    PACKED = 1
    """The packed weights."""
    WORKSPACE = 2
    """The workspace of the calling thread."""
    PORTS = 3
    """The first input. In a step of packing these are the weights that it reads."""


@dataclass(frozen=True)
class Call:
    """A call of a kernel, with the places of its arguments: tensors that it reads and writes, and scratch memory."""

    kernel: str
    arguments: tuple[Place, ...]


@dataclass(frozen=True)
class Varying:
    """An address that varies with the step of a loop.

    It is ``first`` in step 0, and then ``odd`` and ``even`` in turns. In each step it lies ``stride`` bytes farther.
    """

    first: Place
    even: Place
    odd: Place
    stride: int


@dataclass(frozen=True)
class Repeat:
    """Calls that are made again in each of ``steps`` steps.

    ``bases`` are the bases of its calls after base 0, as addresses that vary with the step.
    """

    steps: int
    bases: tuple[Varying, ...]
    calls: tuple[Call | Repeat, ...]


@dataclass(frozen=True)
class Packing:
    """One step of packing the weights at load: calls that read some weights and write packed ones.

    Where there are no calls, the one weight is copied to the offset ``copied_to``. In the calls, the base ``WORKSPACE``
    is that of the packed weights too.
    """

    weights: tuple[str, ...]
    calls: tuple[Call | Repeat, ...] = ()
    copied_to: int = 0


@dataclass(frozen=True)
class Plan:
    """What a call runs, the memory that it needs, and how the weights are packed.

    All sizes are in bytes. ``workspace`` is what each calling thread needs. ``packed`` is the size of the packed
    weights, and ``loading`` that size plus what only loading needs, behind them. ``part`` is what each thread needs
    while it works on a parallel loop. ``parallel`` tells whether the code has parallel loops.
    """

    calls: tuple[Call | Repeat, ...]
    workspace: int
    packed: int
    loading: int
    packing: tuple[Packing, ...]
    part: int = 0
    parallel: bool = True

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Plan:
        """A plan from its JSON.

        Raises ``LookupError``, ``TypeError``, ``ValueError`` or ``AttributeError`` when the JSON is damaged.
        """
        packing = tuple(Packing(tuple(p["weights"]), _calls(p["calls"]), p["copied_to"]) for p in raw["packing"])
        return Plan(**(dict(raw) | {"calls": _calls(raw["calls"]), "packing": packing}))


def _calls(raw: Sequence[Mapping[str, Any]]) -> tuple[Call | Repeat, ...]:
    return tuple(_repeat(c) if "steps" in c else Call(c["kernel"], tuple(map(_place, c["arguments"]))) for c in raw)


def _repeat(raw: Mapping[str, Any]) -> Repeat:
    bases = tuple(Varying(_place(b["first"]), _place(b["even"]), _place(b["odd"]), b["stride"]) for b in raw["bases"])
    return Repeat(raw["steps"], bases, _calls(raw["calls"]))


def _place(raw: Sequence[int]) -> Place:
    base, offset = raw
    return base, offset


class Encoded:
    """Calls in the form that ``convc_run`` takes (``backends/cpu/program.c``)."""

    def __init__(self, calls: Sequence[Call | Repeat], address: Callable[[str], int]) -> None:
        """``address`` gives the address of the kernel of a name."""
        words = list(_words(calls, address))
        self.words = (ctypes.c_int64 * len(words))(*words)
        self.room = _room(calls)
        """The number of integers that ``convc_run`` needs room for."""

    def arguments(self, bases: ctypes.Array[ctypes.c_int64], room: ctypes.Array[ctypes.c_int64]) -> Any:
        """The arguments of ``convc_run``, for bases and room that live as long."""
        words, at, free = map(ctypes.addressof, (self.words, bases, room))
        return (ctypes.c_int64 * 4)(words, len(self.words), at, free)


def _words(calls: Sequence[Call | Repeat], address: Callable[[str], int]) -> Iterator[int]:
    for call in calls:
        if isinstance(call, Call):
            yield from (address(call.kernel), len(call.arguments))
            for place in call.arguments:
                yield from place
        else:
            body = list(_words(call.calls, address))
            yield from (0, len(call.bases), call.steps, len(body))
            for v in call.bases:
                yield from (*v.first, *v.even, *v.odd, v.stride)
            yield from body


def _room(calls: Sequence[Call | Repeat]) -> int:
    sizes = [len(c.arguments) if isinstance(c, Call) else len(c.bases) + 1 + _room(c.calls) for c in calls]
    return max(sizes, default=0)
