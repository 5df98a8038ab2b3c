"""Translation of CUDA C++ to C++ for the emulator: shared arrays, and inline PTX."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import EmulationError

_ASM = re.compile(r"(?:__asm__|asm)\s*(?:__volatile__|volatile)?\s*\(")
_STRING = re.compile(r'\s*"((?:[^"\\]|\\.)*)"')
_OPERAND = re.compile(r'"[=+]?[a-z]"\s*\(')
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w ]+?)\s+(\w+)\[\];")
_STATIC = re.compile(r"__shared__\s+(?:(?:alignas|__align__)\((\d+)\)\s+)?([\w ]+?)\s+(\w+)\[(\d+)\];")
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(')

_TRANSLATIONS: tuple[tuple[str, str], ...] = (
    (r"cp\.async\.wait_group\s+(\d+)", r"ptx_wait(\1)"),
    (r"cp\.async\.wait_all", "ptx_wait_all()"),
    (r"cp\.async\.commit_group", "ptx_commit()"),
    (r"setp\.(?:eq\.u32 p, %3, 1|ne\.b32 p, %3, 0);.*cp\.async\.c[ag]", "ptx_copy_if({0}, {1}, {2}, {3})"),
    (r"^\s*cp\.async\.c[ag][\w.:]*\s+\[%0\], \[%1\], %2;", "ptx_copy({0}, {1}, {2})"),
    (r"^\s*cp\.async\.c[ag][\w.:]*\s+\[%0\], \[%1\], %2, %3;", "ptx_copy({0}, {1}, {2}, {3})"),
    (r"ldmatrix\.sync\.aligned(?!.*trans)", "ptx_ldmatrix<false>({all})"),
    (r"ldmatrix\.sync\.aligned.*trans", "ptx_ldmatrix<true>({all})"),
    (r"mma\.sync\.aligned\.(m\d+n\d+k\d+)\.row\.col\.f32\.(f16|tf32)\.\2\.f32", r"ptx_mma_\1_\2({all})"),
    (r"cvt\.rna\.tf32\.f32\s+%0, %1;", "ptx_to_tf32({0}, {1})"),
)
"""The calls that replace ``asm`` statements, by their templates. Operands are numbered as in the template."""


def kernels(source: str) -> list[str]:
    """The names of the kernels that a source defines, in order."""
    return list(dict.fromkeys(_KERNEL.findall(source)))


def translate(source: str) -> str:
    """Translate a source to C++ that compiles with ``shim.h`` before it. Raises ``EmulationError`` for unknown PTX."""
    source = _DYNAMIC.sub(r"\1* const \2 = static_cast<\1*>(emulator::dynamic_shared());", source)
    source = _STATIC.sub(
        lambda m: (
            f"auto& {m[3]} = emulator::static_shared<{m[2]}[{m[4]}], __COUNTER__, {m[1] or f'alignof({m[2]})'}>();"
        ),
        source,
    )
    out, at = [], 0
    for start, opening in ((m.start(), m.end() - 1) for m in _ASM.finditer(source)):
        end = _closing(source, opening)
        out += [source[at:start], _statement(source[opening + 1 : end - 1])]
        at = end
    return "".join([*out, source[at:]])


def _statement(body: str) -> str:
    template, operands = _parse(body)
    for pattern, call in _TRANSLATIONS:
        found = re.search(pattern, template, re.DOTALL)
        if found:
            named = found.expand(call.replace("{", "{{").replace("}", "}}")) if "\\" in call else call
            named = named.replace("{{", "{").replace("}}", "}")
            return "emulator::" + named.format(*operands, all=", ".join(operands))
    raise EmulationError(f"the emulator does not know the PTX {template!r}: add it to tests/emulator/source.py")


def _parse(body: str) -> tuple[str, list[str]]:
    """The template of an ``asm`` statement and its operands, outputs first."""
    at, template = 0, ""
    while found := _STRING.match(body, at):
        template += found[1].replace("\\n", "\n").replace("\\t", " ")
        at = found.end()
    return template, list(_operands(body[at:]))


def _operands(text: str) -> Iterator[str]:
    at = 0
    while found := _OPERAND.search(text, at):
        at = _closing(text, found.end() - 1)
        yield text[found.end() - 1 : at]


def _closing(text: str, opening: int) -> int:
    """The index after the bracket that closes the one at ``opening``. Brackets in strings do not count."""
    depth, at = 0, opening
    while True:
        if text[at] == '"':
            string = _STRING.match(text, at)
            assert string is not None
            at = string.end()
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at
