"""Compiled kernels, and where they are kept in the cache on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from ..identity import compiler
from ..store import Store
from .facts import facts


@dataclass(frozen=True)
class Compiled:
    """A compiled kernel: its function, the rule that scheduled it, the memory that it needs, and its object file.

    ``scratch`` is the size of its scratch memory in bytes. ``part`` is the number of bytes for each thread that works
    on one of its parallel loops, and ``parallel`` tells whether it has any.
    """

    symbol: str
    rule: str
    scratch: int
    part: int
    parallel: bool
    code: bytes

    def file(self) -> list[bytes]:
        """The kernel as a file of the cache, in chunks: a line of JSON, and the object file."""
        head = asdict(replace(self, code=b"")) | {"code": hashlib.sha256(self.code).hexdigest()}
        return [json.dumps(head).encode() + b"\n", self.code]

    @staticmethod
    def of(file: bytes, symbol: str) -> Compiled | None:
        """The kernel of a file of the cache; ``None`` when the file is damaged, or is that of another kernel."""
        line, _, code = file.partition(b"\n")
        try:
            head = json.loads(line)
            if head.pop("code") != hashlib.sha256(code).hexdigest() or head["symbol"] != symbol:
                return None
            return Compiled(**head, code=code)
        except (ValueError, LookupError, TypeError, AttributeError):
            return None


def find(store: Store | None, symbol: str) -> Compiled | None:
    """The kernel of a name, when the store has it, compiled by this compiler."""
    data = store.read(_file(symbol)) if store else None
    return None if data is None else Compiled.of(data, symbol)


def keep(store: Store | None, kernels: Iterable[Compiled]) -> None:
    """Write kernels to the store, if there is one, and what LLVM knows of the machine."""
    if store:
        facts().keep(store)
        store.write({_file(k.symbol): k.file() for k in kernels})


def _file(symbol: str) -> str:
    return f"{symbol}-{hashlib.sha256(compiler().encode()).hexdigest()[:16]}.o"
