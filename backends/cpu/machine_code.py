"""Machine code that was just compiled: run as it lies in memory, or written as an object file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import tvm_ffi

from convc.runtime.cpu.code import SIGNATURE, Function
from convc.runtime.cpu.pool import LAUNCH, NEW

from .lower import DIRECTORY
from .target import Target

_load_ir = tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")


class Family(NamedTuple):
    """What LLVM IR says of a family of processors: its data layout, and the instruction for a loop that waits."""

    layout: str
    pause: str

    def header(self, triple: str) -> str:
        """What begins IR for a target, so that it is compiled for that one and not for this machine."""
        target = json.dumps({"kind": "llvm", "mtriple": triple}).replace('"', r"\22")
        return (
            f'target datalayout = "{self.layout}"\ntarget triple = "{triple}"\n'
            f'!llvm.module.flags = !{{!0}}\n!0 = !{{i32 2, !"tvm_target", !"{target}"}}'
        )


FAMILIES = {
    "x86_64": Family("e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128", "pause"),
    "aarch64": Family(
        "e-m:e-p270:32:32-p271:32:32-p272:64:64-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128-Fn32", "yield"
    ),
}


class MachineCode:
    """A module of machine code for a target.

    Its functions can be called when the target is this processor, and as long as this object lives.
    """

    def __init__(self, module: Any, functions: tuple[str, ...], target: Target, parallel: bool) -> None:
        """``functions`` are the exported ones, in the order of ``lower.directory``; ``parallel`` code needs the thread pool."""
        self._module = module
        self._places = {name: i for i, name in enumerate(functions)}
        self.target = target
        self._parallel = parallel
        self._pool: Any = None

    def function(self, name: str) -> Function:
        """The function of this name; raises ``LookupError`` when there is none."""
        return SIGNATURE(self.address(name))

    def address(self, name: str) -> int:
        """Where a function lies; raises ``LookupError`` when there is none."""
        if name in (NEW, LAUNCH):
            if self._pool is None:
                self._pool = pool_module(self.target)
            return int(self._pool[name]())
        return int(self._module[DIRECTORY](self._places[name]))

    def write(self, folder: Path) -> list[Path]:
        """Write the object files that a shared library of the code is linked from; the exported symbols begin with ``convc_``."""
        modules = {"model.o": self._module} | ({"pool.o": pool_module(self.target)} if self._parallel else {})
        for name, module in modules.items():
            module.write_to_file(str(folder / name))
        return [folder / name for name in modules]


def pool_module(target: Target) -> Any:
    """The thread pool of the runtime as a module for a target."""
    text = (Path(__file__).parent / "pool.ll").read_text(encoding="utf-8")
    family = FAMILIES[target.family]
    text = f"{family.header(target.triple)}\n{text.replace('@PAUSE@', family.pause)}"
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        path = Path(folder) / "pool.ll"
        path.write_text(text, encoding="utf-8")
        return _load_ir(str(path), "ll")
