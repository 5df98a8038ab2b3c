"""Sizes that are known when a model is called: expressions over named sizes, as text that an artifact holds.

    expression := factor ((" + " | " - " | "*" | "//") factor)*      which bind as in Python; "//" rounds down
    factor     := ["-"] (integer | name | "(" expression ")" | ("min" | "max") "(" expression (", " expression)+ ")")

The compiler writes them in the canonical form of its sizes (``ir/sizes.py``), and decides there what is equal and what
is known. A runtime only evaluates them, and often: it needs none of that, and compiles all expressions of a plan to one
function of Python. Since an artifact may be damaged, its text is checked against the grammar first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

Count = int | str
"""A number, or an expression."""
LONGEST = 6000
"""The number of characters that an expression may have. Those of the compiler hold at most 200 names and operations."""
DEEPEST = 60
"""How deep its parentheses may nest."""
LARGEST = (1 << 63) - 1
"""The largest size of all, which a 64-bit integer holds."""

_FACTOR = r"-?(?:\d{1,19}|[a-z]\d{1,9}|#)"  # of which # is an expression in parentheses that was checked
_PLAIN = rf"{_FACTOR}(?:(?: [+-] |\*|//){_FACTOR})*"
_EXPRESSION = re.compile(_PLAIN)
_INNERMOST = re.compile(rf"\({_PLAIN}\)|(?:min|max)\({_PLAIN}(?:, {_PLAIN})+\)")
_WORD = re.compile(r"[a-z][a-z0-9]*")


def compiled(expressions: Sequence[str], names: Sequence[str]) -> Callable[..., tuple[int, ...]]:
    """A function that gives the values of expressions, in order, for those of the names, in order.

    A name is a letter and a number, such as ``s0``. The function raises ``ZeroDivisionError`` for a division by 0.
    Raises ``ValueError`` for text that is no expression over these names.
    """
    known = frozenset(names)
    for text in expressions:
        _check(text, known)
    source = f"lambda {','.join(names)}: ({''.join(f'{text},' for text in expressions)})"
    try:
        made: Callable[..., tuple[int, ...]] = eval(source, {"__builtins__": {}, "min": min, "max": max})
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("an expression is none of Python") from None
    return made


def _check(text: str, names: Collection[str]) -> None:
    """Raise ``ValueError`` for text that is no expression over these names."""
    rest, depth = text if len(text) <= LONGEST and "#" not in text else "", 0
    while "(" in rest and depth < DEEPEST:
        rest, depth = _INNERMOST.sub("#", rest), depth + 1
    if not _EXPRESSION.fullmatch(rest) or not {"min", "max", *names}.issuperset(_WORD.findall(text)):
        raise ValueError(f"{text[:80]!r} is no size")


def spelt_out(text: Count, names: Sequence[str], letter: str = "s") -> str:
    """An expression over ``s0``, ``s1``, ... with other text in their place, such as the names that people know."""

    def named(found: re.Match[str]) -> str:
        i = int(found.group(0)[1:])
        return names[i] if i < len(names) else found.group(0)

    return re.sub(rf"\b{letter}\d+\b", named, str(text))
