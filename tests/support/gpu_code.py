"""Inspection of machine code for GPUs."""

from __future__ import annotations

import re
import struct


def architecture_of(code: bytes) -> str:
    """The architecture of code: ``sm_80`` by the flags of an ELF header, or ``compute_75`` for PTX."""
    if code[:4] == b"\x7fELF":
        return f"sm_{struct.unpack_from('<I', code, 48)[0] >> 8 & 0xFF}"
    found = re.search(rb"^\.target sm_(\d+)", code, re.MULTILINE)
    assert found is not None
    return f"compute_{found[1].decode()}"
