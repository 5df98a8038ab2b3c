"""What a backend compiles for: a description of the machine that schedules and cost models read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tvm
import tvm_ffi

from convc.ir.errors import CompileError
from convc.ir.machine import Machine


@dataclass(frozen=True)
class Target:
    """A processor: ``kind`` is ``"cpu"``; ``mcpu`` its LLVM name; ``triple`` the LLVM target triple."""

    kind: str
    mcpu: str
    triple: str

    @cached_property
    def tvm(self) -> Any:
        """The TVM target."""
        return tvm.target.Target({"kind": "llvm", "mcpu": self.mcpu, "mtriple": self.triple, "opt-level": 3})

    @cached_property
    def features(self) -> frozenset[str]:
        """The LLVM features of ``mcpu``, such as ``avx2``."""
        with self.tvm:
            found = tvm_ffi.get_global_func("target.llvm_get_cpu_features")(self.tvm)
        return frozenset(str(f) for f in found)

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
        return Machine(self.lanes(), self.vector_registers, self.cache_bytes)

    @property
    def cache_bytes(self) -> int:
        """The second-level cache that one thread may count on."""
        return 512 * 1024 if "avx512f" not in self.features else 1024 * 1024

    def lanes(self, dtype_bits: int = 32) -> int:
        """Elements a vector register holds."""
        return self.vector_bits // dtype_bits


def host_target() -> Target:
    """The processor of this machine."""
    cpu = str(tvm_ffi.get_global_func("target.llvm_get_system_cpu")())
    triple = str(tvm_ffi.get_global_func("target.llvm_get_system_triple")())
    return Target("cpu", cpu, triple)


def parse_target(name: str) -> Target:
    """A target by name; raises ``CompileError`` for one that convc does not know."""
    if name in ("cpu", "native"):
        return host_target()
    raise CompileError(f"unknown target '{name}'; known: cpu")
