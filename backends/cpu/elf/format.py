"""The records and numbers of ELF files.

The names are those of the System V Application Binary Interface, edition 4.1 and its later updates ("gABI"), chapters 4
(object files) and 5 (program loading and dynamic linking). All files are 64-bit and little-endian.
"""

from __future__ import annotations

import struct

import numpy as np

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
"""``Elf64_Ehdr``: ident, type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, shentsize,
shnum, shstrndx.
"""
SECTION = np.dtype(
    [("name", "<u4"), ("type", "<u4"), ("flags", "<i8"), ("addr", "<i8"), ("offset", "<i8"), ("size", "<i8"),
     ("link", "<u4"), ("info", "<u4"), ("addralign", "<i8"), ("entsize", "<i8")]
)  # fmt: skip
"""``Elf64_Shdr``."""
SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<i8"), ("size", "<i8")]
)
"""``Elf64_Sym``. ``info`` is the binding times 16 plus the type."""
RELA = np.dtype([("offset", "<i8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
"""``Elf64_Rela``, whose ``info`` is the symbol in the upper and the type in the lower half."""
SEGMENT = np.dtype(
    [("type", "<u4"), ("flags", "<u4"), ("offset", "<i8"), ("vaddr", "<i8"), ("paddr", "<i8"), ("filesz", "<i8"),
     ("memsz", "<i8"), ("align", "<i8")]
)  # fmt: skip
"""``Elf64_Phdr``."""
DYNAMIC = np.dtype([("tag", "<i8"), ("value", "<i8")])
"""``Elf64_Dyn``."""

IDENT = b"\x7fELF\x02\x01\x01"
"""The first bytes of ``ident``: the magic number, ELFCLASS64, ELFDATA2LSB and EV_CURRENT."""
ET_REL, ET_DYN = 1, 3
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_HASH, SHT_DYNAMIC, SHT_NOTE, SHT_NOBITS = 1, 2, 3, 4, 5, 6, 7, 8
SHT_DYNSYM, SHT_X86_64_UNWIND = 11, 0x70000001
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_TLS = 1, 2, 4, 0x40, 0x400
SHN_UNDEF, SHN_LORESERVE = 0, 0xFF00
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_TLS, STT_GNU_IFUNC = 6, 10
STV_DEFAULT = 0
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 0x6474E551, 0x6474E552
PF_X, PF_W, PF_R = 1, 2, 4
DT_NULL, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_RELAENT, DT_STRSZ, DT_SYMENT = (
    0,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
)
DT_FLAGS, DT_FLAGS_1, DT_RELACOUNT = 30, 0x6FFFFFFB, 0x6FFFFFF9
DF_BIND_NOW, DF_1_NOW = 8, 1


def text(data: bytes, at: int) -> str:
    """The string that begins at a place in a string table and ends before a zero byte."""
    return data[at : data.index(b"\0", at)].decode()


def hashed(name: str) -> int:
    """The hash of a symbol's name for the section of type SHT_HASH (gABI, chapter 5, "Hash Table")."""
    h = 0
    for byte in name.encode():
        h = (h << 4) + byte
        h = (h ^ (h >> 24 & 0xF0)) & 0x0FFFFFFF
    return h
