"""What a backend compiles for: a description of the machine that schedules and cost models read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tvm
import tvm_ffi

from convc.ir.errors import CompileError

from .machine import Machine

INSTRUCTION_SETS = re.compile(
    r"64bit|cmov|cx8|cx16|mmx|fxsr|sahf|x87|crc32|popcnt|lzcnt|movbe|adx|aes|pclmul|sha|gfni|f16c|fma|fma4|xop|bmi2?|tbm"
    r"|ssse3|sse.*|avx.*|vaes|vpclmulqdq|neon|fp-armv8|fullfp16|bf16|dotprod|i8mm|sve.*|sme.*|lse|rdm|rcpc|v[89]\..*"
)
"""Among what LLVM calls features of a processor, those that a program needs rather than likes."""


@dataclass(frozen=True)
class Target:
    """A processor: ``kind`` is ``"cpu"``; ``mcpu`` its LLVM name; ``triple`` the LLVM target triple; ``threads`` how many of
    its cores a call will use, which decides how work is cut but not what is computed.
    """

    kind: str
    mcpu: str
    triple: str
    threads: int = 1

    @cached_property
    def tvm(self) -> Any:
        """The TVM target."""
        return tvm.target.Target({"kind": "llvm", "mcpu": self.mcpu, "mtriple": self.triple, "opt-level": 3})

    @cached_property
    def features(self) -> frozenset[str]:
        """The instruction sets of ``mcpu`` by LLVM's names, such as ``avx2``; hints on how to tune for it are left out."""
        with self.tvm:
            found = tvm_ffi.get_global_func("target.llvm_get_cpu_features")(self.tvm)
        return frozenset(str(f) for f in found if INSTRUCTION_SETS.fullmatch(str(f)))

    @property
    def family(self) -> str:
        """The instruction set, as triples name it: ``x86_64``, ``aarch64``."""
        family = self.triple.partition("-")[0]
        return {"arm64": "aarch64", "amd64": "x86_64"}.get(family, family)

    def lacks(self, family: str, features: Iterable[str]) -> str:
        """What code of a family that uses some features needs and this processor has not; empty when it can run here."""
        if family != self.family:
            return f"the instruction set {family} (this is {self.family})"
        return ", ".join(sorted(set(features) - self.features))

    @property
    def vector_bits(self) -> int:
        """The width of a vector register."""
        if "avx512f" in self.features:
            return 512
        return 256 if "avx" in self.features else 128

    @property
    def vector_registers(self) -> int:
        """How many vector registers the instruction set has."""
        return 32 if "avx512f" in self.features or self.triple.startswith(("aarch64", "arm64")) else 16

    @property
    def machine(self) -> Machine:
        """The numbers that cost models read."""
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
        """Two fused multiply-adds of a vector; Zen 4 and its kin take two cycles for sixteen float32."""
        bits = min(self.vector_bits, 256) if self.mcpu in ("znver4", "x86-64-v4") else self.vector_bits
        return 2 * 2 * bits / 32

    @property
    def cache_bytes(self) -> int:
        """The second-level cache that one thread may count on."""
        return 512 * 1024 if "avx512f" not in self.features else 1024 * 1024

    def lanes(self, dtype_bits: int = 32) -> int:
        """Elements a vector register holds."""
        return self.vector_bits // dtype_bits


DOT4 = {"avx512vnni", "avx512vl"}
"""What a processor must have for the functions of ``byte_math.py``."""
X86_LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
"""The levels of the x86-64 psABI, which LLVM knows as processors."""
AARCH64 = ("aarch64", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-n2", "neoverse-v1")
"""The 64-bit Arm architecture as its version 8.0 has it, and processors by LLVM's names."""


def host_target(threads: int = 1) -> Target:
    """The processor of this machine."""
    cpu = str(tvm_ffi.get_global_func("target.llvm_get_system_cpu")())
    triple = str(tvm_ffi.get_global_func("target.llvm_get_system_triple")())
    return Target("cpu", cpu, triple, threads)


def parse_target(name: str, threads: int = 1) -> Target:
    """A target by name: ``cpu`` or ``native``, this machine; a level of x86-64; ``aarch64`` or a processor of that kind.

    Those for another machine need not be able to run here. Raises ``CompileError`` for one that convc does not know.
    """
    host = host_target(threads)
    if name in ("cpu", "native"):
        return host
    if name in X86_LEVELS:
        return Target("cpu", name, _triple("x86_64", host), threads)
    if name in AARCH64:
        return Target("cpu", "generic" if name == "aarch64" else name, _triple("aarch64", host), threads)
    raise CompileError(f"unknown target '{name}'; known: {', '.join(('cpu', 'native', *X86_LEVELS, *AARCH64))}")


def parse_targets(names: str, threads: int = 1) -> tuple[Target, ...]:
    """Targets by names between commas, each once; raises ``CompileError`` as ``parse_target`` does."""
    return tuple(dict.fromkeys(parse_target(name, threads) for name in names.split(",")))


def _triple(family: str, host: Target) -> str:
    return host.triple if host.family == family else f"{family}-unknown-linux-gnu"
