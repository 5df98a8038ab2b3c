"""Running shared libraries for x86-64 and AArch64 on any machine, by the emulator Unicorn.

``Emulated`` loads a library as a dynamic loader does. The memory of this process is there at its own addresses, so the
code may be given the addresses of arrays.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import unicorn
from unicorn import arm64_const as arm
from unicorn import x86_const as x86

from .shared_library import R, SharedLibrary, W, X

PAGE = 0x1000
BASE, STACK, IMPORTS, END = 0x10000000, 0x60000000, 0x70000000, 0x7F000000
"""Addresses that no memory of this process has."""
LENT = 1 << 32
"""Addresses from here on are this process's."""
ROOM = 1 << 20
"""The bytes of the stack."""

_FAMILIES: dict[int, dict[str, Any]] = {
    62: {
        "mode": (unicorn.UC_ARCH_X86, unicorn.UC_MODE_64),
        "return": b"\xc3",
        "arguments": [x86.UC_X86_REG_RDI, x86.UC_X86_REG_RSI, x86.UC_X86_REG_RDX, x86.UC_X86_REG_RCX],
        "result": x86.UC_X86_REG_RAX,
        "stack": x86.UC_X86_REG_RSP,
        "floats": [x86.UC_X86_REG_XMM0, x86.UC_X86_REG_XMM1],
        "relocations": {8: "relative", 6: "symbol", 1: "symbol"},
    },
    183: {
        "mode": (unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM),
        "return": bytes.fromhex("c0035fd6"),
        "arguments": [arm.UC_ARM64_REG_X0, arm.UC_ARM64_REG_X1, arm.UC_ARM64_REG_X2, arm.UC_ARM64_REG_X3],
        "result": arm.UC_ARM64_REG_X0,
        "stack": arm.UC_ARM64_REG_SP,
        "floats": [arm.UC_ARM64_REG_Q0, arm.UC_ARM64_REG_Q1],
        "relocations": {1027: "relative", 1025: "symbol", 257: "symbol"},
    },
}


