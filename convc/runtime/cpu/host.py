"""The processor of this machine: which instruction sets it has, as the system says."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_X86 = {
    "64bit": "lm", "cmov": "cmov", "cx8": "cx8", "cx16": "cx16", "mmx": "mmx", "fxsr": "fxsr", "sahf": "lahf_lm",
    "x87": "fpu", "crc32": "sse4_2", "popcnt": "popcnt", "lzcnt": "abm", "movbe": "movbe", "adx": "adx", "aes": "aes",
    "pclmul": "pclmulqdq", "sha": "sha_ni", "gfni": "gfni", "f16c": "f16c", "fma": "fma", "fma4": "fma4", "xop": "xop",
    "bmi": "bmi1", "bmi2": "bmi2", "tbm": "tbm", "sse": "sse", "sse2": "sse2", "sse3": "pni", "ssse3": "ssse3",
    "sse4a": "sse4a", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "avx": "avx", "avx2": "avx2", "avxvnni": "avx_vnni",
    "avxifma": "avx_ifma", "avxneconvert": "avx_ne_convert", "avxvnniint8": "avx_vnni_int8",
    "avxvnniint16": "avx_vnni_int16", "vaes": "vaes", "vpclmulqdq": "vpclmulqdq",
    "avx512f": "avx512f", "avx512dq": "avx512dq", "avx512cd": "avx512cd", "avx512bw": "avx512bw",
    "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16", "avx512vp2intersect": "avx512_vp2intersect",
}  # fmt: skip
_ARM = {
    "fp-armv8": "fp", "neon": "asimd", "fullfp16": "asimdhp", "dotprod": "asimddp", "bf16": "bf16", "i8mm": "i8mm",
    "lse": "atomics", "rdm": "asimdrdm", "rcpc": "lrcpc", "crc": "crc32", "sve": "sve", "sve2": "sve2", "sme": "sme",
}  # fmt: skip
FEATURES = {"x86_64": _X86, "aarch64": _ARM}
"""The instruction sets that code can need, by LLVM's name for each, and the name that Linux has for it in /proc/cpuinfo."""
_ALWAYS = {
    "x86_64": frozenset(["64bit", "cmov", "cx8", "mmx", "fxsr", "x87", "sse", "sse2"]),
    "aarch64": frozenset(["fp-armv8", "neon"]),
}
"""What every processor of a family has, for systems that do not say more."""


@dataclass(frozen=True)
class Host:
    """A processor: its family as LLVM's triples name it, what it is called, and its instruction sets by LLVM's names."""

    family: str
    name: str
    features: frozenset[str]

    def lacks(self, family: str, features: Iterable[str]) -> str:
        """What code of a family that uses some features needs and this processor has not; empty when it can run here."""
        if family != self.family:
            return f"the instruction set {family} (this is {self.family})"
        return ", ".join(sorted(set(features) - self.features))


def family_of(machine: str) -> str:
    """A family of processors by the name that LLVM's triples have for it: ``x86_64`` for ``amd64``, ``aarch64`` for ``arm64``."""
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine.lower())


@cache
def host() -> Host:
    """The processor of this machine, as Linux describes it; elsewhere it has what every processor of its family has."""
    family = family_of(platform.machine())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return described_by(family, lines)


def described_by(family: str, lines: Iterable[str]) -> Host:
    """The processor that the lines of /proc/cpuinfo describe. A feature counts when every processor listed has it."""
    found: list[set[str]] = []
    name = family
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            found.append(set(value.split()))
        elif key.strip() == "model name":
            name = value.strip() or family
    flags = set.intersection(*found) if found else set()
    features = {llvm for llvm, linux in FEATURES.get(family, {}).items() if linux in flags}
    return Host(family, name, frozenset(features) | _ALWAYS.get(family, frozenset()))
