"""Compiling translated CUDA with g++, and running its launches in a separate process."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convc.backends.cuda.launch import DeviceCode, Launch

from .errors import EmulationError
from .memory import Memory
from .source import kernels, translate

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-w", "-fno-strict-aliasing", "-march=native", f"-I{HERE / 'cuda'}")
RUNTIME_FLAGS = ("-O2",)
KERNEL_FLAGS = (
    "-O1", "-fsanitize=alignment", "-fno-sanitize-recover=alignment", "-ffp-contract=fast",
    # a register read before it is written holds 0xFE: NaN in half precision, -1.7e38 in single
    "-ftrivial-auto-var-init=pattern",
)  # fmt: skip
WATCHED = ("-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0")
"""The compiler options that report each access to the runtime. The thread sanitizer's own library is not linked."""

_lock = threading.Lock()


def run(code: DeviceCode, arguments: Sequence[np.ndarray]) -> None:
    """Run the launches of a group on its arguments, first inputs and then outputs, which are C-contiguous.

    Outputs are written in place. Scratch memory starts as NaN. Raises ``EmulationError`` for unknown PTX, divergent
    barriers, unaligned or out-of-bounds accesses, and races.
    """
    sizes = [*(a.nbytes for a in arguments), code.scratch]
    memory = Memory(Memory.needed(sizes))
    try:
        offsets = [memory.allocate(size) for size in sizes]
        for array, at in zip(arguments, offsets, strict=False):
            memory.bytes[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
        execute(program(code.source), memory, [launch_text(launch, offsets) for launch in code.launches])
        for array, at in zip(arguments, offsets, strict=False):
            array.reshape(-1).view(np.uint8)[:] = memory.bytes[at : at + array.nbytes]
    finally:
        memory.close()


def launch_text(launch: Launch, offsets: Sequence[int]) -> str:
    """A launch as text that the program reads. The last of ``offsets`` is that of the scratch memory."""
    places = [offsets[i] if i >= 0 else offsets[-1] - 1 - i for i in launch.arguments]
    return " ".join(map(str, (launch.kernel, *launch.grid, *launch.block, launch.shared, *places)))


def execute(program: Path, memory: Memory, launches: Sequence[str]) -> None:
    """Run launches in turn, and check the red zones. Raises ``EmulationError``."""
    buffers = " ".join(f"{start} {start + size}" for start, size in memory.buffers.items())
    done = subprocess.run([program, memory.path, buffers, *launches], capture_output=True, text=True, check=False)
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise EmulationError(f"{[t.split()[0] for t in launches]}: {done.stderr.strip() or how}")
    memory.check()


@functools.cache
def _folder() -> Path:
    """The folder of programs, with the runtime and the precompiled header that they share.

    It is deleted when this process ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="convc_emulator_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _compile(*RUNTIME_FLAGS, "-c", HERE / "runtime" / "runtime.cpp", "-o", folder / "runtime.o")
    _compile(*KERNEL_FLAGS, *WATCHED, "-x", "c++-header", HERE / "cuda" / "shim.h", "-o", folder / "shim.h.gch")
    return folder


def program(source: str) -> Path:
    """The executable that runs the kernels of a CUDA source. Raises ``EmulationError`` when it does not compile."""
    table = ", ".join(f'{{"{k}", Caller<{k}>::run, Caller<{k}>::PARAMETERS}}' for k in kernels(source))
    table = f"namespace emulator {{ const Kernel kernels[] = {{{table}, {{}}}}; }}"
    text = f'#include "shim.h"\n{translate(source)}\n{table}\n'
    with _lock:
        folder = _folder()
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not path.exists():
        cpp, compiled = path.with_suffix(".cpp"), path.with_suffix(".o")
        cpp.write_text(text)
        _compile(f"-I{folder}", *KERNEL_FLAGS, *WATCHED, "-c", cpp, "-o", compiled)
        _compile(*KERNEL_FLAGS, "-static-libubsan", compiled, folder / "runtime.o", "-o", path)
    return path


def _compile(*options: str | Path) -> None:
    if shutil.which("g++") is None:
        raise EmulationError("the emulator compiles kernels with g++ 12 or newer, and none is on PATH")
    command = ["g++", *map(str, options[:1]), *FLAGS, *map(str, options[1:])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"{' '.join(command)} failed:\n{done.stderr[:4000]}")
