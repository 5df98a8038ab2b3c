"""The targets of the CPU backend: descriptions of processors for schedules and cost models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convc.ir.errors import CompileError
from convc.runtime.cpu.host import FEATURES, family_of, host

from .facts import facts
from .machine import Machine
from .names import AARCH64, HERE, NAMES, X86_LEVELS


@dataclass(frozen=True)
class Target:
    """A processor that code is compiled for: LLVM's name for it (``mcpu``), and the LLVM target triple."""

    mcpu: str
    triple: str
    threads: int = 1
    """The number of threads that a call will use. It determines how work is divided, but not the results."""
    without: tuple[str, ...] = ()
    """Features of ``mcpu``, by LLVM's names, that this processor lacks, as in a virtual machine that hides some."""
    network_cycles: int = 400_000
    """A network of fewer cycles than this runs on the calling thread alone, since sharing work out would take longer.
    """
    launch_cycles: int = 8000
    """A kernel of fewer cycles than this is not shared out: waking a thread and waiting for it takes half of them."""

    @cached_property
    def tvm(self) -> Any:
        """The target as TVM describes it."""
        settings: dict[str, Any] = {"kind": "llvm", "mcpu": self.mcpu, "mtriple": self.triple, "opt-level": 3}
        if self.without:
            settings["mattr"] = [f"-{name}" for name in self.without]
        import tvm

        return tvm.target.Target(settings)

    @cached_property
    def features(self) -> frozenset[str]:
        """The instruction sets that code for this target may use, by LLVM's names, such as ``avx2``."""
        known = facts().features(self.mcpu, self.triple)
        return known & set(FEATURES.get(self.family, {})) - set(self.without)

    @property
    def family(self) -> str:
        """The family of the processor, as LLVM's triples name it: ``x86_64`` or ``aarch64``."""
        return family_of(self.triple.partition("-")[0])

    @property
    def vector_bits(self) -> int:
        """The width of a vector register in bits."""
        if "avx512f" in self.features:
            return 512
        return 256 if "avx" in self.features else 128

    @property
    def vector_registers(self) -> int:
        """The number of vector registers."""
        return 32 if "avx512f" in self.features or self.triple.startswith(("aarch64", "arm64")) else 16

    @property
    def machine(self) -> Machine:
        """The description of the target for cost models."""
        return Machine(
            self.lanes(),
            self.vector_registers,
            self.cache_bytes,
            flops_per_cycle=self.flops_per_cycle,
            dot4=self.features >= DOT4,
            threads=self.threads,
        )

    @property
    def flops_per_cycle(self) -> float:
        """The peak rate of one core in float32 operations per cycle: two fused multiply-adds of vectors.

        Zen 4, and the level x86-64-v4, are taken to need two cycles for a vector of sixteen.
        """
        bits = min(self.vector_bits, 256) if self.mcpu in ("znver4", "x86-64-v4") else self.vector_bits
        return 2 * 2 * bits / 32

    @property
    def cache_bytes(self) -> int:
        """The bytes of second-level cache that one thread may count on."""
        return 512 * 1024 if "avx512f" not in self.features else 1024 * 1024

    def lanes(self, dtype_bits: int = 32) -> int:
        """The number of elements of this width in a vector register."""
        return self.vector_bits // dtype_bits


DOT4 = {"avx512vnni", "avx512vl"}
"""The features that the functions of ``byte_math.py`` need."""


def host_target(threads: int = 1) -> Target:
    """The target for the processor of this machine."""
    cpu, triple = facts().system()
    target = Target(cpu, triple, threads)
    return Target(cpu, triple, threads, tuple(sorted(target.features - host().features)))


def parse_target(name: str, threads: int = 1) -> Target:
    """The target of this name.

    ``cpu`` and ``native`` mean this machine. Other names are levels of x86-64, ``aarch64``, and 64-bit Arm processors,
    whose code may not run on this machine. Raises ``CompileError`` for an unknown name.
    """
    here = host_target(threads)
    if name in HERE:
        return here
    if name in X86_LEVELS:
        return Target(name, _triple("x86_64", here), threads)
    if name in AARCH64:
        return Target("generic" if name == "aarch64" else name, _triple("aarch64", here), threads)
    raise CompileError(f"unknown target '{name}'; known: {', '.join(NAMES)}")


def parse_targets(names: str, threads: int = 1) -> tuple[Target, ...]:
    """The targets of names that are separated by commas, each once. Raises ``CompileError`` for an unknown name."""
    return tuple(dict.fromkeys(parse_target(name, threads) for name in names.split(",")))


def _triple(family: str, here: Target) -> str:
    return here.triple if here.family == family else f"{family}-unknown-linux-gnu"
