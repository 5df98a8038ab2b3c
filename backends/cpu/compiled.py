"""Compiled kernels, which are found in the cache on disk or else compiled and kept there.

A kernel is an object file with one C function (``lower.py``), whose name holds a hash of all that determines the kernel
but the compiler. It refers to nothing of the network that it was compiled for, so all networks share it. When all
kernels are found, TVM is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from ..group import Group
from ..identity import compiler, foreign_ops
from ..kernels import Distinct
from ..store import Store
from .cost import kernel_cycles
from .facts import facts
from .target import Target


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


def kernels(found: Sequence[Distinct], target: Target, parallel: bool, store: Store | None) -> dict[str, Compiled]:
    """The kernels of distinct groups, by the groups' names. With ``parallel``, large ones share out their loops.

    Raises ``CompileError`` that names a node.
    """
    shared = {d.name: parallel and kernel_cycles(d.group, target.machine) > target.launch_cycles for d in found}
    symbols = {d.name: symbol_of(d.group, target, shared[d.name]) for d in found}
    there = {name: k for name, symbol in symbols.items() if (k := find(store, symbol))}
    if len(there) == len(found):
        return there
    from .codegen import made

    new: dict[str, Compiled] = {}
    try:
        for name, kernel in made([d for d in found if d.name not in there], target, shared, symbols):
            new[name] = kernel
    finally:  # what was made before an error or an interrupt need not be made again
        keep(store, new.values())
    return there | new


def symbol_of(group: Group, target: Target, shared: bool) -> str:
    """The name of the function of a group's kernel: readable, and with a hash of what determines the kernel."""
    machine = [target.mcpu, target.triple, target.threads, target.without, sorted(target.features)]
    text = json.dumps([group.key, machine, shared, foreign_ops(group.body)])
    readable = re.sub(r"\W", "_", group.name, flags=re.ASCII)[:40]
    return f"convc_{readable}_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
