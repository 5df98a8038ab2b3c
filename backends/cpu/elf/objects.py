"""Reading relocatable objects, which are the object files that LLVM writes (gABI, chapter 4).

All sections, symbols and relocations of all objects lie in one table each, so that the linker works on arrays. A
section or a symbol is named by its index in its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convc.ir.errors import CompileError

from . import format as elf
from .relocations import Family


@dataclass(frozen=True)
class Objects:
    """The tables of several relocatable objects."""

    data: Sequence[bytes]
    """The objects themselves."""
    sections: np.ndarray
    """All sections, as ``format.SECTION``, those of the first object first."""
    section_object: np.ndarray
    """The object of each section."""
    symbols: np.ndarray
    """All symbols, as ``format.SYMBOL``."""
    symbol_object: np.ndarray
    """The object of each symbol."""
    symbol_section: np.ndarray
    """The section that defines each symbol, or -1 for one that another object or the loader defines."""
    relocations: np.ndarray
    """The relocations of sections that are loaded, as ``format.RELA``, with symbols of the table ``symbols``."""
    relocation_section: np.ndarray
    """The section that each relocation is applied to."""

    section_names: np.ndarray
    """Where the names of sections begin in each object."""
    symbol_names: np.ndarray
    """Where the names of symbols begin in each object."""

    def section_name(self, section: int) -> str:
        """The name of a section."""
        owner = int(self.section_object[section])
        return elf.text(self.data[owner], int(self.section_names[owner] + self.sections["name"][section]))

    def names(self, symbols: np.ndarray) -> list[str]:
        """The names of symbols."""
        owner = self.symbol_object[symbols]
        at = self.symbol_names[owner] + self.symbols["name"][symbols]
        return [elf.text(self.data[i], start) for i, start in zip(owner.tolist(), at.tolist(), strict=True)]

    def describe(self, relocation: int, family: Family) -> str:
        """A relocation in words: its object, type, place and symbol."""
        r, section = self.relocations[relocation], int(self.relocation_section[relocation])
        symbol = int(r["symbol"])
        (name,) = self.names(np.array([symbol]))
        name = name or self.section_name(int(self.symbol_section[symbol]))  # a symbol that stands for a section
        place = f"{self.section_name(section)}+{int(r['offset']):#x}"
        return (
            f"{family.describe(int(r['type']))} at {place} of object file {self.section_object[section]}, to '{name}',"
        )

    def bytes_of(self, section: int) -> np.ndarray:
        """The bytes of a section as an array. The section must be of a type that has any."""
        record = self.sections[section]
        data = self.data[self.section_object[section]]
        return np.frombuffer(data, np.uint8, int(record["size"]), int(record["offset"]))


def read(objects: Sequence[bytes], family: Family) -> Objects:
    """Read relocatable objects. Raises ``CompileError`` for one that is damaged or for another family."""
    headers = [_header(data, number, family) for number, data in enumerate(objects)]
    sections, owner = _tables(objects, elf.SECTION, [(i, at, count) for i, (at, count, _) in enumerate(headers)])
    first = _starts([count for _, count, _ in headers])
    kinds = sections["type"]

    lengths = np.array([len(data) for data in objects], np.int64)[owner]
    offset, size = sections["offset"], np.where(kinds == elf.SHT_NOBITS, 0, sections["size"])
    if np.any((offset < 0) | (offset > lengths) | (size < 0) | (size > lengths - offset) | (sections["size"] < 0)):
        raise CompileError("an object file is damaged: a section lies outside of it")

    symtabs = np.flatnonzero(kinds == elf.SHT_SYMTAB)  # one for each object
    symbols, symbol_object = _tables(objects, elf.SYMBOL, _places(sections, owner, symtabs, elf.SYMBOL))
    counts = np.bincount(symbol_object, minlength=len(objects))
    first_symbol = _starts(counts)
    index = symbols["shndx"].astype(np.int64)
    defined = (index > elf.SHN_UNDEF) & (index < elf.SHN_LORESERVE)
    symbol_section = np.where(defined, first[symbol_object] + index, -1)

    changed = first[owner] + sections["info"]  # the section that a table of relocations is about
    changed = np.where(kinds == elf.SHT_RELA, changed, 0)
    tables = np.flatnonzero((kinds == elf.SHT_RELA) & (sections["flags"][changed] & elf.SHF_ALLOC != 0))
    relocations, relocation_object = _tables(objects, elf.RELA, _places(sections, owner, tables, elf.RELA))
    relocations["symbol"] += first_symbol[relocation_object].astype(np.uint32)
    relocation_section = np.repeat(changed[tables], sections["size"][tables] // elf.RELA.itemsize)
    if np.any(relocations["symbol"] >= len(symbols)) or np.any(symbol_section >= len(sections)):
        raise CompileError("an object file is damaged: it refers to a symbol or a section that it lacks")
    symbol_names = np.zeros(len(objects), np.int64)
    symbol_names[owner[symtabs]] = sections["offset"][first[owner[symtabs]] + sections["link"][symtabs]]
    section_names = sections["offset"][first + np.array([names for *_, names in headers], np.int64)]
    return Objects(
        objects, sections, owner, symbols, symbol_object, symbol_section, relocations, relocation_section,
        section_names, symbol_names,
    )  # fmt: skip


def _header(data: bytes, number: int, family: Family) -> tuple[int, int, int]:
    """Where the table of sections of an object begins, how many it has, and which of them holds their names."""
    if len(data) < elf.HEADER.size or not data.startswith(elf.IDENT):
        raise CompileError(f"object file {number} is not a 64-bit ELF file: convc makes code for Linux only")
    _, kind, machine, _, _, _, at, *_, count, names = elf.HEADER.unpack_from(data)
    if kind != elf.ET_REL or machine != family.machine:
        raise CompileError(f"object file {number} is not a relocatable object for {family.name}")
    return at, count, names


def _starts(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where the records of each object begin in a table that has these numbers of them."""
    return np.cumsum([0, *counts])[:-1]


def _places(
    sections: np.ndarray, owner: np.ndarray, tables: np.ndarray, record: np.dtype
) -> list[tuple[int, int, int]]:
    """The object, offset and number of records of each of some sections."""
    found = sections[tables]
    counts = found["size"] // record.itemsize
    return list(zip(owner[tables].tolist(), found["offset"].tolist(), counts.tolist(), strict=True))


def _tables(
    objects: Sequence[bytes], record: np.dtype, places: Sequence[tuple[int, int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """The records at places (object, offset, number of records) in one table, and the object of each."""
    pieces = [memoryview(objects[i])[at : at + count * record.itemsize] for i, at, count in places]
    joined = bytearray().join(pieces)
    counts = [count for *_, count in places]
    if len(joined) != sum(counts) * record.itemsize:
        raise CompileError("an object file is damaged: it is shorter than its headers say")
    return np.frombuffer(joined, record), np.repeat(np.array([i for i, *_ in places], np.int64), counts)
