"""The choice of the architecture in an artifact that a GPU runs."""

from __future__ import annotations

from collections.abc import Collection

from convc.ir.errors import DeviceError

KNOWN = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""The architectures that this version of convc builds for."""


def number(name: str) -> int:
    """The compute capability times ten in an architecture's name: 80 for ``sm_80`` or ``compute_80``."""
    return int(name.rpartition("_")[2])


def choose(names: Collection[str], capability: int) -> str:
    """The architecture of an artifact that a device runs: the newest of its own generation, else the newest PTX.

    ``names`` are the architectures that code was built for, and ``capability`` is the device's, times ten. Neither a
    binary nor PTX runs on an older device than it was built for. Raises ``DeviceError`` when the device runs none of
    them.
    """
    numbers = {name: number(name) for name in sorted(names, key=number)}
    older = [name for name in numbers if numbers[name] <= capability]
    same = [n for n in older if n.startswith("sm_") and numbers[n] // 10 == capability // 10]
    ptx = [n for n in older if n.startswith("compute_")]
    for candidates in (same, ptx):
        if candidates:
            return max(candidates, key=lambda name: numbers[name])
    machine = [n for n in numbers if n.startswith("sm_")]
    rest = ", ".join(n for n in numbers if n.startswith("compute_"))
    holds = f"its PTX ({rest}) is for newer ones" if rest else "it holds no PTX"
    this = f"sm_{capability}"
    advice = f"build it again with --arch {this}" if this in KNOWN else f"convc knows {', '.join(KNOWN)}"
    raise DeviceError(f"built for {', '.join(machine) or 'no architecture'}; this is {this}, and {holds}: {advice}")
