"""The shared library: its sections, their places in memory, and the file (gABI, chapters 4 and 5).

Sections that are used alike make a segment, which the loader maps at once: constants (r--), code (r-x), what is written
once by the loader and is then read-only (relro), and data (rw-). No segment is writable and executable. Segments follow
each other in the file without gaps: two of them may share a page of the file, which is then mapped twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from convc.ir.errors import CompileError

from . import format as elf
from .relocations import Family

READ, CODE, RELRO, DATA = range(4)
"""The segments, in the order of their addresses."""
_ACCESS = (elf.PF_R, elf.PF_R | elf.PF_X, elf.PF_R | elf.PF_W, elf.PF_R | elf.PF_W)
_FLAGS = (0, elf.SHF_EXECINSTR, elf.SHF_WRITE, elf.SHF_WRITE)


@dataclass(eq=False)
class Section:
    """A section of the library. Its place and its ``data`` are there once a ``Library`` was made of it."""

    name: str
    segment: int
    size: int
    align: int = 8
    kind: int = elf.SHT_PROGBITS
    entsize: int = 0
    link: str = ""
    """The name of the section that this one refers to."""
    info: int = 0
    address: int = field(default=0, init=False)
    offset: int = field(default=0, init=False)
    """Where it begins in the file."""
    number: int = field(default=0, init=False)
    """Its index in the table of sections."""
    data: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8), init=False)
    """Its bytes in the file (uint8)."""

    def fill(self, records: np.ndarray) -> None:
        """Write records from the beginning of the section."""
        self.data[: records.nbytes] = np.frombuffer(records.tobytes(), np.uint8)

    @property
    def stored(self) -> int:
        """The number of its bytes that are in the file."""
        return 0 if self.kind == elf.SHT_NOBITS else self.size


class Library:
    """A shared library that consists of sections."""

    def __init__(self, sections: Sequence[Section], family: Family) -> None:
        """Give each section its place, and its bytes, which are zeros.

        The sections of a segment must follow each other. Empty ones are left out. Raises ``CompileError`` for a section
        whose alignment is larger than a page.
        """
        self._sections = [s for s in sections if s.size]
        self._family = family
        segments = ([s for s in self._sections if s.segment == segment] for segment in (READ, CODE, RELRO, DATA))
        self._segments = [s for s in segments if s]
        at = address = elf.HEADER.size + (len(self._segments) + 3) * elf.SEGMENT.itemsize
        for segment in self._segments:
            if segment[0].segment != READ:
                address = up(address, family.page) + at % family.page
            for s in segment:
                if s.align > family.page:
                    raise CompileError(f"the section '{s.name}' is aligned to {s.align} bytes, more than a page has")
                gap = -address % s.align  # the address and the place in the file are alike modulo the page
                s.address, s.offset = address + gap, at + gap
                address, at = s.address + s.size, s.offset + s.stored
        self._names = b"\0" + b"".join(s.name.encode() + b"\0" for s in self._sections) + b".shstrtab\0"
        self._end = at
        self._table = up(at + len(self._names), 8)
        self.image = np.zeros(self._table + (len(self._sections) + 2) * elf.SECTION.itemsize, np.uint8)
        """The bytes of the file."""
        for number, s in enumerate(self._sections, 1):
            s.number, s.data = number, self.image[s.offset : s.offset + s.stored]

    def file(self) -> bytes:
        """The bytes of the library, with headers."""
        sections, segments = self._section_headers(), self._segment_headers()
        header = elf.HEADER.pack(
            elf.IDENT, elf.ET_DYN, self._family.machine, 1, 0, elf.HEADER.size, self._table, 0, elf.HEADER.size,
            elf.SEGMENT.itemsize, len(segments), elf.SECTION.itemsize, len(sections), len(sections) - 1,
        )  # fmt: skip
        pieces = {0: header + segments.tobytes(), self._end: self._names, self._table: sections.tobytes()}
        for at, piece in pieces.items():
            self.image[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        return self.image.tobytes()

    def _segment_headers(self) -> np.ndarray:
        page, made = self._family.page, []
        for segment in self._segments:
            first, last = segment[0], segment[-1]
            offset, begin = (0, 0) if first.segment == READ else (first.offset, first.address)
            stored, size = last.offset + last.stored - offset, last.address + last.size - begin
            if first.segment == RELRO:  # up to the end of the page, since the loader protects whole pages
                size = up(begin + size, page) - begin
                made.append((elf.PT_GNU_RELRO, elf.PF_R, offset, begin, begin, stored, size, 1))
            made.append((elf.PT_LOAD, _ACCESS[first.segment], offset, begin, begin, stored, size, page))
        (d,) = (s for s in self._sections if s.kind == elf.SHT_DYNAMIC)
        made.append((elf.PT_DYNAMIC, elf.PF_R | elf.PF_W, d.offset, d.address, d.address, d.size, d.size, 8))
        made.append((elf.PT_GNU_STACK, elf.PF_R | elf.PF_W, 0, 0, 0, 0, 0, 16))
        return np.array(sorted(made, key=lambda s: s[0]), elf.SEGMENT)

    def _section_headers(self) -> np.ndarray:
        numbers = {s.name: s.number for s in self._sections}
        made = [(0,) * 10]
        for s in self._sections:
            flags, link = elf.SHF_ALLOC | _FLAGS[s.segment], numbers.get(s.link, 0)
            made.append(
                (self._named(s.name), s.kind, flags, s.address, s.offset, s.size, link, s.info, s.align, s.entsize)
            )
        made.append((self._named(".shstrtab"), elf.SHT_STRTAB, 0, 0, self._end, len(self._names), 0, 0, 1, 0))
        return np.array(made, elf.SECTION)

    def _named(self, name: str) -> int:
        """Where a name begins in the names of sections."""
        return self._names.index(b"\0" + name.encode() + b"\0") + 1


def up(number: int, step: int) -> int:
    """The first multiple of ``step`` that is not less than a number."""
    return -(-number // step) * step
