"""Relocatable objects made of LLVM IR, as TVM's LLVM writes them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from convc.backends.cpu.carried import ir_module
from convc.backends.cpu.target import parse_target

TARGETS = {"x86_64": "x86-64-v2", "aarch64": "aarch64"}
"""A plain target of each family."""


def object_of(text: str, family: str) -> bytes:
    """The object file of a module of LLVM IR."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.o"
        ir_module(text, parse_target(TARGETS[family])).write_to_file(str(path))
        return path.read_bytes()
