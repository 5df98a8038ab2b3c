"""Linking machine code to a shared library, for this machine or for another processor."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys

from convc.ir.errors import ArtifactError
from convc.runtime.cpu.host import host
from convc.runtime.files import temporary_folder
from convc.runtime.interrupts import interrupts_kept

from .machine_code import MachineCode

_HERE = ("g++", "c++", "clang++", "gcc", "cc", "clang")
_INSTALL = "Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install"
_EXPORTS = "{ global: convc_*; local: *; };"
"""A version script for the linker, by which the library exports only the functions of convc."""


def link(code: MachineCode) -> bytes:
    """Link machine code to a shared library, and return its bytes.

    The bytes are the same whenever and wherever it is linked. Raises ``ArtifactError`` when linking fails, and when no
    linker for the target is found; the message then names what to install.
    """
    family = code.target.family
    try:
        with temporary_folder() as folder, interrupts_kept():
            objects = [path.name for path in code.write(folder)]
            (folder / "exports").write_text(_EXPORTS)
            command = [*linker(family, host().family), *objects]
            caches = dict.fromkeys(
                ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(folder)
            )  # zig's home may be missing
            done = subprocess.run(
                command,
                cwd=folder,
                env={**caches, **os.environ},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode:
                name = "zig" if "ziglang" in command else command[0]
                raise ArtifactError(f"{name} failed to link the artifact: {(done.stderr or done.stdout).strip()}")
            return (folder / "model.so").read_bytes()
    except OSError as e:
        raise ArtifactError(f"cannot link the artifact in a temporary folder: {e}") from None


_OPTIONS = ["-shared", "-o", "model.so", "-s"]  # without symbols for debuggers, which would be half of the file
_AS_COMPILER = [*_OPTIONS, "-nostdlib", "-Wl,--version-script=exports"]
"""Options for a C compiler. The C library is not linked, since every process has it when the artifact is loaded."""
_AS_LINKER = [*_OPTIONS, "--version-script=exports"]


def linker(family: str, here: str) -> list[str]:
    """The command that links code for a family of processors on a machine of the family ``here``.

    It runs a C compiler, which runs the linker, or a linker itself; zig is also found as the Python package
    ``ziglang``. Raises ``ArtifactError`` when there is none.
    """
    triple = f"{family}-linux-gnu"
    zig = ["cc", "-target", triple, *_AS_COMPILER]
    if family == here:
        own = shlex.split(os.environ.get("CXX", ""))
        commands = [[*c, *_AS_COMPILER] for c in (own, *([c] for c in _HERE)) if c]
        commands += [["ld.lld", *_AS_LINKER], ["ld", *_AS_LINKER], ["zig", *zig]]
    else:
        commands = [[f"{triple}-g++", *_AS_COMPILER], [f"{triple}-gcc", *_AS_COMPILER]]
        commands += [[f"{triple}-ld", *_AS_LINKER], ["ld.lld", *_AS_LINKER], ["zig", *zig]]
    for command in commands:
        if shutil.which(command[0]):
            return command
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", *zig]
    tried = ", ".join(c[0] for c in commands)
    if family == here:
        raise ArtifactError(
            "saving links a shared library and needs a C compiler or a linker, and none is on PATH "
            f"({tried}): pip install ziglang, or install a compiler ({_INSTALL})"
        )
    raise ArtifactError(
        f"linking for {family} on {here} needs a linker that can, and none of {tried} is on PATH: install one (pip "
        f"install ziglang; Debian, Ubuntu: apt-get install lld, or gcc-{family.replace('_', '-')}-linux-gnu)"
    )
