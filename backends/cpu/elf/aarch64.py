"""AArch64, by the ELF for the Arm 64-bit Architecture 2024Q3, section 5.7 (relocation).

These are the relocations that LLVM writes for position-independent code in the small code model.
"""

from __future__ import annotations

from .relocations import WORD32, WORD64, Family, Field, Reach, Relocation

_ADR = Field(4, 21, ((29, 2), (5, 19)), scale=12)
"""The immediate of ADRP: a number of pages."""
_BRANCH = Field(4, 26, ((0, 26),), scale=2)
"""The immediate of B and BL: a number of instructions."""


def _low(scale: int) -> Field:
    """The last twelve bits of an address, as the immediate of an addition, a load or a store of ``2**scale`` bytes."""
    return Field(4, 12 - scale, ((10, 12),), scale, wraps=True)


_RELOCATIONS = {
    257: Relocation("ABS64", WORD64, relative=False),
    260: Relocation("PREL64", WORD64),
    261: Relocation("PREL32", WORD32),
    275: Relocation("ADR_PREL_PG_HI21", _ADR, paged=True),
    277: Relocation("ADD_ABS_LO12_NC", _low(0), relative=False),
    278: Relocation("LDST8_ABS_LO12_NC", _low(0), relative=False),
    282: Relocation("JUMP26", _BRANCH, Reach.STUB),
    283: Relocation("CALL26", _BRANCH, Reach.STUB),
    284: Relocation("LDST16_ABS_LO12_NC", _low(1), relative=False),
    285: Relocation("LDST32_ABS_LO12_NC", _low(2), relative=False),
    286: Relocation("LDST64_ABS_LO12_NC", _low(3), relative=False),
    299: Relocation("LDST128_ABS_LO12_NC", _low(4), relative=False),
    311: Relocation("ADR_GOT_PAGE", _ADR, Reach.ENTRY, paged=True),
    312: Relocation("LD64_GOT_LO12_NC", _low(3), Reach.ENTRY, relative=False),
}
_OTHERS = {
    0: "NONE", 258: "ABS32", 259: "ABS16", 262: "PREL16", 263: "MOVW_UABS_G0", 273: "LD_PREL_LO19",
    274: "ADR_PREL_LO21", 279: "TSTBR14", 280: "CONDBR19", 313: "LD64_GOTPAGE_LO15", 314: "PLT32",
    513: "TLSGD_ADR_PAGE21", 541: "TLSIE_ADR_GOTTPREL_PAGE21", 549: "TLSLE_ADD_TPREL_HI12",
    562: "TLSDESC_ADR_PAGE21",
}  # fmt: skip

AARCH64 = Family(
    name="aarch64",
    machine=183,
    page=0x10000,
    trap=b"\0",  # udf #0
    relocations={
        n: Relocation(f"R_AARCH64_{r.name}", r.field, r.reach, r.relative, r.paged) for n, r in _RELOCATIONS.items()
    },
    others={n: f"R_AARCH64_{name}" for n, name in _OTHERS.items()},
    absolute=257,
    entry=1025,
    base=1027,
    stub=bytes.fromhex("10000090 110240f9 20021fd6 1f2003d5"),  # adrp x16, entry; ldr x17, [x16, entry]; br x17; nop
    stub_reads=((0, 311), (4, 312)),
    stub_addend=0,
)
