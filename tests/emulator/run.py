"""Compile translated CUDA with g++ and run its launches in a process of their own."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convc.backends.cuda.launch import DeviceCode, Launch

from .errors import EmulationError
from .memory import Memory
from .source import kernels, translate

HEADERS = Path(__file__).parent / "cuda"
FLAGS = (
    "-std=c++17", "-O1", "-w", "-fno-strict-aliasing", "-ffp-contract=fast",
    "-fsanitize=alignment", "-fno-sanitize-recover=alignment", "-static-libubsan",
    "-ftrivial-auto-var-init=pattern",  # a register read before it is written holds 0xFE: NaN in half precision, -1.7e38 in single
)  # fmt: skip
NATIVE = ("-march=native",)


def run(code: DeviceCode, arguments: Sequence[np.ndarray]) -> None:
    """Run a group's launches on its arguments (inputs, then outputs), which are C-contiguous; outputs are written in place.

    Outputs start as NaN, and so does scratch memory. Raises ``EmulationError``: PTX that is not known, a divergent barrier, an
    unaligned access, a write out of bounds.
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
    """A launch as the program reads it; the last of ``offsets`` is that of the scratch memory."""
    places = [offsets[i] if i >= 0 else offsets[-1] - 1 - i for i in launch.arguments]
    return " ".join(map(str, (launch.kernel, *launch.grid, *launch.block, launch.shared, *places)))


def execute(program: Path, memory: Memory, launches: Sequence[str]) -> None:
    """Run launches in turn, and look at the red zones; raises ``EmulationError``."""
    done = subprocess.run([program, memory.path, *launches], capture_output=True, text=True, check=False)
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise EmulationError(f"{[t.split()[0] for t in launches]}: {done.stderr.strip() or how}")
    memory.check()


@functools.cache
def _folder() -> Path:
    """Where programs are kept while this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="convc_emulator_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def program(source: str) -> Path:
    """The executable that runs the kernels of a CUDA source; raises ``EmulationError`` when it does not compile."""
    table = ", ".join(f'{{"{k}", Caller<{k}>::run, Caller<{k}>::PARAMETERS}}' for k in kernels(source))
    table = f"namespace emulator {{ const Kernel kernels[] = {{{table}, {{}}}}; }}"
    text = f'#include "shim.h"\n{translate(source)}\n#include "main.h"\n{table}\n'
    path = _folder() / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not path.exists():
        _compile(text, path)
    return path


def _compile(text: str, path: Path) -> None:
    source = path.with_suffix(".cpp")
    source.write_text(text)
    command = ["g++", *FLAGS, *NATIVE, f"-I{HEADERS}", "-o", str(path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"{' '.join(command)} failed:\n{done.stderr[:4000]}")