class Emulated:
    """A shared library in the emulator, with the interface of ``convc.runtime.cpu.code.Code``."""

    def __init__(self, code: bytes, missing: tuple[str, ...] = ()) -> None:
        """Load a library. The names in ``missing`` are imports that no library has."""
        self.library = SharedLibrary(code)
        self._family = _FAMILIES[self.library.machine]
        self.machine = unicorn.Uc(*self._family["mode"])
        if self.library.machine == 183:
            self.machine.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        self._map()
        self.machine.mem_map(STACK, ROOM, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        self.machine.mem_map(IMPORTS, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self.machine.mem_map(END, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self._imports = {name: IMPORTS + 16 * i for i, name in enumerate(self.library.imports) if name not in missing}
        self._relocate()
        for name, at in self._imports.items():
            self.machine.mem_write(at, self._family["return"])
            self.machine.hook_add(unicorn.UC_HOOK_CODE, self._imported(name), begin=at, end=at)
        self.machine.hook_add(unicorn.UC_HOOK_MEM_READ_UNMAPPED | unicorn.UC_HOOK_MEM_WRITE_UNMAPPED, _lend)

    def function(self, name: str) -> Callable[..., int]:
        return lambda *arguments: self.call(name, *arguments)

    def address(self, name: str) -> int:
        symbol = self.library.found(name)
        if symbol is None:
            raise LookupError(name)
        return BASE + symbol.address

    def call(self, name: str, *arguments: int) -> int:
        """Call a function with integers, and return its 64-bit result."""
        for register, value in zip(self._family["arguments"], arguments, strict=False):
            self.machine.reg_write(register, value & (1 << 64) - 1)
        top = STACK + ROOM - 64
        if self.library.machine == 62:  # the return address lies on the stack
            top -= 8
            self.machine.mem_write(top, struct.pack("<Q", END))
        else:
            self.machine.reg_write(arm.UC_ARM64_REG_LR, END)
        self.machine.reg_write(self._family["stack"], top)
        self.machine.emu_start(self.address(name), END)
        return int(self.machine.reg_read(self._family["result"]))

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address of the emulator or of this process."""
        return bytes(self.machine.mem_read(address, size)) if address < LENT else ctypes.string_at(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write bytes at an address of the emulator or of this process."""
        if address < LENT:
            self.machine.mem_write(address, data)
        else:
            ctypes.memmove(address, data, len(data))

    def _map(self) -> None:
        for s in self.library.loaded:
            begin, end = s.address // PAGE * PAGE, -(-(s.address + s.size) // PAGE) * PAGE
            assert s.address % s.align == s.offset % s.align
            self.machine.mem_map(BASE + begin, end - begin, _protection(s.access))
            # whole pages of the file are mapped; those behind the segment's own bytes hold what follows in the file
            content = self.library.data[s.offset - s.address % PAGE : s.offset + s.stored]
            self.machine.mem_write(BASE + begin, content)

    def _relocate(self) -> None:
        """Apply the relocations of the dynamic loader, then protect what is read-only after that."""
        for r in self.library.relocations:
            (segment,) = (s for s in self.library.loaded if s.address <= r.place < s.address + s.stored)
            assert segment.access & W, "the loader writes to writable segments only"
            if self._family["relocations"][r.type] == "relative":
                assert r.symbol == 0
                value = BASE + r.addend
            else:
                symbol = self.library.symbols[r.symbol]
                assert symbol.section == 0, "the library binds its own symbols"
                value = self._imports.get(symbol.name, 0)
                assert value or symbol.bind == 2, f"{symbol.name} is missing"
                value += r.addend
            self.machine.mem_write(BASE + r.place, struct.pack("<Q", value))
        for s in self.library.segments:
            if s.type == 0x6474E552:
                begin, end = s.address // PAGE * PAGE, (s.address + s.size) // PAGE * PAGE
                self.machine.mem_protect(BASE + begin, end - begin, unicorn.UC_PROT_READ)

    def _imported(self, name: str) -> Callable[..., None]:
        def act(machine: Any, *_: Any) -> None:
            arguments = [machine.reg_read(r) for r in self._family["arguments"]]
            if name in ("memcpy", "memmove"):
                self.write(arguments[0], self.read(arguments[1], arguments[2]))
            elif name == "memset":
                self.write(arguments[0], bytes([arguments[1] & 255]) * arguments[2])
            else:
                self._float(name)
            if name.startswith("mem"):
                machine.reg_write(self._family["result"], arguments[0])

        return act

    def _float(self, name: str) -> None:
        """A function of one or two floats or doubles, computed by this process's C library."""
        single = name.endswith("f") and name != "erf"
        kind, format, integer = (ctypes.c_float, "<f", "<I") if single else (ctypes.c_double, "<d", "<Q")
        function = getattr(ctypes.CDLL("libm.so.6"), name)
        registers = self._family["floats"][: 2 if name.removesuffix("f") in _OF_TWO else 1]
        function.argtypes, function.restype = [kind] * len(registers), kind
        mask = (1 << 8 * struct.calcsize(integer)) - 1
        bits = [self.machine.reg_read(r) & mask for r in registers]
        result = function(*(struct.unpack(format, struct.pack(integer, b))[0] for b in bits))
        self.machine.reg_write(registers[0], struct.unpack(integer, struct.pack(format, result))[0])


_OF_TWO = {"atan2", "copysign", "fdim", "fmax", "fmin", "fmod", "hypot", "nextafter", "pow", "remainder"}
"""The functions of two numbers."""


def _protection(access: int) -> int:
    """An ELF segment's access as Unicorn's."""
    pairs = ((R, unicorn.UC_PROT_READ), (W, unicorn.UC_PROT_WRITE), (X, unicorn.UC_PROT_EXEC))
    return sum(theirs for bit, theirs in pairs if access & bit)


def _lend(machine: Any, kind: int, address: int, size: int, value: int, data: Any) -> bool:
    """Map the page of this process at an address into the emulator. The process crashes where it has none."""
    if address < LENT:
        return False
    for page in {address // PAGE, (address + size - 1) // PAGE}:
        machine.mem_map_ptr(page * PAGE, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE, page * PAGE)
    return True
