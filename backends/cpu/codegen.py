"""Compiling kernels: each is scheduled, lowered and generated.

LLVM generates kernels on all processors, while the calling thread schedules and lowers further ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import tvm_ffi
from tvm import tirx

from convc.ir.sizes import Dim, Size, spelt
from convc.runtime.expressions import Count
from convc.runtime.processors import available_processors

from ..group import Group
from ..kernels import Distinct, ask
from .compiled import Compiled
from .cost import is_worth_sharing
from .lower import Lowered, generate, lower
from .machine_code import object_of
from .rules import RULES, Rule
from .target import Target


def made(found: Mapping[str, tuple[Distinct, bool]], target: Target, plain: bool = False) -> Iterator[Compiled]:
    """The kernels of distinct groups, as they are done.

    The groups are given by the names of their functions, each with whether its loops are shared out among threads. With
    ``plain`` they are scheduled by the rule that takes every group. Raises ``CompileError`` that names a node.
    """
    pool = ThreadPoolExecutor(available_processors(), "convc-compile")
    waiting: deque[tuple[str, Distinct, str, Lowered, Future[bytes]]] = deque()

    def first() -> Compiled:
        symbol, d, rule, lowered, future = waiting.popleft()
        code = d.attempt(lambda _: future.result())
        scratch, part, cost = map(spelt_out, (lowered.scratch, lowered.part, lowered.cost))
        needs = tuple((spelt_out(size), least) for size, least in lowered.needs)
        return Compiled(symbol, rule, scratch, part, lowered.parallel, code, needs, cost)

    try:
        for symbol, (d, shared) in found.items():
            lowered, rule = d.attempt(partial(_lowered, symbol=symbol, target=target, shared=shared, plain=plain))
            waiting.append((symbol, d, rule, lowered, pool.submit(_generated, lowered, target)))
            while waiting and waiting[0][-1].done():  # so that an error in a later one does not lose it
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)


def _lowered(group: Group, symbol: str, target: Target, shared: bool, plain: bool) -> tuple[Lowered, str]:
    func, rule = schedule(group, target, shared, RULES[-1:] if plain else RULES)
    return lower(func, symbol, target), rule


def spelt_out(size: Dim) -> Count:
    """A size over extents as a plan writes it."""
    return spelt(size, str) if isinstance(size, Size) else size


def _generated(lowered: Lowered, target: Target) -> bytes:
    return object_of(generate(lowered, target))


def schedule(
    group: Group, target: Target, shared: bool | None = None, rules: Sequence[Rule] = RULES
) -> tuple[Any, str]:
    """The scheduled function of a group, and the name of the rule that made it.

    ``shared`` tells whether its loops are shared out among threads, by default where that is worth it.
    """
    func, rule = ask(rules, group, target)
    return func if (is_worth_sharing(group, target) if shared is None else shared) else sequential(func), rule


def sequential(func: Any) -> Any:
    """The function with its parallel loops made serial."""

    def visit(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))
