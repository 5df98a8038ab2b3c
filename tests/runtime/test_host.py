"""The processor of this machine, as Linux describes it."""

from __future__ import annotations

from convc.backends.cpu.target import X86_LEVELS, host_target, parse_target
from convc.runtime.cpu.host import FEATURES, described_by, host

ZEN4 = """processor\t: 0
model name\t: AMD EPYC 9B14
flags\t\t: fpu cx8 cmov mmx fxsr sse sse2 pni ssse3 sse4_1 sse4_2 lahf_lm abm avx avx2 avx512f avx512_vnni lm

processor\t: 1
model name\t: AMD EPYC 9B14
flags\t\t: fpu cx8 cmov mmx fxsr sse sse2 pni ssse3 sse4_1 sse4_2 lahf_lm abm avx avx2 lm
"""
GRAVITON = """processor\t: 0
Features\t: fp asimd evtstrm aes atomics fphp asimdhp asimdrdm lrcpc asimddp sve
"""


def test_a_feature_counts_when_every_processor_has_it() -> None:
    found = described_by("x86_64", ZEN4.splitlines())
    assert found.name == "AMD EPYC 9B14"
    assert {"sse3", "sse4.1", "crc32", "sahf", "lzcnt", "avx2", "64bit"} <= found.features
    assert not found.features & {"avx512f", "avx512vnni"}


def test_arm() -> None:
    found = described_by("aarch64", GRAVITON.splitlines())
    assert found.features == {"fp-armv8", "neon", "lse", "fullfp16", "rdm", "rcpc", "dotprod", "sve"}
    assert found.lacks("aarch64", ["neon", "i8mm", "bf16"]) == "bf16, i8mm"
    assert found.lacks("x86_64", []) == "the instruction set x86_64 (this is aarch64)"


def test_a_system_that_does_not_say_has_what_its_family_has() -> None:
    assert "sse2" in described_by("x86_64", []).features
    assert "avx" not in described_by("x86_64", []).features


def test_the_native_target_needs_nothing_that_the_host_lacks() -> None:
    """LLVM names the processor; a virtual machine may hide some of its features."""
    target = host_target()
    assert not host().lacks(target.family, target.features)
    assert target.features


def test_every_named_feature_is_one_of_llvm() -> None:
    known = set().union(*(parse_target(name).features for name in (*X86_LEVELS, "neoverse-v1", "neoverse-n2")))
    assert {"sse4.2", "avx2", "avx512vl", "neon", "sve"} <= known
    assert known <= set(FEATURES["x86_64"]) | set(FEATURES["aarch64"])
