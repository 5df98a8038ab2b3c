"""Compiled kernels: they are found in the cache on disk, or else scheduled, lowered and generated.

A kernel is an object file with one C function (``lower.py``), whose name holds a hash of all that determines the kernel
but the compiler. It refers to nothing of the network that it was compiled for, so all networks share it. LLVM generates
kernels on all processors, while the calling thread schedules and lowers further ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import tvm_ffi
from tvm import tirx

from convc.runtime.processors import available_processors

from ..group import Group
from ..identity import foreign_ops
from ..kernels import Distinct, ask
from ..store import Store
from .compiled import Compiled, find, keep
from .cost import kernel_cycles
from .lower import Lowered, generate, lower
from .machine_code import object_of
from .rules import RULES
from .target import Target


def compiled(found: Sequence[Distinct], target: Target, parallel: bool, store: Store | None) -> dict[str, Compiled]:
    """The kernels of distinct groups, by the groups' names. With ``parallel`` they share out their loops.

    Raises ``CompileError`` that names a node.
    """
    shared = {d.name: parallel and kernel_cycles(d.group, target.machine) > target.launch_cycles for d in found}
    symbols = {d.name: symbol_of(d.group, target, shared[d.name]) for d in found}
    kernels = {name: k for name, symbol in symbols.items() if (k := find(store, symbol))}
    made: dict[str, Compiled] = {}
    try:
        for name, kernel in _made([d for d in found if d.name not in kernels], target, shared, symbols):
            made[name] = kernel
    finally:  # what was made before an error or an interrupt need not be made again
        keep(store, made.values())
    return kernels | made


def symbol_of(group: Group, target: Target, shared: bool) -> str:
    """The name of the function of a group's kernel: readable, and with a hash of what determines the kernel."""
    machine = [target.mcpu, target.triple, target.threads, target.without, sorted(target.features)]
    text = json.dumps([group.key, machine, shared, foreign_ops(group.body)])
    readable = re.sub(r"\W", "_", group.name, flags=re.ASCII)[:40]
    return f"convc_{readable}_{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _made(
    found: Sequence[Distinct], target: Target, shared: Mapping[str, bool], symbols: Mapping[str, str]
) -> Iterator[tuple[str, Compiled]]:
    """The kernels that had to be compiled, by the names of their groups, as they are done."""
    if not found:
        return
    pool = ThreadPoolExecutor(available_processors(), "convc-compile")
    try:
        waiting: list[tuple[Distinct, str, Lowered, Future[bytes]]] = []
        for d in found:
            lowered, rule = d.attempt(lambda group, d=d: _lowered(group, symbols[d.name], target, shared[d.name]))  # type: ignore[misc]
            waiting.append((d, rule, lowered, pool.submit(_generated, lowered, target)))
        for d, rule, lowered, future in waiting:
            code = d.attempt(lambda _, future=future: future.result())  # type: ignore[misc]
            yield d.name, Compiled(symbols[d.name], rule, lowered.scratch, lowered.part, lowered.parallel, code)
    finally:
        pool.shutdown(cancel_futures=True)


def _lowered(group: Group, symbol: str, target: Target, shared: bool) -> tuple[Lowered, str]:
    func, rule = schedule(group, target, shared)
    return lower(func, symbol, target), rule


def _generated(lowered: Lowered, target: Target) -> bytes:
    return object_of(generate(lowered, target))


def schedule(group: Group, target: Target, shared: bool = True) -> tuple[Any, str]:
    """The scheduled function of a group, and the name of the rule that made it.

    With ``shared``, its loops may be shared out among threads.
    """
    func, rule = ask(RULES, group, target)
    return func if shared else sequential(func), rule


def sequential(func: Any) -> Any:
    """The function with its parallel loops made serial."""

    def visit(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))
