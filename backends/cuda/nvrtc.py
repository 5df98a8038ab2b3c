"""Compile CUDA source by NVRTC from pip packages alone: no driver, no toolkit, no host compiler.

NVRTC is called directly by ctypes, which lets other Python threads run meanwhile. It compiles for one caller at a time.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from convc.ir.errors import CompileError

VERSION = "13.0"
"""The CUDA release of the compiler. Its PTX needs a driver of the same release or newer."""
OPTIONS = (
    "--std=c++17",
    "--ptxas-options=-v",
    "--ptxas-options=--register-usage-level=0",  # otherwise ptxas spills some kernels to fit one more block
    "--diag-suppress=177,1444",
)
"""Compiler options. Fast math stays off, since results must not depend on it. Two warnings are off: they are about
functions that a kernel does not use, and about names that TVM chooses.
"""


@dataclass(frozen=True)
class Figures:
    """What a kernel takes of a multiprocessor, as ptxas reports it.

    ``registers`` is per thread; ``shared`` is bytes of static shared memory per block; ``spills`` is bytes written and
    read to memory for want of registers; ``stack`` is bytes of stack per thread.
    """

    registers: int
    shared: int
    spills: int
    stack: int


@dataclass(frozen=True)
class Compiled:
    """A cubin, or PTX that ends with a zero byte, and the figures of its kernels by name (none for PTX)."""

    code: bytes
    figures: Mapping[str, Figures]


def compile_source(source: str, arch: str, name: str) -> Compiled:
    """Compile to a cubin for ``sm_80`` and the like, or to PTX for ``compute_75`` and the like.

    ``name`` is what error messages call the kernel. Where a kernel spills because ptxas aims for more blocks at once
    than its registers admit, it is compiled again with a bound of one block. Raises ``CompileError`` with the
    compiler's first error message, or with the package that is missing.
    """
    compiled = _compile(source, arch, name)
    if not any(f.spills for f in compiled.figures.values()):
        return compiled
    return _compile(_BOUNDS.sub(r"__launch_bounds__(\1, 1)", source), arch, name)


_BOUNDS = re.compile(r"__launch_bounds__\((\d+)\)")


def _compile(source: str, arch: str, name: str) -> Compiled:
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"convc.cu", 0, None, None), "start")
    try:
        options = [o.encode() for o in (f"--gpu-architecture={arch}", f"--include-path={_headers()}", *OPTIONS)]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _text(nvrtc, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if failed:
            raise CompileError(f"NVRTC cannot compile kernel {name} for {arch}: {_first_error(log)}")
        return Compiled(_text(nvrtc, program, "CUBIN" if arch.startswith("sm_") else "PTX"), figures(log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: Any, program: Any, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), what)
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(nvrtc, f"nvrtcGet{what}")(program, buffer), what)
    return buffer.raw


def _check(status: int, what: str) -> None:
    if status:
        raise CompileError(f"NVRTC failed ({what}): error {status}")


def _first_error(log: str) -> str:
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "it gives no reason")


_ENTRY = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)
_SHARED = re.compile(r"(\d+) bytes smem")


def figures(log: str) -> dict[str, Figures]:
    """The figures of each kernel, parsed from the report of ptxas."""
    found = {}
    for name, stack, stores, loads, registers, rest in _ENTRY.findall(log):
        shared = _SHARED.search(rest)
        found[name] = Figures(int(registers), int(shared[1]) if shared else 0, int(stores) + int(loads), int(stack))
    return found


# -- the packages ----------------------------------------------------------------------------------------------------


_INSTALL = f"pip install 'nvidia-cuda-nvrtc=={VERSION}.*' 'nvidia-cuda-runtime=={VERSION}.*'"


def require() -> None:
    """Raise ``CompileError`` when a package that compiling needs is missing."""
    _nvrtc()
    _headers()


@cache
def _nvrtc() -> Any:
    built_in = _file("nvidia-cuda-nvrtc", r"libnvrtc-builtins\.so\.13\.0|nvrtc-builtins64_130\.dll")
    library = _file("nvidia-cuda-nvrtc", r"libnvrtc\.so\.13|nvrtc64_130_0\.dll")
    try:
        ctypes.CDLL(str(built_in))  # NVRTC loads it by name, and it is on no search path
        return ctypes.CDLL(str(library))
    except OSError as e:
        raise CompileError(f"{library} cannot be loaded: {e}") from None


@cache
def _headers() -> Path:
    """The folder of CUDA's header for float16, the only header that kernels include."""
    return _file("nvidia-cuda-runtime", r"cuda_fp16\.h").parent


def _file(package: str, pattern: str) -> Path:
    """The path of a package's file whose name matches ``pattern``.

    Raises ``CompileError`` with the command that installs what is missing.
    """
    try:
        version, files = metadata.version(package), metadata.files(package) or ()
    except metadata.PackageNotFoundError:
        raise CompileError(
            f"compiling for a GPU needs the package {package}, which is not installed: {_INSTALL}"
        ) from None
    if not version.startswith(VERSION + "."):
        raise CompileError(f"{package} is {version}, and convc needs {VERSION}: {_INSTALL}")
    for file in files:
        path = Path(str(file.locate()))
        if re.fullmatch(pattern, file.name) and path.exists():
            return path
    raise CompileError(f"{package} {version} is not complete: {_INSTALL} --force-reinstall")
