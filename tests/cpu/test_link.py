"""The linker: libraries of objects made of LLVM IR and of compiled networks, run as code of both families."""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import small_models
from support.cases import CASES
from support.compiling import compiled
from support.emulated import Emulated
from support.malformed import raises
from support.objects import object_of
from support.oracles import case_graph, expected, run_onnxruntime
from support.shared_library import R, SharedLibrary, W, X
from support.tolerances import MODEL_ATOL, MODEL_RTOL, assert_close

from convc import CompileError
from convc.backends.cpu.elf.imports import IMPORTS
from convc.backends.cpu.elf.link import FAMILIES, link
from convc.backends.cpu.target import AARCH64, parse_target
from convc.ir.op import Case
from convc.runtime.cpu.code import Library
from convc.runtime.cpu.host import host
from convc.runtime.cpu.model import CpuModel

families = pytest.mark.parametrize("family", sorted(FAMILIES))
made = cache(object_of)


def linked(family: str, *texts: str) -> bytes:
    return link([made(text, family) for text in texts], family)


class Run:
    """Functions of a library, called in the emulator, and directly where this processor is of its family."""

    def __init__(self, family: str, *texts: str) -> None:
        code = linked(family, *texts)
        self.emulated = Emulated(code)
        self.native = Library(code) if family == host().family else None

    def __call__(self, name: str, *arguments: int) -> int:
        got = self.emulated.call(name, *arguments)
        if self.native is not None:
            kind = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * len(arguments))
            assert kind(self.native.address(name))(*arguments) == got
        return got


# -- code and data of several objects ----------------------------------------------------------------------------------

CALLER = """
declare i64 @triple(i64)
declare i64 @convc_next(i64)
define i64 @convc_both(i64 %x) {
  %a = call i64 @triple(i64 %x)
  %b = call i64 @convc_next(i64 %a)
  ret i64 %b
}
"""
CALLED = """
define i64 @triple(i64 %x) {
  %a = mul i64 %x, 3
  ret i64 %a
}
define i64 @convc_next(i64 %x) {
  %a = add i64 %x, 1
  ret i64 %a
}
"""


@families
@pytest.mark.parametrize("order", [(CALLER, CALLED), (CALLED, CALLER)])
def test_calls_between_objects(family: str, order: tuple[str, ...]) -> None:
    assert Run(family, *order)("convc_both", 7) == 22


@families
def test_symbols_that_are_local_to_each_object(family: str) -> None:
    texts = [f"""
        @number = internal global i64 {n}
        define internal i64 @read() noinline {{
          %a = load volatile i64, ptr @number
          ret i64 %a
        }}
        define i64 @convc_{n}() {{
          %a = call i64 @read()
          ret i64 %a
        }}""" for n in (11, 22, 33)]  # fmt: skip
    run = Run(family, *texts)
    assert [run(f"convc_{n}") for n in (11, 22, 33)] == [11, 22, 33]


TABLES = """
@tables = external constant [3 x ptr]
@pairs = constant [2 x ptr] [ptr getelementptr (i8, ptr @bytes, i64 3), ptr @bytes]
@bytes = constant [5 x i8] c"\\0A\\0B\\0C\\0D\\0E"
define i64 @convc_call(i64 %i, i64 %x) {
  %at = getelementptr ptr, ptr @tables, i64 %i
  %f = load ptr, ptr %at
  %y = call i64 %f(i64 %x)
  ret i64 %y
}
define i64 @convc_byte(i64 %i) {
  %at = getelementptr ptr, ptr @pairs, i64 %i
  %p = load volatile ptr, ptr %at
  %b = load i8, ptr %p
  %r = zext i8 %b to i64
  ret i64 %r
}
"""
FUNCTIONS = "\n".join(f"""
define internal i64 @f{i}(i64 %x) {{
  %a = add i64 %x, {10**i}
  ret i64 %a
}}""" for i in range(3))  # fmt: skip
FUNCTIONS += "\n@tables = constant [3 x ptr] [ptr @f0, ptr @f1, ptr @f2]\n"


