"""The relocations of a library: what they need of it, and their resolution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convc.ir.errors import CompileError

from . import format as elf
from .dynamic import Import
from .imports import IMPORTS
from .joined import Joined
from .library import CODE, RELRO, Section
from .objects import Objects
from .relocations import Family, Reach
from .symbols import Symbols


class References:
    """The relocations of the sections that are kept. Each array has an element for each of them, in their order."""

    def __init__(self, inputs: Objects, symbols: Symbols, kept: np.ndarray, family: Family) -> None:
        """Raises ``CompileError`` for a relocation that the linker cannot resolve, and for a symbol that is missing."""
        self._inputs, self._family = inputs, family
        self._numbers = np.flatnonzero(kept[inputs.relocation_section])
        records = inputs.relocations[self._numbers]
        self._section = inputs.relocation_section[self._numbers]
        self._type, self._at, self._addend = records["type"], records["offset"], records["addend"]
        self._target = symbols.definition[records["symbol"]]
        """The symbol that is referred to, by its definition."""
        self._imported = inputs.symbol_section[self._target] < 0
        self._absolute = self._type == family.absolute

        reach = self._check()
        self._stubs = _distinct(self._target[reach[Reach.STUB] & self._imported])
        self._entries = _distinct(np.concatenate([self._target[reach[Reach.ENTRY]], self._stubs]))
        """The symbols that have a stub and an entry in the global offset table, in the order of these."""
        imports = _distinct(self._target[self._imported])
        weak = (inputs.symbols["info"][imports] >> 4 == elf.STB_WEAK).tolist()
        self.imports = [Import(*pair) for pair in zip(inputs.names(imports), weak, strict=True)]
        """The symbols that the loader looks up."""
        for i in self.imports:
            if not i.weak and i.name not in IMPORTS:
                raise CompileError(f"the symbol '{i.name}' is not defined, and the C library has no such function")
        self._names = dict(zip(imports.tolist(), (i.name for i in self.imports), strict=True))
        self.loaded = int(self._absolute.sum()) + len(self._entries)
        """The number of relocations that are left to the loader."""
        self.plt = Section(".plt", CODE, len(self._stubs) * len(family.stub), 16)
        """The procedure linkage table, which consists of stubs."""
        self.got = Section(".got", RELRO, 8 * len(self._entries))
        """The global offset table, whose entries are addresses."""

    def _check(self) -> Mapping[Reach, np.ndarray]:
        """Refuse what cannot be resolved, and return which relocations reach their symbols in each way."""
        known, sections = self._family.relocations, self._inputs.sections
        reach = {way: np.zeros(len(self._type), bool) for way in Reach}
        for number in _distinct(self._type).tolist():
            these = self._type == number
            if number not in known:
                self._refuse(these, "is of a type that convc does not link")
            r = known[number]
            room = sections["size"][self._section] - r.field.size
            self._refuse(these & ((self._at < 0) | (self._at > room)), "lies outside of its section")
            if r.reach == Reach.ENTRY and (r.paged or not r.relative):
                self._refuse(these & (self._addend != 0), "adds to the address of an entry")
            reach[r.reach] |= these
        direct = reach[Reach.SYMBOL] & ~self._absolute
        self._refuse(self._imported & direct, "needs an address that only the loader will know")
        writable = sections["flags"][self._section] & elf.SHF_WRITE != 0
        self._refuse(self._absolute & ~writable, "needs an address in code or constants, which the loader cannot write")
        return reach

    def _refuse(self, which: np.ndarray, why: str) -> None:
        """Raise ``CompileError`` when there is one of these relocations."""
        for i in np.flatnonzero(which):
            raise CompileError(f"{self._inputs.describe(int(self._numbers[i]), self._family)} {why}")

    def resolve(self, image: np.ndarray, joined: Joined) -> None:
        """Write the values of all relocations but the loader's into the bytes of the library, and the stubs.

        Raises ``CompileError`` when one does not fit its field.
        """
        place = joined.addresses()[self._section] + self._at
        stored = joined.offsets()[self._section] + self._at
        symbol = self._addresses(self._target, joined)
        entry = self.got.address + 8 * np.searchsorted(self._entries, self._target)
        stub = self.plt.address + len(self._family.stub) * np.searchsorted(self._stubs, self._target)
        reaches = {Reach.SYMBOL: symbol, Reach.STUB: np.where(self._imported, stub, symbol), Reach.ENTRY: entry}
        for number in _distinct(self._type[~self._absolute]).tolist():
            r = self._family.relocations[number]
            at = np.flatnonzero(self._type == number)
            values = r.values(reaches[r.reach][at], self._addend[at], place[at])
            fits = np.zeros(len(self._type), bool)
            fits[at] = ~r.field.fits(values)
            self._refuse(fits, "is out of range, or not aligned")
            r.field.write(image, stored[at], values)
        self._write_stubs(image)

    def _write_stubs(self, image: np.ndarray) -> None:
        family, count = self._family, len(self._stubs)
        self.plt.fill(np.tile(np.frombuffer(family.stub, np.uint8), count))
        entry = self.got.address + 8 * np.searchsorted(self._entries, self._stubs)
        for offset, number in family.stub_reads:
            r, at = family.relocations[number], np.arange(count) * len(family.stub) + offset
            values = r.values(entry, np.full(count, family.stub_addend), self.plt.address + at)
            if not np.all(r.field.fits(values)):
                raise CompileError("the code of the library is larger than its jumps can reach")
            r.field.write(image, self.plt.offset + at, values)

    def _addresses(self, symbols: np.ndarray, joined: Joined) -> np.ndarray:
        """The addresses of symbols; those of imports mean nothing."""
        start = joined.addresses()[self._inputs.symbol_section[symbols]]
        found: np.ndarray = start + self._inputs.symbols["value"][symbols]
        return found

    def for_loader(self, joined: Joined, numbers: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """The relocations that are left to the loader: those that add the library's address, and those of imports.

        ``numbers`` are the indices of imports in the loader's table of symbols.
        """
        which = self._absolute
        place = joined.addresses()[self._section[which]] + self._at[which]
        places = np.concatenate([place, self.got.address + 8 * np.arange(len(self._entries))])
        targets = np.concatenate([self._target[which], self._entries])
        kinds = np.repeat([self._family.absolute, self._family.entry], [len(place), len(self._entries)])
        addends = np.concatenate([self._addend[which], np.zeros(len(self._entries), np.int64)])
        made = np.zeros(len(places), elf.RELA)
        made["offset"], made["type"], made["addend"] = places, kinds, addends
        imported = self._inputs.symbol_section[targets] < 0
        made["symbol"][imported] = [numbers[self._names[t]] for t in targets[imported].tolist()]
        made["type"][~imported] = self._family.base
        made["addend"][~imported] += self._addresses(targets[~imported], joined)
        made = made[np.argsort(made["offset"])]
        ours = made["type"] == self._family.base
        return made[ours], made[~ours]


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """The numbers in ascending order, each once. ``np.unique`` would load ``numpy.ma``, which takes long."""
    ascending = np.sort(numbers)
    return ascending[np.flatnonzero(np.diff(ascending, prepend=ascending[:1] - 1))]
