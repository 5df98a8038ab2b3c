"""The targets of the CPU backend by name; TVM is not needed to know them."""

from __future__ import annotations

HERE = ("cpu", "native")
"""What this machine's own processor is called."""
X86_LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
"""The levels of the x86-64 psABI, which LLVM knows as processors."""
AARCH64 = ("aarch64", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-n2", "neoverse-v1")
"""The 64-bit Arm architecture as its version 8.0 has it, and processors by LLVM's names."""
NAMES = (*HERE, *X86_LEVELS, *AARCH64)
"""Every target."""