@families
def test_data_with_addresses(family: str) -> None:
    run = Run(family, TABLES, FUNCTIONS)
    assert [run("convc_call", i, 5) for i in range(3)] == [6, 15, 105]
    assert [run("convc_byte", i) for i in range(2)] == [13, 10]


@families
def test_jump_tables(family: str) -> None:
    """A switch of many cases, each of which does something else, becomes a table of distances in the constants."""
    cases = "\n".join(f"i64 {i}, label %case{i}" for i in range(20))
    blocks = "\n".join(
        f"case{i}:\n  %v{i} = load volatile i64, ptr %p\n  %r{i} = {op} i64 %v{i}, {i + 2}\n  ret i64 %r{i}"
        for i, op in enumerate(["add", "mul", "xor", "sub"] * 5)
    )
    text = f"""
    define i64 @convc_switch(i64 %x, ptr %p) {{
      switch i64 %x, label %other [{cases}]
    {blocks}
    other:
      ret i64 -1
    }}"""
    value = np.array([1000], np.int64)
    run = Run(family, text)
    want = [[1000 + n, 1000 * n, 1000 ^ n, 1000 - n][i % 4] for i, n in enumerate(range(2, 22))]
    assert [run("convc_switch", i, value.ctypes.data) for i in range(20)] == want
    assert run("convc_switch", 20, value.ctypes.data) == (1 << 64) - 1


@families
def test_data_that_is_written_and_data_of_zeros(family: str) -> None:
    """Globals are shared by the objects; those that begin as zeros take no room in the file."""
    first = """
    @count = global i64 40
    @room = global [300000 x i64] zeroinitializer
    define i64 @convc_add(i64 %x) {
      %a = load i64, ptr @count
      %b = add i64 %a, %x
      store i64 %b, ptr @count
      store i64 %b, ptr getelementptr ([300000 x i64], ptr @room, i64 0, i64 299999)
      ret i64 %b
    }"""
    second = """
    @count = external global i64
    @room = external global [300000 x i64]
    define i64 @convc_read() {
      %a = load i64, ptr @count
      %b = load i64, ptr getelementptr ([300000 x i64], ptr @room, i64 0, i64 299999)
      %c = load i64, ptr getelementptr ([300000 x i64], ptr @room, i64 0, i64 0)
      %d = add i64 %a, %b
      %e = add i64 %c, %d
      ret i64 %e
    }"""
    run = Run(family, first, second)
    assert run("convc_read") == 40
    assert [run("convc_add", 1), run("convc_add", 1)] == [41, 42]
    assert run("convc_read") == 84
    assert len(linked(family, first, second)) < 10_000


WIDTHS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "i128": 128}


@families
@pytest.mark.parametrize("dtype", WIDTHS)
def test_constants_of_each_width(family: str, dtype: str) -> None:
    """Loads of each width reach constants whose addresses have any last bits that the alignment allows."""
    step = WIDTHS[dtype] // 8
    names = [f"@c{i}" for i in range(9)]
    text = "\n".join(
        f"{name} = internal global {dtype} {i + 1}, align {step}\n"
        f"@gap{i} = internal global [{step * (i % 3 + 1)} x i8] zeroinitializer, align {step}"
        for i, name in enumerate(names)
    )
    loads = "\n".join(f"%v{i} = load volatile {dtype}, ptr {name}" for i, name in enumerate(names))
    gaps = "\n".join(f"store volatile i8 0, ptr @gap{i}" for i in range(len(names)))
    sums = "\n".join(f"%s{i} = add {dtype} %{f's{i - 1}' if i else 'v0'}, %v{i}" for i in range(len(names)))
    end = "%r = add i64 %s8, 0" if dtype == "i64" else f"%r = {'trunc' if step > 8 else 'zext'} {dtype} %s8 to i64"
    text += f"\ndefine i64 @convc_sum() {{\n{loads}\n{gaps}\n{sums}\n{end}\nret i64 %r\n}}"
    assert Run(family, text)("convc_sum") == 1 + sum(range(1, 10))


