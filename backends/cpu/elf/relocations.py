"""What a relocation writes, and what differs between families of processors.

A relocation writes a value into a *field* at its place. The value is computed by a formula of four addresses, in the
notation of the psABIs: S is the address of the symbol, A the addend, P the place, and Page(x) is x without its last
twelve bits. In place of S stands the address of a stub in the procedure linkage table (L) for a function that only the
loader finds, or that of an entry in the global offset table (G), which holds S. Here the formula is ``reach + A``,
less P where the relocation is *relative*; of both terms only the Page counts where it is *paged*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np


class Reach(Enum):
    """How code reaches a symbol."""

    SYMBOL = "S"
    STUB = "L"
    ENTRY = "G"


@dataclass(frozen=True)
class Field:
    """How a value is stored: its last ``scale`` bits, which must be zero, are left out, and ``bits`` more are kept.

    The value must fit as a signed number, except where it ``wraps``; then higher bits are dropped. ``parts`` are the
    places in the word of ``size`` bytes that hold the stored bits, from the lowest: their first bit and width.
    """

    size: int
    bits: int
    parts: tuple[tuple[int, int], ...]
    scale: int = 0
    wraps: bool = False

    def fits(self, values: np.ndarray) -> np.ndarray:
        """Whether each of the values (int64) can be stored."""
        fits: np.ndarray = (values & ((1 << self.scale) - 1)) == 0
        if not self.wraps and self.bits < 64:
            stored, half = values >> self.scale, 1 << (self.bits - 1)
            fits &= (stored >= -half) & (stored < half)
        return fits

    def write(self, data: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
        """Write values (int64) at places, which are indices of ``data`` (uint8)."""
        at = places[:, None] + np.arange(self.size)
        if self.bits < 64:
            words = data[at].view("<u4")[:, 0].astype(np.int64)
            stored = values >> self.scale & ((1 << self.bits) - 1)
            for first, width in self.parts:
                mask = (1 << width) - 1
                words = words & ~(mask << first) | (stored & mask) << first
                stored >>= width
            values = words
        data[at] = np.ascontiguousarray(values, "<i8").view(np.uint8).reshape(-1, 8)[:, : self.size]


WORD32 = Field(4, 32, ((0, 32),))
WORD64 = Field(8, 64, ((0, 64),))


@dataclass(frozen=True)
class Relocation:
    """A type of relocation that the linker resolves, by its name in the psABI."""

    name: str
    field: Field
    reach: Reach = Reach.SYMBOL
    relative: bool = True
    paged: bool = False

    def values(self, reach: np.ndarray, addend: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The values to store, before they are fitted to the field."""
        target, base = reach + addend, place if self.relative else np.zeros_like(place)
        made: np.ndarray = (target & -4096) - (base & -4096) if self.paged else target - base
        return made


@dataclass(frozen=True)
class Family:
    """A family of processors: its ``machine`` number in ELF headers, and what its psABI says about linking."""

    name: str
    machine: int
    page: int
    """The largest size of a page that systems use, in bytes."""
    trap: bytes
    """The bytes that fill gaps between functions. They are no valid instruction, or one that stops."""
    relocations: Mapping[int, Relocation]
    others: Mapping[int, str]
    """The names of some types of relocations that the linker does not resolve, for errors."""
    absolute: int
    """The relocation that stores S + A in 64 bits. The loader knows it too."""
    entry: int
    """The loader's relocation of an entry in the global offset table: GLOB_DAT."""
    base: int
    """The loader's relocation that stores the address of the library plus A: RELATIVE."""
    stub: bytes
    """The code of a stub, which jumps to the address in its entry of the global offset table."""
    stub_reads: tuple[tuple[int, int], ...]
    """The relocations of a stub that reach its entry: offset and type. Their addends are ``stub_addend``."""
    stub_addend: int

    def describe(self, number: int) -> str:
        """The name of a type of relocation."""
        if known := self.relocations.get(number):
            return known.name
        return self.others.get(number, f"relocation {number} of {self.name}")
