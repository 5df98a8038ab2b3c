"""x86-64, by the System V ABI, AMD64 Architecture Processor Supplement 1.0, section 4.4 (relocation).

These are the relocations that LLVM writes for position-independent code in the small code model. The relaxed forms
GOTPCRELX and REX_GOTPCRELX allow a linker to replace the instruction, which is not done here.
"""

from __future__ import annotations

from .relocations import WORD32, WORD64, Family, Reach, Relocation

_NAMES = (
    "NONE 64 PC32 GOT32 PLT32 COPY GLOB_DAT JUMP_SLOT RELATIVE GOTPCREL 32 32S 16 PC16 8 PC8 DTPMOD64 DTPOFF64 TPOFF64 "
    "TLSGD TLSLD DTPOFF32 GOTTPOFF TPOFF32 PC64 GOTOFF64 GOTPC32 GOT64 GOTPCREL64 GOTPC64 GOTPLT64 PLTOFF64 SIZE32 "
    "SIZE64 GOTPC32_TLSDESC TLSDESC_CALL TLSDESC IRELATIVE RELATIVE64 39 40 GOTPCRELX REX_GOTPCRELX"
)
_ALL = {number: f"R_X86_64_{name}" for number, name in enumerate(_NAMES.split())}

X86_64 = Family(
    name="x86_64",
    machine=62,
    page=0x1000,
    trap=b"\xcc",  # int3
    relocations={
        1: Relocation(_ALL[1], WORD64, relative=False),
        2: Relocation(_ALL[2], WORD32),
        4: Relocation(_ALL[4], WORD32, Reach.STUB),
        24: Relocation(_ALL[24], WORD64),
        **{number: Relocation(_ALL[number], WORD32, Reach.ENTRY) for number in (9, 41, 42)},
    },
    others=_ALL,
    absolute=1,
    entry=6,
    base=8,
    stub=bytes.fromhex("ff25 00000000 6690"),  # jmp *entry(%rip); a nop of two bytes
    stub_reads=((2, 9),),
    stub_addend=-4,
)
