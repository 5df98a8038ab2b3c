"""Linking machine code to a shared library, for this machine or another, and loading one from memory."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from convc.ir.errors import ArtifactError

from .target import Target

_HERE = ("g++", "c++", "clang++", "gcc", "cc", "clang")
_INSTALL = "Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install"


def link(module: Any, target: Target, host: Target) -> bytes:
    """The shared library of a module of machine code, the same bytes whenever and wherever it is linked.

    Raises ``ArtifactError`` when there is nothing that links for the target, naming what to install.
    """
    command = [*_linker(target, host), "-shared", "-o", "model.so", "-s", "model.o"]  # symbols are half of it
    try:
        with tempfile.TemporaryDirectory(prefix="convc-") as folder:
            module.write_to_file(str(Path(folder) / "model.o"))
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                raise ArtifactError(f"{command[0]} failed to link the artifact: {(done.stderr or done.stdout).strip()}")
            return (Path(folder) / "model.so").read_bytes()
    except OSError as e:
        raise ArtifactError(f"cannot link the artifact in a temporary folder: {e}") from None


def _linker(target: Target, host: Target) -> list[str]:
    """The command that links code for a target: a C compiler, which knows how, or a linker by itself."""
    if target.family == host.family:
        found = next((c for c in (os.environ.get("CXX", ""), *_HERE) if c and shutil.which(c)), None)
        if found is None:
            raise ArtifactError(
                f"saving links a shared library and needs a C compiler, and none is on PATH: install one ({_INSTALL})"
            )
        return [found]
    triple = f"{target.family}-linux-gnu"
    zig = ["cc", "-target", triple, "-nostdlib"]
    crossing = [[f"{triple}-g++"], [f"{triple}-gcc"], [f"{triple}-ld"], ["ld.lld"], ["zig", *zig]]
    for command in crossing:
        if shutil.which(command[0]):
            return command
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", *zig]
    raise ArtifactError(
        f"linking for {target.family} on {host.family} needs a linker that can, and none of "
        f"{', '.join(c[0] for c in crossing)} is on PATH: install one (pip install ziglang; Debian, Ubuntu: apt-get "
        f"install lld, or gcc-{target.family.replace('_', '-')}-linux-gnu)"
    )
