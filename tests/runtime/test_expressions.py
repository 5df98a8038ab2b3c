"""Sizes as text: what the compiler writes is what the runtime reads, and what it does not write is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convc.ir.errors import ShapeError
from convc.ir.sizes import Dim, at, largest, least, named, spelt
from convc.runtime.expressions import DEEPEST, LONGEST, compiled, spelt_out

NAMES = ("batch size", "h", "min")
SIZES = [named(name, least=1) for name in NAMES]
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "min": least,
    "max": largest,
}


def spelling(name: str) -> str:
    return f"s{NAMES.index(name)}"


@st.composite
def sizes(draw: st.DrawFn, depth: int = 4) -> Dim:
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([*SIZES, 1, 2, 7, 31, -3]))
    a, b = draw(sizes(depth - 1)), draw(sizes(depth - 1))
    try:
        return OPERATIONS[draw(st.sampled_from(sorted(OPERATIONS)))](a, b)
    except (ShapeError, ZeroDivisionError):  # a division by what is or may be 0, or too long an expression
        return a


@given(sizes(), st.tuples(*[st.integers(1, 1000)] * 3))
def test_what_is_written_is_read(size: Dim, values: tuple[int, int, int]) -> None:
    text = str(size) if isinstance(size, int) else spelt(size, spelling)
    assert compiled([text], ["s0", "s1", "s2"])(*values) == (at(size, dict(zip(NAMES, values, strict=True))),)


def test_it_binds_as_in_python() -> None:
    texts = ["-(s0 + 1)//2", "2*(-5//s0)", "s0 - 1 - 2*s1", "min(s0, max(1, s1), 6)", "s0//s1//2", "3*-s0", "7"]
    assert compiled(texts, ["s0", "s1"])(7, 2) == (-4, -2, 2, 2, 1, -21, 7)
    assert compiled([], ["s0"])(5) == ()


NO_SIZES = """
s2|s|h|9**9|(1, 2)*3|(1, 2)|min(s0)|min(*s0, 1)|min|max(s0, 1)(2)|s0(1)|2(3)|(s0)(1)|1e5|0x10|1_0
s0 if s0 else 1|lambda: 1|s0/2|s0%2|1)|(1|1, 2|1), (2|s0 s1|--1|()|min(1, )|s0.real|#|s0#|1 + |+1|007|s0  + 1
exec(1, 2)|s0\t+ 1
s0 and s1|"1"|s0 - # 1
"""
"""Text that is no expression, separated by bars."""


@pytest.mark.parametrize(
    "text",
    [
        *(text for line in NO_SIZES.strip().splitlines() for text in line.split("|")),
        *("", "1\n+ 2", "1\n", "9" * 30, "(" * (DEEPEST + 1) + "1" + ")" * (DEEPEST + 1), "(" * 5000),
        "1" + " + 1" * (LONGEST // 4),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no size|none of Python"):
        compiled([text], ["s0", "s1"])


def test_long_and_deep_ones_are_read() -> None:
    deep = "(" * DEEPEST + "s0" + " + 1)" * DEEPEST
    assert compiled([deep, "1" + " + 1" * (LONGEST // 4 - 1)], ["s0"])(5) == (5 + DEEPEST, LONGEST // 4)


def test_a_division_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        compiled(["1//s0"], ["s0"])(0)


def test_people_see_names() -> None:
    assert spelt_out("(s0 + s10)//s1", ["h", "w"]) == "(h + s10)//w"
    assert spelt_out("e0 + 1", ["(h - 1)"], "e") == "(h - 1) + 1"