@families
def test_constants_keep_their_alignment(family: str) -> None:
    """Vectors are read by instructions that need it, whatever lies before them in the library."""
    texts = [f"""
        @odd{i} = constant [{i + 1} x i8] c"{'x' * (i + 1)}"
        @wide{i} = constant [64 x i8] c"{chr(ord('a') + i) * 64}", align 64
        define i64 @convc_odd{i}() {{
          %a = load volatile i8, ptr @odd{i}
          %b = zext i8 %a to i64
          ret i64 %b
        }}
        define i64 @convc_wide{i}() {{
          %a = ptrtoint ptr @wide{i} to i64
          ret i64 %a
        }}""" for i in range(3)]  # fmt: skip
    emulated = Emulated(linked(family, *texts))
    for i in range(3):
        at = emulated.call(f"convc_wide{i}")
        assert at % 64 == 0
        assert emulated.machine.mem_read(at, 64) == bytes([ord("a") + i]) * 64
        assert emulated.call(f"convc_odd{i}") == ord("x")


@families
def test_many_constants(family: str) -> None:
    text = """
    @table = internal constant [100000 x i64] [{}]
    define i64 @convc_at(i64 %i) {{
      %at = getelementptr i64, ptr @table, i64 %i
      %a = load i64, ptr %at
      ret i64 %a
    }}""".format(", ".join(f"i64 {i * i}" for i in range(100_000)))
    run = Run(family, text, CALLED)
    assert [run("convc_at", i) for i in (0, 1, 50_001, 99_999)] == [0, 1, 50_001**2, 99_999**2]
    assert run("convc_next", 1) == 2


@families
def test_distances_between_symbols(family: str) -> None:
    """A distance in 64 bits and one in 32, from a constant to a function."""
    text = """
    @wide = constant i64 sub (i64 ptrtoint (ptr @convc_end to i64), i64 ptrtoint (ptr @wide to i64))
    @narrow = constant i32 trunc (i64 sub (i64 ptrtoint (ptr @convc_end to i64), i64 ptrtoint (ptr @narrow to i64))
      to i32)
    define hidden void @convc_end() {
      ret void
    }
    define i64 @convc_wide() {
      %a = load volatile i64, ptr @wide
      %b = add i64 %a, ptrtoint (ptr @wide to i64)
      ret i64 %b
    }
    define i64 @convc_narrow() {
      %a = load volatile i32, ptr @narrow
      %b = sext i32 %a to i64
      %c = add i64 %b, ptrtoint (ptr @narrow to i64)
      ret i64 %c
    }
    define i64 @convc_there() {
      %a = ptrtoint ptr @convc_end to i64
      ret i64 %a
    }"""
    emulated = Emulated(linked(family, text))
    assert emulated.call("convc_wide") == emulated.call("convc_narrow") == emulated.call("convc_there")


# -- the C library -----------------------------------------------------------------------------------------------------

LIBC = """
declare ptr @memcpy(ptr, ptr, i64)
declare float @expf(float)
@functions = constant [1 x ptr] [ptr @expf]
define ptr @convc_copy(ptr %to, ptr %from, i64 %n) {
  %a = call ptr @memcpy(ptr %to, ptr %from, i64 %n)
  ret ptr %a
}
define i64 @convc_exp(ptr %to, ptr %from) {
  %x = load float, ptr %from
  %y = call float @expf(float %x)
  %f = load volatile ptr, ptr @functions
  %z = call float %f(float %y)
  store float %z, ptr %to
  ret i64 0
}
"""


