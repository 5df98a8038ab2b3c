"""The architectures that code can be built for, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convc.ir.errors import CompileError

from .gpu import GPUS, Gpu

PTX = "compute_75"
"""The meaning of ``ptx``: PTX for the oldest architecture, which the driver of every newer GPU compiles."""
DEFAULT = (*GPUS, "ptx")
"""The architectures that are built for by default."""


@dataclass(frozen=True)
class Architecture:
    """A target of code generation, and the GPU that its schedules are made for.

    ``sm_80`` is machine code for one architecture, and ``compute_75`` is PTX.
    """

    name: str
    gpu: Gpu


def parse_architectures(names: str | Sequence[str] | None) -> tuple[Architecture, ...]:
    """The architectures of ``sm_80,sm_90,ptx`` or of a sequence of such names, each once, in order. ``None`` means all.

    Raises ``CompileError`` for an unknown name, and when there is no name.
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
