"""A reader of shared libraries, which sees what a dynamic loader sees: segments and what PT_DYNAMIC points to.

It is written for tests of the linker, and shares no code with it (ELF specification, gABI 4.1, chapter 5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

R, W, X = 4, 2, 1
"""The bits of a segment's access."""


@dataclass(frozen=True)
class Segment:
    type: int
    access: int
    offset: int
    address: int
    stored: int
    size: int
    align: int


@dataclass(frozen=True)
class Symbol:
    name: str
    bind: int
    section: int
    address: int
    size: int


@dataclass(frozen=True)
class Relocation:
    place: int
    type: int
    symbol: int
    addend: int


class SharedLibrary:
    """The segments, symbols and relocations of a shared library."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        assert data[:7] == b"\x7fELF\x02\x01\x01"
        kind, self.machine = struct.unpack_from("<HH", data, 16)
        assert kind == 3, "a shared library"
        (at,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
        self.segments = []
        for i in range(count):
            kind, access, offset, address, _, stored, size, align = struct.unpack_from("<IIQQQQQQ", data, at + 56 * i)
            self.segments.append(Segment(kind, access, offset, address, stored, size, align))
        self.loaded = [s for s in self.segments if s.type == 1]
        (dynamic,) = (s for s in self.segments if s.type == 2)
        entries = struct.iter_unpack("<QQ", data[dynamic.offset : dynamic.offset + dynamic.size])
        self.dynamic = dict(entries)
        _, symbols = struct.unpack_from("<II", data, self.place(self.dynamic[4]))
        self.symbols = [self._symbol(i) for i in range(symbols)]
        count = self.dynamic.get(8, 0) // 24
        self.relocations = [self._relocation(i) for i in range(count)]

    def place(self, address: int) -> int:
        """Where an address lies in the file."""
        (s,) = (s for s in self.loaded if s.address <= address < s.address + s.stored)
        return address - s.address + s.offset

    def _symbol(self, i: int) -> Symbol:
        name, info, _, section, value, size = struct.unpack_from(
            "<IBBHQQ", self.data, self.place(self.dynamic[6]) + 24 * i
        )
        start = self.place(self.dynamic[5]) + name
        return Symbol(self.data[start : self.data.index(b"\0", start)].decode(), info >> 4, section, value, size)

    def _relocation(self, i: int) -> Relocation:
        place, kind, symbol, addend = struct.unpack_from("<QIIq", self.data, self.place(self.dynamic[7]) + 24 * i)
        return Relocation(place, kind, symbol, addend)

    @property
    def exports(self) -> dict[str, Symbol]:
        return {s.name: s for s in self.symbols if s.section}

    @property
    def imports(self) -> dict[str, Symbol]:
        return {s.name: s for s in self.symbols[1:] if not s.section}

    def found(self, name: str) -> Symbol | None:
        """The exported symbol of a name, found by the hash table as the loader finds it."""
        at = self.place(self.dynamic[4])
        buckets, chains = struct.unpack_from("<II", self.data, at)
        table = struct.unpack_from(f"<{buckets + chains}I", self.data, at + 8)
        h = 0
        for byte in name.encode():
            h = (h << 4) + byte
            high = h & 0xF0000000
            h = (h ^ high >> 24) & ~high
        i = table[h % buckets]
        while i and self.symbols[i].name != name:
            i = table[buckets + i]
        return self.symbols[i] if i else None
