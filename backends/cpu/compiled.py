"""Compiled kernels, and where they are kept in the cache on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

from convc.runtime.expressions import Count, compiled

from ..identity import compiler
from ..store import Store
from .facts import facts


@dataclass(frozen=True)
class Compiled:
    """A compiled kernel: its function, the rule that scheduled it, the memory that it needs, and its object file.

    ``scratch`` is the size of its scratch memory in bytes. ``part`` is the number of bytes for each thread that works
    on one of its parallel loops, and ``parallel`` tells whether it has any. ``needs`` and ``cost`` say when it is
    called, where a group has several (``planning.py``). Numbers that depend on extents are expressions of these.
    """

    symbol: str
    rule: str
    scratch: Count
    part: Count
    parallel: bool
    code: bytes
    needs: tuple[tuple[Count, int], ...] = ()
    cost: Count = 0

    def record(self) -> bytes:
        """The kernel as a record of the cache: a line of JSON, and the object file."""
        head = asdict(self)
        del head["code"]
        return json.dumps(head).encode() + b"\n" + self.code

    @staticmethod
    def of(record: bytes) -> Compiled:
        """The kernel of a record."""
        line, _, code = record.partition(b"\n")
        head = json.loads(line)
        needs = tuple((size, least) for size, least in head.pop("needs"))
        return Compiled(**head, needs=needs, code=code)


def chosen(kernels: Sequence[Compiled], extents: Sequence[int]) -> Compiled | None:
    """The kernel of a group that a call with these extents runs, as the runtime chooses it; ``None`` for none."""
    able = [k for k in kernels if all(size >= least for size, least in _needs(k, extents))]
    return min(able, key=lambda k: _value(k.cost, extents), default=None)


def overlaps(kernel: Compiled, extents: Sequence[int]) -> bool:
    """Whether the last tile along some axis computes again what the one before it computed.

    Then it may also read what that one has written, if a result lies over an operand.
    """
    return any(least > 1 and size % least for size, least in _needs(kernel, extents))


def _needs(kernel: Compiled, extents: Sequence[int]) -> list[tuple[int, int]]:
    return [(_value(size, extents), least) for size, least in kernel.needs]


def _value(count: Count, extents: Sequence[int]) -> int:
    return _function(count, len(extents))(*extents)[0] if isinstance(count, str) else count


@lru_cache(maxsize=4096)
def _function(text: str, extents: int) -> Callable[..., tuple[int, ...]]:
    """The function that gives the value of an expression: many nodes of a network call the same kernels."""
    return compiled([text], [f"e{i}" for i in range(extents)])


def find(store: Store | None, symbol: str) -> Compiled | None:
    """The kernel of a name, when the store has it, compiled by this compiler."""
    record = store.read(_file(symbol)) if store else None
    return None if record is None else Compiled.of(record)


def keep(store: Store | None, kernels: Iterable[Compiled]) -> None:
    """Write kernels to the store, if there is one, and what LLVM knows of the machine."""
    if store:
        facts().keep(store)
        store.keep({_file(k.symbol): k.record() for k in kernels})


def _file(symbol: str) -> str:
    return f"{symbol}-{hashlib.sha256(compiler().encode()).hexdigest()[:16]}.o"