@families
def test_functions_of_the_c_library(family: str) -> None:
    """They are called directly, and by their addresses in the data."""
    run = Run(family, LIBC)
    source, target = np.arange(16.0, dtype=np.float32), np.zeros(16, np.float32)
    assert run("convc_copy", target.ctypes.data, source.ctypes.data, source.nbytes) == target.ctypes.data
    np.testing.assert_array_equal(target, source)
    run("convc_exp", target.ctypes.data, source[1:].ctypes.data)
    np.testing.assert_allclose(target[0], np.exp(np.exp(1.0)), rtol=1e-6)
    assert set(SharedLibrary(linked(family, LIBC)).imports) == {"memcpy", "expf"}


def test_the_c_library_of_this_machine_has_what_may_be_imported() -> None:
    process, math = ctypes.CDLL(None), ctypes.CDLL("libm.so.6")
    assert [name for name in sorted(IMPORTS) if not (hasattr(process, name) or hasattr(math, name))] == []


WEAK = """
declare extern_weak i64 @convc_may_lack(i64)
define i64 @convc_ask(i64 %x) {
  %there = icmp ne ptr @convc_may_lack, null
  br i1 %there, label %yes, label %no
yes:
  %a = call i64 @convc_may_lack(i64 %x)
  ret i64 %a
no:
  ret i64 77
}
"""


@families
def test_weak_symbols(family: str) -> None:
    """A weak import may be missing. A weak definition gives way to another one, and the first of several counts."""
    lacking = linked(family, WEAK)
    assert SharedLibrary(lacking).imports["convc_may_lack"].bind == 2
    assert Emulated(lacking, missing=("convc_may_lack",)).call("convc_ask", 1) == 77
    if family == host().family:
        assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(Library(lacking).address("convc_ask"))(1) == 77

    def definition(kind: str, value: int) -> str:
        return f"define {kind} i64 @convc_may_lack(i64 %x) {{\n  ret i64 {value}\n}}"

    assert Run(family, WEAK, definition("weak", 1), definition("weak", 2))("convc_ask", 0) == 1
    assert Run(family, definition("weak", 1), WEAK, definition("", 2))("convc_ask", 0) == 2
    assert Run(family, definition("linkonce_odr", 3), definition("linkonce_odr", 3), WEAK)("convc_ask", 0) == 3


# -- the library -------------------------------------------------------------------------------------------------------


@families
def test_the_library(family: str) -> None:
    """Only functions of convc are exported, no memory is writable and executable, and no other library is needed."""
    code = linked(family, CALLER, CALLED, TABLES, FUNCTIONS, LIBC, WEAK)
    library = SharedLibrary(code)
    assert library.machine == FAMILIES[family].machine
    assert set(library.exports) == {
        *("convc_both", "convc_next", "convc_call", "convc_byte", "convc_copy", "convc_exp", "convc_ask")
    }
    assert all(library.found(name) == symbol for name, symbol in library.exports.items())
    assert library.found("triple") is None
    assert all(s.size for s in library.exports.values())
    assert [s.access for s in library.loaded] == [R, R | X, R | W]
    (stack,) = (s for s in library.segments if s.type == 0x6474E551)
    assert stack.access == R | W
    needed, text_relocations = 1, 22
    assert needed not in library.dynamic
    assert text_relocations not in library.dynamic
    for s, following in zip(library.loaded, library.loaded[1:], strict=False):
        assert s.address + s.size <= following.address // s.align * s.align, "segments share no page of memory"
    assert b"triple" not in code
    assert code == linked(family, CALLER, CALLED, TABLES, FUNCTIONS, LIBC, WEAK)


