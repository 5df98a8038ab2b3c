"""A network as a plan of kernel launches, which an artifact keeps as JSON and a program runs on a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..place import Place
from .device import Extent


@dataclass(frozen=True)
class Start:
    """One kernel launch: the kernel's module and name, grid and block, dynamic shared memory, and arguments.

    ``shared`` is in bytes; ``arguments`` are the places of the inputs and outputs that the kernel reads and writes.
    """

    module: int
    kernel: str
    grid: Extent
    block: Extent
    shared: int
    arguments: tuple[Place, ...]


@dataclass(frozen=True)
class Plan:
    """The launches of a call in order (``run``), and how weights are packed at load.

    Packing makes ``copies`` of weights, by name and offset, and then runs launches (``load``). ``workspace``,
    ``packed`` and ``loading`` are in bytes, as in ``backends/network.py``.
    """

    workspace: int
    packed: int
    loading: int
    copies: tuple[tuple[str, int], ...]
    load: tuple[Start, ...]
    run: tuple[Start, ...]

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Plan:
        """A plan from its JSON.

        Raises ``LookupError``, ``TypeError``, ``ValueError`` or ``AttributeError`` when the JSON is damaged.
        """
        copies = tuple((str(name), int(at)) for name, at in raw["copies"])
        load, run = (tuple(_starts(raw[key])) for key in ("load", "run"))
        return Plan(**(dict(raw) | {"copies": copies, "load": load, "run": run}))


def _starts(raw: Iterable[Mapping[str, Any]]) -> Iterable[Start]:
    for s in raw:
        grid, block = ((int(x), int(y), int(z)) for x, y, z in (s["grid"], s["block"]))
        arguments = tuple(Place(str(base), at) for base, at in s["arguments"])
        yield Start(**(dict(s) | {"grid": grid, "block": block, "arguments": arguments}))
