"""The names of the targets of the CPU backend. TVM is not imported."""

from __future__ import annotations

HERE = ("cpu", "native")
"""The names for this machine's own processor."""
X86_LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
"""The levels of the x86-64 psABI, which LLVM takes as names of processors."""
AARCH64 = ("aarch64", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-n2", "neoverse-v1")
"""The 64-bit Arm architecture of version 8.0, and processors of that architecture by LLVM's names."""
NAMES = (*HERE, *X86_LEVELS, *AARCH64)
"""The names of all targets."""
