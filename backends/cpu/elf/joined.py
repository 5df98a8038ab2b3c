"""Joining the sections of objects to sections of the library, by what code may do with them."""

from __future__ import annotations

import numpy as np

from . import format as elf
from .dynamic import Export
from .library import CODE, DATA, READ, RELRO, Section, up
from .objects import Objects
from .relocations import Family
from .symbols import Symbols


class Joined:
    """The sections of the objects that are kept, joined one behind the other to sections of the library."""

    def __init__(self, inputs: Objects, kept: np.ndarray) -> None:
        """``kept`` tells which sections of the objects the library needs."""
        self._inputs, self._kept = inputs, np.flatnonzero(kept).tolist()
        self.constants = Section(".rodata", READ, 0, 1)
        self.code = Section(".text", CODE, 0, 1)
        self.once = Section(".data.rel.ro", RELRO, 0, 1)
        """Constants with addresses in them, which the loader writes."""
        self.data = Section(".data", DATA, 0, 1)
        self.zeros = Section(".bss", DATA, 0, 1, elf.SHT_NOBITS)
        self._all = (self.constants, self.code, self.once, self.data, self.zeros)
        self._home = np.zeros(len(kept), np.int64)
        """For each section of an object the one that it becomes a part of, by its index in ``_all``."""
        self._start = np.zeros(len(kept), np.int64)
        """Where it begins there."""
        records = inputs.sections[self._kept]
        columns = (records[name].tolist() for name in ("type", "flags", "size", "addralign"))
        for i, kind, flags, size, align in zip(self._kept, *columns, strict=True):
            into = self._choose(i, kind, flags)
            start = up(into.size, align or 1)
            self._home[i], self._start[i] = self._all.index(into), start
            into.size, into.align = start + size, max(into.align, align)

    def _choose(self, section: int, kind: int, flags: int) -> Section:
        if kind == elf.SHT_NOBITS:
            return self.zeros
        if not flags & elf.SHF_WRITE:
            return self.code if flags & elf.SHF_EXECINSTR else self.constants
        return self.once if self._inputs.section_name(section).startswith(".data.rel.ro") else self.data

    def exports(self, symbols: Symbols) -> list[Export]:
        """The symbols that the library exports."""
        found = np.array([*symbols.exported.values()], np.int64)
        records, section = self._inputs.symbols[found], self._inputs.symbol_section[found]
        homes, starts = self._home[section].tolist(), (self._start[section] + records["value"]).tolist()
        sizes, kinds = records["size"].tolist(), (records["info"] & 15).tolist()
        columns = zip(symbols.exported, homes, starts, sizes, kinds, strict=True)
        return [Export(name, self._all[home], at, size, kind) for name, home, at, size, kind in columns]

    def copy(self, family: Family) -> None:
        """Copy the bytes of the objects to the library, whose sections have their places."""
        self.code.data[:] = np.frombuffer(family.trap, np.uint8)
        for i in self._kept:
            home = self._all[self._home[i]]
            if home is not self.zeros:
                data, start = self._inputs.bytes_of(i), self._start[i]
                home.data[start : start + len(data)] = data

    def addresses(self) -> np.ndarray:
        """The address of each section of the objects that is kept; others have none."""
        return np.array([s.address for s in self._all])[self._home] + self._start

    def offsets(self) -> np.ndarray:
        """Where each of them begins in the file."""
        return np.array([s.offset for s in self._all])[self._home] + self._start
