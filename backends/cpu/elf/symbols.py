"""What the names of symbols refer to, and which sections of the objects a library needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from convc.ir.errors import CompileError

from . import format as elf
from .objects import Objects

EXPORTED = "convc_"
"""The beginning of the names of symbols that a library exports."""


@dataclass(frozen=True)
class Symbols:
    """What the names of symbols refer to."""

    definition: np.ndarray
    """For each symbol the one that defines it; for an import the first symbol of its name."""
    exported: dict[str, int]
    """The symbols that the library exports, by name, in the order of names."""


def resolve(inputs: Objects) -> Symbols:
    """Find the definition of each symbol.

    A weak definition counts where there is no other, and the first of several. Raises ``CompileError`` for a symbol
    with two definitions.
    """
    records = inputs.symbols
    found = np.flatnonzero(records["info"] >> 4 != elf.STB_LOCAL)
    names = inputs.names(found)
    strange = np.isin(records["info"][found] & 15, (elf.STT_TLS, elf.STT_GNU_IFUNC))
    strange |= records["shndx"][found] >= elf.SHN_LORESERVE
    for i in np.flatnonzero(strange):
        raise CompileError(f"'{names[i]}' is absolute, common, thread-local or indirect: convc links no such symbol")
    undefined = records["shndx"][found] == elf.SHN_UNDEF
    rank = 2 * undefined + (records["info"][found] >> 4 == elf.STB_WEAK)  # a definition first, and weak ones last
    for name, count in Counter(names[i] for i in np.flatnonzero(rank == 0)).items():
        if count > 1:
            raise CompileError(f"the symbol '{name}' is defined {count} times")
    order = np.argsort(rank, kind="stable")[::-1].tolist()
    chosen = {names[i]: int(found[i]) for i in order}
    definition = np.arange(len(records))
    definition[found] = [chosen[name] for name in names]
    visible = {names[i] for i in np.flatnonzero(~undefined & (records["other"][found] & 3 == elf.STV_DEFAULT))}
    return Symbols(definition, {name: chosen[name] for name in sorted(visible) if name.startswith(EXPORTED)})


def reached(inputs: Objects, symbols: Symbols) -> np.ndarray:
    """Whether each section is reached from an exported symbol, through the relocations of others.

    Raises ``CompileError`` for a section that needs more than to be placed in memory, such as code that runs at load.
    """
    kept = np.zeros(len(inputs.sections), bool)
    kept[inputs.symbol_section[list(symbols.exported.values())]] = True
    target = inputs.symbol_section[symbols.definition[inputs.relocations["symbol"]]]
    source, target = inputs.relocation_section[target >= 0], target[target >= 0]
    while not np.all(kept[new := target[kept[source]]]):
        kept[new] = True

    kinds, flags = inputs.sections["type"], inputs.sections["flags"]
    loaded = flags & elf.SHF_ALLOC != 0
    writable, code = flags & elf.SHF_WRITE != 0, flags & elf.SHF_EXECINSTR != 0
    plain = ((kinds == elf.SHT_PROGBITS) & ~(writable & code)) | ((kinds == elf.SHT_NOBITS) & writable & ~code)
    plain &= flags & elf.SHF_TLS == 0
    left_out = np.isin(kinds, (elf.SHT_NOTE, elf.SHT_X86_64_UNWIND))  # notes, and tables for unwinding the stack
    for i in np.flatnonzero((loaded & ~plain & ~left_out) | (kept & ~(loaded & plain))):
        raise CompileError(
            f"the section '{inputs.section_name(int(i))}' of an object file is of a kind that convc cannot link"
        )
    return kept
