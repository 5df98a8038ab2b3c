"""The architectures that code is built for, by name, and which of them a device can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convc.ir.errors import CompileError

from .gpu import GPUS, Gpu

PTX = "compute_75"
"""What ``ptx`` stands for: the oldest architecture, whose PTX every newer GPU's driver compiles."""
DEFAULT = (*GPUS, "ptx")
"""What is built for when nobody says."""


@dataclass(frozen=True)
class Architecture:
    """Machine code for one architecture (``sm_80``) or PTX of it (``compute_75``), and the GPU that schedules are made for."""

    name: str
    gpu: Gpu


def parse_architectures(names: str | Sequence[str] | None) -> tuple[Architecture, ...]:
    """Architectures from ``sm_80,sm_90,ptx`` or a sequence of such names, each once, in order; all when there are none.

    Raises ``CompileError`` for a name that convc does not know.
    """
    given = names.split(",") if isinstance(names, str) else DEFAULT if names is None else names
    found = dict.fromkeys(PTX if name == "ptx" else name for name in given)
    if not found:
        raise CompileError(f"no architecture is named; known: {_known()}")
    return tuple(_architecture(name) for name in found)


def _architecture(name: str) -> Architecture:
    gpu = GPUS.get(str(name).replace("compute_", "sm_"))
    if gpu is None:
        raise CompileError(f"unknown architecture '{name}'; known: {_known()}")
    return Architecture(name, gpu)


def _known() -> str:
    return f"{', '.join(GPUS)}, ptx (PTX for sm_75 and newer), or PTX for another: {', '.join(_ptx(n) for n in GPUS)}"


def _ptx(name: str) -> str:
    return name.replace("sm_", "compute_")
