"""The tables that the dynamic loader reads (gABI, chapter 5): symbols, their hash table, relocations, and ``.dynamic``.

Hash tables are of the old form, DT_HASH, which glibc and musl both read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import format as elf
from .library import READ, RELRO, Section


@dataclass(frozen=True)
class Import:
    """A symbol that the loader looks up. A weak one may be missing, and has the address 0 then."""

    name: str
    weak: bool


@dataclass(frozen=True)
class Export:
    """A symbol of the library: its section, its place in it, its size in bytes, and its ELF type."""

    name: str
    section: Section
    at: int
    size: int
    type: int


class Tables:
    """The loader's tables of a library."""

    def __init__(self, imports: Sequence[Import], exports: Sequence[Export], relocations: int) -> None:
        """Make the tables with their final sizes, for a number of the loader's relocations."""
        self._imports, self._exports = imports, exports
        names = [*(i.name for i in imports), *(e.name for e in exports)]
        self.number: Mapping[str, int] = {name: i for i, name in enumerate(names, 1)}
        """The index of each symbol in the table of symbols, which begins with an empty one."""
        self._texts = b"\0" + b"".join(name.encode() + b"\0" for name in names)
        self._at = np.cumsum([1, *(len(name.encode()) + 1 for name in names)]).tolist()
        count, relocation, symbol = len(names) + 1, elf.RELA.itemsize, elf.SYMBOL.itemsize
        self._buckets = max(1, len(exports))
        self.hash = Section(".hash", READ, 4 * (2 + self._buckets + count), 8, elf.SHT_HASH, 4, ".dynsym")
        self.symbols = Section(".dynsym", READ, count * symbol, 8, elf.SHT_DYNSYM, symbol, ".dynstr", 1)
        self.strings = Section(".dynstr", READ, len(self._texts), 1, elf.SHT_STRTAB)
        self.rela = Section(".rela.dyn", READ, relocations * relocation, 8, elf.SHT_RELA, relocation, ".dynsym")
        entry = elf.DYNAMIC.itemsize
        self.dynamic = Section(".dynamic", RELRO, 12 * entry, 8, elf.SHT_DYNAMIC, entry, ".dynstr")

    def fill(self, base: np.ndarray, symbolic: np.ndarray) -> None:
        """Write the tables once sections have their addresses.

        ``base`` are the loader's relocations (``format.RELA``) that add the library's address, and ``symbolic`` those
        that look up a symbol.
        """
        made = [(0, 0, 0, 0, 0, 0)]
        for i, at in zip(self._imports, self._at, strict=False):
            made.append((at, (elf.STB_WEAK if i.weak else elf.STB_GLOBAL) << 4, 0, elf.SHN_UNDEF, 0, 0))
        for e, at in zip(self._exports, self._at[len(self._imports) :], strict=False):
            section = e.section
            made.append((at, elf.STB_GLOBAL << 4 | e.type, 0, section.number, section.address + e.at, e.size))
        self.symbols.fill(np.array(made, elf.SYMBOL))
        self.strings.fill(np.frombuffer(self._texts, np.uint8))
        self.hash.fill(self._hashes())
        self.rela.fill(np.concatenate([base, symbolic]))
        entries = [
            (elf.DT_HASH, self.hash.address),
            (elf.DT_STRTAB, self.strings.address),
            (elf.DT_SYMTAB, self.symbols.address),
            (elf.DT_STRSZ, self.strings.size),
            (elf.DT_SYMENT, elf.SYMBOL.itemsize),
            (elf.DT_FLAGS, elf.DF_BIND_NOW),
            (elf.DT_FLAGS_1, elf.DF_1_NOW),
        ]
        if self.rela.size:
            entries += [
                (elf.DT_RELA, self.rela.address),
                (elf.DT_RELASZ, self.rela.size),
                (elf.DT_RELAENT, elf.RELA.itemsize),
                (elf.DT_RELACOUNT, len(base)),
            ]
        self.dynamic.fill(np.array([*entries, (elf.DT_NULL, 0)], elf.DYNAMIC))

    def _hashes(self) -> np.ndarray:
        """The hash table: the numbers of buckets and symbols, the first symbol of each bucket, and each one's next."""
        first, following = [0] * self._buckets, [0] * (len(self.number) + 1)
        for e in self._exports:
            number, bucket = self.number[e.name], elf.hashed(e.name) % self._buckets
            following[number], first[bucket] = first[bucket], number
        return np.array([len(first), len(following), *first, *following], "<u4")
