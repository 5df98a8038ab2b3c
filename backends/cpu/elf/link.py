"""A static linker: relocatable objects in, one shared library out.

The steps are those of every linker (J. Levine, *Linkers and Loaders*, 1999). The linker reads the objects
(``objects.py``), finds the definition of each symbol, and drops the sections that no exported symbol reaches
(``symbols.py``). It joins sections of one kind (``joined.py``), makes the loader's tables (``dynamic.py``), gives all
of them their addresses (``library.py``), and resolves the relocations (``references.py``).

The library exports the symbols that begin with ``convc_`` and imports functions of the C library (``imports.py``),
which every process has; it names no other library. Its own symbols are bound to each other, so that no other library
can replace them.
"""

from __future__ import annotations

from collections.abc import Sequence

from convc.ir.errors import CompileError

from .aarch64 import AARCH64
from .dynamic import Tables
from .joined import Joined
from .library import Library
from .objects import read
from .references import References
from .relocations import Family
from .symbols import reached, resolve
from .x86_64 import X86_64

FAMILIES = {family.name: family for family in (X86_64, AARCH64)}
"""The families of processors that the linker knows, by name."""


def link(objects: Sequence[bytes], family: str) -> bytes:
    """Link relocatable objects for a family of processors to a shared library, and return its bytes.

    The bytes depend on the objects and their order alone. Raises ``CompileError`` for a symbol that is defined twice or
    not at all, for a relocation that is unknown or out of range, and for an object that is not what LLVM writes for
    position-independent code.
    """
    try:
        return _link(objects, FAMILIES[family])
    except (ValueError, IndexError, OverflowError) as e:
        raise CompileError(f"an object file is damaged: {e}") from e


def _link(objects: Sequence[bytes], family: Family) -> bytes:
    inputs = read(objects, family)
    symbols = resolve(inputs)
    kept = reached(inputs, symbols)
    joined, references = Joined(inputs, kept), References(inputs, symbols, kept, family)
    tables = Tables(references.imports, joined.exports(symbols), references.loaded)
    loader = (tables.hash, tables.symbols, tables.strings, tables.rela)
    once = (joined.once, tables.dynamic, references.got)
    library = Library(
        [*loader, joined.constants, joined.code, references.plt, *once, joined.data, joined.zeros], family
    )
    joined.copy(family)
    references.resolve(library.image, joined)
    tables.fill(*references.for_loader(joined, tables.number))
    return library.file()