@families
def test_what_nothing_exported_reaches_is_left_out(family: str) -> None:
    """The sections of an object that no exported function reaches, and what they alone import."""
    needless = """
    declare float @sinf(float)
    define float @helper(float %x) {
      %a = call float @sinf(float %x)
      ret float %a
    }"""
    assert linked(family, CALLER, CALLED, needless) == linked(family, CALLER, CALLED)
    hidden = "define hidden i64 @convc_hidden() {\n  ret i64 1\n}\ndefine i64 @convc_seen() {\n  ret i64 2\n}"
    assert set(SharedLibrary(linked(family, hidden)).exports) == {"convc_seen"}


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf, of binutils, is not installed")
@families
def test_binutils_read_the_library(family: str, tmp_path: Path) -> None:
    """The headers of sections, which no loader reads, are right for debuggers and profilers too."""
    (tmp_path / "m.so").write_bytes(linked(family, CALLER, CALLED, TABLES, FUNCTIONS, LIBC, WEAK))
    done = subprocess.run(["readelf", "-aW", tmp_path / "m.so"], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    for words in (r"\.text +PROGBITS", r"FUNC +GLOBAL DEFAULT +\d+ convc_both", "GLOB_DAT", "RELATIVE"):
        assert re.search(words, done.stdout)


# -- errors ------------------------------------------------------------------------------------------------------------


@families
def test_symbols_that_are_missing_or_defined_twice(family: str) -> None:
    with raises(CompileError, "the symbol 'triple' is not defined", "the C library has no such function"):
        linked(family, CALLER.replace("declare i64 @convc_next", "declare i64 @cos").replace("@convc_next", "@cos"))
    with raises(CompileError, "the symbol '", "' is defined 2 times"):
        linked(family, CALLED, CALLED)


@families
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@x = thread_local global i64 1\ndefine ptr @convc_f() {\n  ret ptr @x\n}", ["'x'", "thread-local"]),
        (
            "@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } "
            "{ i32 65535, ptr @convc_f, ptr null }]\ndefine void @convc_f() {\n  ret void\n}",
            ["the section '.init_array'"],
        ),
        (
            "@memcpy = external dso_local global i8\ndefine ptr @convc_f() {\n  ret ptr @memcpy\n}",
            ["to 'memcpy'", "needs an address that only the loader will know", ".text", "of object file 0"],
        ),
        ("@x = common global i64 0\ndefine ptr @convc_f() {\n  ret ptr @x\n}", ["'x'", "common"]),
    ],
)
def test_what_no_library_can_hold(family: str, text: str, words: list[str]) -> None:
    with raises(CompileError, *words):
        linked(family, text)


@families
def test_code_that_cannot_reach_its_data(family: str) -> None:
    """Code reaches 2 GiB on x86-64, and 4 GiB on AArch64. The data is zeros, of which the file holds none."""
    size = 3 << 30 if family == "x86_64" else 5 << 30
    text = f"""
    @far = internal global [{size} x i8] zeroinitializer
    @near = internal global i64 0
    define i64 @convc_f() {{
      %a = load volatile i8, ptr @far
      %b = load volatile i64, ptr @near
      ret i64 %b
    }}"""
    names = {"x86_64": "R_X86_64_PC32", "aarch64": "R_AARCH64_ADR_PREL_PG_HI21"}
    with raises(CompileError, f"{names[family]} at .text+0x", "of object file 0", "is out of range"):
        linked(family, text)


@families
def test_a_relocation_that_is_unknown(family: str) -> None:
    """The error names the relocation, by its number where it has no name."""
    number = {"x86_64": 4, "aarch64": 283}[family]
    others = {
        "x86_64": {19: "R_X86_64_TLSGD", 250: "250 of x86_64"},
        "aarch64": {314: "R_AARCH64_PLT32", 999: "999 of"},
    }
    for other, words in others[family].items():
        changed = bytearray(made(CALLER, family))
        assert retyped(changed, number, other)
        with raises(CompileError, words, "at .text+0x", "to 'triple'", "is of a type that convc does not link"):
            link([bytes(changed), made(CALLED, family)], family)


