"""A network as launches: plain records, which an artifact keeps as JSON and a program runs on a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..place import Place
from .device import Extent


@dataclass(frozen=True)
class Start:
    """A kernel started: which module it is in and its name there, its extents, bytes of dynamic shared memory, and where what
    it reads and writes lies.
    """

    module: int
    kernel: str
    grid: Extent
    block: Extent
    shared: int
    arguments: tuple[Place, ...]


@dataclass(frozen=True)
class Plan:
    """The launches of a call in order (``run``), and how weights come to be packed: ``copies`` of them, by name and offset,
    then launches (``load``). The sizes of memory are as in ``backends/memory.py``.
    """

    workspace: int
    packed: int
    loading: int
    copies: tuple[tuple[str, int], ...]
    load: tuple[Start, ...]
    run: tuple[Start, ...]

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Plan:
        """A plan from what JSON keeps of it; raises what a damaged one raises."""
        copies = tuple((str(name), int(at)) for name, at in raw["copies"])
        load, run = (tuple(_starts(raw[key])) for key in ("load", "run"))
        return Plan(**(dict(raw) | {"copies": copies, "load": load, "run": run}))


def _starts(raw: Iterable[Mapping[str, Any]]) -> Iterable[Start]:
    for s in raw:
        grid, block = ((int(x), int(y), int(z)) for x, y, z in (s["grid"], s["block"]))
        arguments = tuple(Place(str(base), at) for base, at in s["arguments"])
        yield Start(**(dict(s) | {"grid": grid, "block": block, "arguments": arguments}))
