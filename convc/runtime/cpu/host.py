"""The processor of this machine and its instruction sets, as the operating system reports them."""

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
"""The instruction sets that code can need: LLVM's name of each, and the name in Linux's /proc/cpuinfo."""
_ALWAYS = {
    "x86_64": frozenset(["64bit", "cmov", "cx8", "mmx", "fxsr", "x87", "sse", "sse2"]),
    "aarch64": frozenset(["fp-armv8", "neon"]),
}
"""The instruction sets that every processor of a family has.

They are all that is known where the system reports nothing.
"""


@dataclass(frozen=True)
class Host:
    """A processor: its family as in LLVM's triples, its product name, and its instruction sets by LLVM's names."""

    family: str
    name: str
    features: frozenset[str]

    def lacks(self, family: str, features: Iterable[str]) -> str:
        """The instruction sets that code needs and this processor lacks, as text; empty when it can run the code.

        ``family`` and ``features`` are those that the code was compiled for.
        """
        if family != self.family:
            return f"the instruction set {family} (this is {self.family})"
        return ", ".join(sorted(set(features) - self.features))


def family_of(machine: str) -> str:
    """The name of a family of processors in LLVM's triples: ``x86_64`` for ``amd64``, ``aarch64`` for ``arm64``."""
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine.lower())


@cache
def host() -> Host:
    """The processor of this machine.

    Where /proc/cpuinfo cannot be read, its features are those that every processor of its family has.
    """
    family = family_of(platform.machine())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return described_by(family, lines)


def described_by(family: str, lines: Iterable[str]) -> Host:
    """The processor that the lines of /proc/cpuinfo describe. A feature counts when every listed processor has it."""
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
