"""Prefetching weights from memory to the second-level cache while the processor computes.

In a network every weight comes from memory once per run. Hardware prefetchers stop at the end of each 4 KB page, so a
kernel that reads its weights once waits for them: a Winograd layer of 256 channels at 14x14 pixels took 1.43 ms with
cold weights where it takes 0.71 ms with warm ones, and 0.78 ms with this (Zen 4; prefetching to the first level gains
half as much, since few misses can be under way there).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from ...schedule import Scheduled

MOST_TILES = 64
"""A panel passed over by more register tiles than this is not prefetched: waiting for it once then costs next to
nothing.
"""
MOST_LINES = 32
"""The longest burst of prefetches; the processor has no place for more."""

_FUNCTION = "convc_prefetch"
_DEFINITION = f"""declare void @llvm.prefetch.p0(ptr, i32 immarg, i32 immarg, i32 immarg)
define void @{_FUNCTION}(ptr %p) alwaysinline nounwind {{
  call void @llvm.prefetch.p0(ptr %p, i32 0, i32 2, i32 1) memory(inaccessiblemem: readwrite)
  ret void
}}"""
"""The function that prefetches, as LLVM IR. It is declared to touch no memory that the program sees: otherwise LLVM
would write the accumulators back to memory before each prefetch.
"""


@dataclass(frozen=True)
class Tiling:
    """A spatial axis of a block, by its position among the block's axes, in ``count`` register tiles of ``size``.

    The number of tiles may be an expression of extents.
    """

    axis: int
    size: int
    count: Any


def prefetch_panels(
    sch: Any, block: str, operand: str, panel: int, row: int, tilings: Sequence[Tiling], steps: Sequence[int] = (1,)
) -> Any:
    """The schedule with its reduction ``block`` prefetching the next panel of ``operand`` while it works on this one.

    ``panel`` and ``row`` are positions among the block's axes. Adding ``steps`` along ``panel`` leads to what is read
    next; ``row`` is the innermost reduction axis, a step of which reads one vector of each panel. A panel is passed
    over once for each register tile, and each pass prefetches its share of the next panel. Nothing else may be
    scheduled afterwards.
    """
    func = sch.mod["main"]
    loops, realize = _find(func.body, block)
    axes = realize.block.iter_vars
    rows = int(axes[row].dom.extent)
    tiles = math.prod(t.count for t in tilings)
    at = next((i for i, loop in enumerate(loops) if loop.loop_var.same_as(realize.iter_values[row])), None)
    share = -(-rows // tiles) if isinstance(tiles, int) else 1
    if at is None or (isinstance(tiles, int) and tiles > MOST_TILES) or share * len(steps) > MOST_LINES:
        return sch
    known = tvm.sym.Analyzer()
    for loop in loops[at + 1 :]:  # the prefetch is placed outside these loops
        known.bind(loop.loop_var, tirx.const(0, loop.loop_var.ty.dtype))
    values = [known.simplify(v) for v in realize.iter_values]
    tile: Any = 0
    for t in tilings:
        tile = tile * t.count + tirx.truncmod(tirx.truncdiv(values[t.axis], t.size), t.count)
    load = next(_loads(realize.block.body.value, operand))

    def fetches(line: Any) -> list[Any]:
        made = []
        for step in steps:
            moved = list(values)
            moved[panel] += step
            moved[row] = line
            made.append(_fetch(load, axes, moved))
        return made

    if not isinstance(tiles, int):
        line = tirx.Var("line", "int32")
        first, last = (tirx.truncdiv((tile + i) * rows, tiles) for i in (0, 1))
        count = tirx.Select(tiles > MOST_TILES, tirx.const(0, "int32"), last - first)
        body = _sequence(fetches(first + line))
        ahead: list[Any] = [tirx.For(line, tirx.const(0, "int32"), count, tirx.ForKind.SERIAL, body)]
    else:
        first = values[row] if tiles == 1 else tirx.floordiv(tile * rows, tiles)
        ahead = [fetch for line in range(share if tiles != 1 else 1) for fetch in fetches(first + line)]

    def insert(loop: Any) -> Any:
        if not loop.loop_var.same_as(loops[at].loop_var):
            return loop
        if isinstance(tiles, int) and tiles == 1:
            return _with_body(loop, tirx.SeqStmt([*ahead, loop.body]))
        return tirx.SeqStmt([*ahead, loop])

    body = _with_definition(tvm_ffi.structural_map(func.body, (tirx.For, insert)))
    return Scheduled(func.with_body(body))


def _sequence(statements: Sequence[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def _fetch(load: Any, axes: Sequence[Any], values: Sequence[Any]) -> Any:
    """A prefetch of the address that ``load`` would read if the block's axes had these values."""
    known = tvm.sym.Analyzer()
    for axis, value in zip(axes, values, strict=True):
        known.bind(axis.var, value)
    address = tirx.address_of(tirx.BufferLoad(load.source, [known.simplify(i) for i in load.indices]))
    return tirx.Evaluate(tirx.call_extern("void", _FUNCTION, address))


def _find(body: Any, block: str) -> tuple[list[Any], Any]:
    """The realization of a block, and the loops around it inside the block that holds them."""
    found: list[tuple[list[Any], Any]] = []

    def visit(stmt: Any, loops: list[Any]) -> None:
        if isinstance(stmt, tirx.SeqStmt):
            for s in stmt.seq:
                visit(s, loops)
        elif isinstance(stmt, tirx.For):
            visit(stmt.body, [*loops, stmt])
        elif isinstance(stmt, s_tir.SBlockRealize):
            if stmt.block.name_hint == block:
                found.append((loops, stmt))
            else:
                visit(stmt.block.body, [])

    visit(body, [])
    return found[0]


def _loads(expr: Any, tensor: str) -> Iterator[Any]:
    """The reads of a tensor in an arithmetic expression."""
    if isinstance(expr, tvm.ir.TensorLoad):
        if expr.source.name == tensor:
            yield expr
        return
    for part in ("a", "b", "value", "true_value", "false_value"):
        if hasattr(expr, part):
            yield from _loads(getattr(expr, part), tensor)
    for argument in getattr(expr, "args", ()):
        yield from _loads(argument, tensor)


def _with_body(loop: Any, body: Any) -> Any:
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, loop.annotations)


def _with_definition(root: Any) -> Any:
    """The root block with the definition of the prefetch function added to those it already carries."""
    key = "pragma_import_llvm"
    annotations = dict(root.block.annotations)
    annotations[key] = "\n".join([*([str(annotations[key])] if key in annotations else []), _DEFINITION])
    b = root.block
    block = s_tir.SBlock(
        b.iter_vars, b.reads, b.writes, b.name_hint, b.body, b.init, b.alloc_buffers, b.match_buffers, annotations
    )
    return s_tir.SBlockRealize(root.iter_values, root.predicate, block)
