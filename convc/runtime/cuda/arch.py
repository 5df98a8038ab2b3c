"""Which of the architectures in an artifact a GPU runs."""

from __future__ import annotations

from collections.abc import Collection

from convc.ir.errors import DeviceError

KNOWN = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""The architectures that this version of convc builds for."""


def number(name: str) -> int:
    """The compute capability, times ten, in the name of an architecture."""
    return int(name.rpartition("_")[2])


def choose(names: Collection[str], capability: int) -> str:
    """Which of the architectures that code was built for a device runs: the newest of its own generation, else the newest PTX.

    ``capability`` is the device's, times ten. Raises ``DeviceError`` when it runs none of them.
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
