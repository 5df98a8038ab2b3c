"""Machine code that was just compiled, which runs in memory or is written as object files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convc.ir.errors import ArtifactError
from convc.runtime.cpu.code import SIGNATURE, Function
from convc.runtime.cpu.pool import LAUNCH, NEW
from convc.runtime.files import temporary_folder
from convc.runtime.interrupts import interrupts_kept

from .lower import DIRECTORY
from .pool import pool_module
from .target import Target


class MachineCode:
    """Machine code for a target, with the interface of ``convc.runtime.cpu.code.Code``.

    Its functions can be called when the target is this processor, as long as this object lives.
    """

    def __init__(self, module: Any, functions: tuple[str, ...], target: Target, parallel: bool) -> None:
        """``functions`` are the exported functions, in the order that ``lower.directory`` was given.

        ``parallel`` tells whether the code needs the thread pool.
        """
        self._module = module
        self._places = {name: i for i, name in enumerate(functions)}
        self.target = target
        self._parallel = parallel
        self._pool: Any = None

    def function(self, name: str) -> Function:
        """The function of this name. Raises ``LookupError`` when there is none."""
        return SIGNATURE(self.address(name))

    def address(self, name: str) -> int:
        """The address of the function of this name. Raises ``LookupError`` when there is none."""
        if name in (NEW, LAUNCH):
            if self._pool is None:
                self._pool = pool_module(self.target)
            return int(self._pool[name]())
        return int(self._module[DIRECTORY](self._places[name]))

    def assembly(self) -> str:
        """The code in the target's assembly language."""
        return str(self._module.inspect_source("asm"))

    def objects(self) -> list[bytes]:
        """The object files of a shared library, whose exported symbols begin with ``convc_``.

        Raises ``ArtifactError`` when LLVM has no folder to write them to.
        """
        try:
            with temporary_folder() as folder, interrupts_kept():
                return [path.read_bytes() for path in self._write(folder)]
        except OSError as e:
            raise ArtifactError(f"cannot write machine code to a temporary folder: {e}") from None

    def _write(self, folder: Path) -> list[Path]:
        modules = {"model.o": self._module} | ({"pool.o": pool_module(self.target)} if self._parallel else {})
        for name, module in modules.items():
            module.write_to_file(str(folder / name))
        return [folder / name for name in modules]