def retyped(data: bytearray, old: int, new: int) -> int:
    """Change the type of relocations of an object. Returns how many there were."""
    (table,), (count,) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<H", data, 60)
    changed = 0
    for section in range(table, table + 64 * count, 64):
        (kind,), (start, size) = (
            struct.unpack_from("<I", data, section + 4),
            struct.unpack_from("<QQ", data, section + 24),
        )
        for at in range(start + 8, start + size, 24) if kind == 4 else ():
            if struct.unpack_from("<I", data, at) == (old,):
                struct.pack_into("<I", data, at, new)
                changed += 1
    return changed


@families
def test_objects_of_another_kind(family: str) -> None:
    other = next(name for name in FAMILIES if name != family)
    with raises(CompileError, "object file 1 is not a relocatable object", f"for {family}"):
        link([made(CALLER, family), made(CALLED, other)], family)
    for data in (b"", b"\xcf\xfa\xed\xfe" + bytes(100), made(CALLER, family)[:60]):
        with raises(CompileError, "object file 0 is not a 64-bit ELF file"):
            link([data], family)
    with raises(CompileError, "object file 0 is not a relocatable object"):
        link([linked(family, CALLED)], family)


@families
def test_damaged_objects(family: str) -> None:
    """Whatever happened to an object, the linker makes a library or raises ``CompileError``."""
    rng = np.random.default_rng(0)
    whole = [made(text, family) for text in (CALLER, CALLED, TABLES, FUNCTIONS, LIBC)]
    refused = 0
    for i in range(400):
        objects = [bytearray(data) for data in whole]
        for data in objects[i % len(objects) :][:1]:
            if i % 7 == 0:
                del data[rng.integers(64, len(data)) :]
            else:
                tables = len(data) - struct.unpack_from("<Q", data, 40)[0] if i % 2 else len(data) - 64
                for at in len(data) - rng.integers(1, tables, 3):
                    data[at] = rng.choice([0, 1, 127, 255, rng.integers(256)])
        try:
            link([bytes(data) for data in objects], family)
        except CompileError:
            refused += 1
    assert refused > 100


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], CpuModel]:
    """``emulated(source, target)`` compiles for a processor, and gives the model whose library the emulator runs."""
    monkeypatch.setattr("convc.runtime.cpu.model.lacks", lambda description: "")

    def make(source: Any, target: str) -> CpuModel:
        alone = replace(parse_target(target), network_cycles=1 << 60)  # no pool of threads
        part = compiled(source, alone).part()
        return CpuModel(Emulated(bytes(part.code)), part.description, part.weights, 1)

    return make


SOME = [(small_models.attention, "aarch64"), (small_models.mobilenet, "neoverse-n1")]
EMULATED = [name for name in AARCH64 if name not in ("neoverse-n2", "neoverse-v1")]
"""The processors that Unicorn has all instructions of. It lacks some of those with SVE."""
ALL = [(network, target) for target in EMULATED for network in small_models.MODELS]


@pytest.mark.parametrize(
    ("network", "target"), [*SOME, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ALL if pair not in SOME)]
)
def test_networks_for_aarch64(network: Any, target: str, emulated: Callable[[Any, str], CpuModel]) -> None:
    proto = network(1, 4)
    model = emulated(proto, target)
    x = np.random.default_rng(1).standard_normal(model.inputs[0].sizes).astype(np.float32)
    for name, want in zip((p.name for p in model.outputs), run_onnxruntime(proto, {"x": x}), strict=True):
        assert_close(model.run({"x": x})[name], want, name, tolerance=(MODEL_RTOL, MODEL_ATOL))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ops_for_aarch64(case: Case, emulated: Callable[[Any, str], CpuModel]) -> None:
    graph, feeds = case_graph(case)
    got = emulated(graph, "neoverse-n1")(*feeds.values())
    for oracle, want in expected(case, graph, feeds):
        for g, w in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
            assert_close(g, w, f"{case.op} against {oracle}")
