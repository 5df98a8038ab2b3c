"""Machine code that was just compiled: object files, which are linked to run or to be saved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from convc.ir.errors import ArtifactError
from convc.runtime.cpu.code import Function, Library
from convc.runtime.files import temporary_folder

from .elf.link import link
from .target import Target


class MachineCode:
    """Machine code for a target, with the interface of ``convc.runtime.cpu.code.Code``.

    Its functions can be called when the target is this processor, as long as this object lives.
    """

    def __init__(self, objects: Sequence[bytes], target: Target) -> None:
        self._objects = tuple(objects)
        self.target = target

    @cached_property
    def library(self) -> bytes:
        """The shared library. Raises ``ArtifactError`` when linking fails."""
        return link(self._objects, self.target.family)

    @cached_property
    def _loaded(self) -> Library:
        try:
            return Library(self.library)
        except OSError as e:
            raise ArtifactError(f"this process may not load the code that was compiled: {e}") from None

    def function(self, name: str) -> Function:
        """The function of this name.

        Raises ``LookupError`` when there is none, and ``ArtifactError`` when the dynamic loader refuses the code.
        """
        return self._loaded.function(name)

    def address(self, name: str) -> int:
        """The address of the function of this name. Raises ``LookupError`` when there is none."""
        return self._loaded.address(name)


def object_of(module: Any) -> bytes:
    """The object file of a module that TVM generated.

    Raises ``ArtifactError`` when LLVM has no folder to write it to.
    """
    try:
        with temporary_folder() as folder:
            path = folder / "kernel.o"
            module.write_to_file(str(path))
            return path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"cannot write machine code to a temporary folder: {e}") from None
