"""Tiles of a constant size along axes of open extents: the last tile overlaps the one before it.

Loops are scheduled as if such an extent were a whole number of tiles (``in_tiles``). When blocks have become plain
loops, each tile that would reach past the end is moved back, so that it ends there (``overlap_tiles``). Its first
elements are then computed twice, with the same results. So the extent must be at least one tile, and a kernel must not
overwrite what it reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from convc.ir.errors import CompileError
from convc.ir.sizes import Dim, Size, bounds, product

from ..blocks import all_blocks
from ..extents import size_of
from ..guards import found
from ..intrinsics import kept
from ..lowered import NEEDS
from ..schedule import Schedule
from .borders import put, with_tests_at_borders
from .tiles import time_of_tile

TILES = "convc.tiles"
"""The attribute of a function that lists, for each axis in tiles, the variable for their number, their size, and the
extent of the axis."""
TOGETHER = "convc_together"
"""The annotation of a parallel loop that says how many loops, which lie directly inside one another, it stands for."""
BANDS = "convc_bands"
"""The annotation of a parallel loop that stands for several: it runs over bands of steps of the innermost one, outside
of the second innermost one, and the steps of a band are a loop of their own. The attribute of a function of this name
is the variable for the number of steps of a band, and what it is."""


@dataclass(frozen=True)
class Tiled:
    """An axis of open extent in tiles of ``size`` elements, and which axes of blocks lie along it.

    ``along`` gives, by the name of a block and the position of its axis, the factor f and the number m for which that
    axis has ``extent * f + m`` elements.
    """

    size: int
    extent: Any
    along: Mapping[tuple[str, int], tuple[int, int]]


def in_tiles(sch: Any, blocks: Sequence[str], sizes: Mapping[int, int]) -> Any:
    """A schedule in which some axes of some blocks are as long as a whole number of tiles.

    ``sizes`` gives the size of a tile by the position of the axis. Axes of constant extent stay as they are.
    """
    extents = [axis.dom.extent for axis in sch.get(sch.get_sblock(blocks[0])).iter_vars]
    return with_tiled(
        sch,
        [
            Tiled(size, extents[at], {(name, at): (1, 0) for name in blocks})
            for at, size in sizes.items()
            if not isinstance(extents[at], tirx.IntImm)
        ],
    )


def with_tiled(sch: Any, axes: Sequence[Tiled]) -> Any:
    """A schedule in which the axes of blocks that lie along these axes are as long as a whole number of tiles."""
    if not axes:
        return sch
    func = sch.mod["main"]
    counts = [tirx.Var(f"tiles{i}", "int32") for i in range(len(axes))]
    longer: dict[str, dict[int, Any]] = {}
    for axis, count in zip(axes, counts, strict=True):
        for (name, at), (factor, more) in axis.along.items():
            longer.setdefault(name, {})[at] = count * (axis.size * factor) + more

    def visit(stmt: Any) -> Any:
        if isinstance(stmt, tirx.SeqStmt):
            return tirx.SeqStmt([visit(s) for s in stmt.seq])
        loops, realize = _nest(stmt)
        if realize is None or realize.block.name_hint not in longer:
            return stmt
        wanted = longer[realize.block.name_hint]
        iters = [_longer(v, wanted[at]) if at in wanted else v for at, v in enumerate(realize.block.iter_vars)]
        made: Any = s_tir.SBlockRealize(realize.iter_values, realize.predicate, _with(realize.block, iter_vars=iters))
        for loop in reversed(loops):
            extents = [w for at, w in wanted.items() if realize.iter_values[at].same_as(loop.loop_var)]
            extent = extents[0] if extents else loop.extent
            made = tirx.For(loop.loop_var, loop.min, extent, loop.kind, made, loop.thread_binding, loop.annotations)
        return made

    root = func.body
    body = s_tir.SBlockRealize(root.iter_values, root.predicate, _with(root.block, body=visit(root.block.body)))
    body = _with_larger_buffers(body, longer)
    made = tirx.PrimFunc([*counts, *func.params], body, func.ret_type, func.attrs)
    tiles = [[count, tirx.const(a.size, "int32"), a.extent] for count, a in zip(counts, axes, strict=True)]
    return Schedule(made.with_attr(TILES, tiles))


def _with_larger_buffers(root: Any, longer: Mapping[str, Mapping[int, Any]]) -> Any:
    """The root block in which what these blocks write for one another has room for whole tiles."""
    larger = {}
    for b in found(root, s_tir.SBlock):
        for buffer in (r.source for r in b.writes if b.name_hint in longer):
            if any(buffer.same_as(allocated) for allocated in root.block.alloc_buffers):
                shape = [longer[b.name_hint].get(at, extent) for at, extent in enumerate(buffer.shape)]
                larger[buffer] = tirx.decl_buffer(shape, buffer.dtype, buffer.name)

    def replaced(var: Any) -> Any:
        return next((new for old, new in larger.items() if var.same_as(old)), var)

    return tvm_ffi.structural_map(root, (tirx.Var, replaced)) if larger else root


def results_of(sch: Any, anchor: str) -> list[str]:
    """The names of a block and of all blocks behind it."""
    names = [sch.get(b).name_hint for b in all_blocks(sch)]
    return names[names.index(anchor) :]


def with_bands(sch: Any, steps: Any) -> tuple[Any, Any]:
    """The schedule of a function whose loops over bands (``run_together``) have so many steps in a band.

    The number may be an expression of extents. It is returned too, as the function knows it.
    """
    func = sch.mod["main"]
    if isinstance(steps, tirx.IntImm):
        return Schedule(func.with_attr(BANDS, [steps, steps])), int(steps.value)
    band = tirx.Var("steps_of_band", "int32")
    made = tirx.PrimFunc([band, *func.params], func.body, func.ret_type, func.attrs)
    return Schedule(made.with_attr(BANDS, [band, steps])), band


def run_together(sch: Any, loops: Sequence[Any], *, in_bands: bool = False) -> Any:
    """Make one parallel loop of several that lie directly inside one another; returns it, or the innermost of them.

    Extents that are open are not fused before ``overlap_tiles``, which must see the index of each loop. With
    ``in_bands`` the parallel loop runs over bands of steps of the last loop in place of the steps, and goes through the
    loop before the last within each band (``with_bands``).
    """
    extents = [sch.get(loop).extent for loop in loops]
    if not in_bands and all(isinstance(e, tirx.IntImm) for e in extents):
        fused = sch.fuse(*loops) if len(loops) > 1 else loops[0]
        sch.parallel(fused)
        return fused
    kept = [loop for loop, e in zip(loops, extents, strict=True) if not isinstance(e, tirx.IntImm) or e.value != 1]
    kept = kept or list(loops[:1])
    sch.annotate(kept[0], TOGETHER, len(kept))
    if in_bands and kept[-1] is loops[-1] and len(kept) > 1:
        sch.annotate(kept[0], BANDS, 1)
    sch.parallel(kept[0])
    return loops[-1]


def needs_of(func: Any) -> list[tuple[Dim, int]]:
    """Sizes of the extents of a function, each with its least value: axes in tiles, and what its expressions need."""
    attrs = func.attrs or {}
    tiles = [(size_of(extent, tirx), int(size)) for _, size, extent in attrs.get(TILES, []) if int(size) > 1]
    needs = [*tiles, *((size_of(e, tirx), 0) for e in attrs.get(NEEDS, []))]
    return [(size, least) for size, least in dict.fromkeys(needs) if isinstance(size, Size) and bounds(size)[0] < least]


def cost_of(func: Any) -> Dim:
    """What a call of a function costs by its tiles, in comparison with the same computation in other tiles.

    It is the time of all tiles in multiply-adds of vectors.
    """
    tiles = [(size_of(extent, tirx), int(size)) for _, size, extent in (func.attrs or {}).get(TILES, [])]
    count = product(-(-extent // size) for extent, size in tiles)
    return count * time_of_tile(prod(size for _, size in tiles))


def overlap_tiles(func: Any) -> Any:
    """The function, of plain loops, with the last tile along each axis moved back to end where the axis does."""
    tiles = func.attrs.get(TILES, []) if func.attrs else []
    body = func.body
    last: dict[Any, Any] = {}
    for count, size, extent in tiles:
        whole = _as_they_are(body, count, int(size), extent)
        body = _with_starts(whole, count, int(size), extent, last)

    def counted(var: Any) -> Any:
        whole = next(((s, e) for c, s, e in tiles if var.same_as(c)), None)
        return var if whole is None else tirx.floordiv(whole[1] + (whole[0] - 1), whole[0])

    body = tvm_ffi.structural_map(body, (tirx.Var, counted)) if tiles else body
    body = with_tests_at_borders(body, last)
    band, steps = (func.attrs or {}).get(BANDS, (None, None))
    body = tvm_ffi.structural_map(body, (tirx.For, lambda loop: _fused(loop, band)))
    if isinstance(band, tirx.Var):
        body = tirx.SeqStmt([tirx.Bind(band, kept(steps)), body])
    made_here = [*(count for count, _, _ in tiles), band]
    params = [p for p in func.params if not any(p.same_as(v) for v in made_here)]
    made = tirx.PrimFunc(params, body, func.ret_type, func.attrs)
    for name in (TILES, BANDS):
        made = made.without_attr(name)
    return made


def at_least_one(count: Any) -> Any:
    """A number of steps, which is no less than one, in a form of which LLVM knows that.

    It would otherwise make a copy of all that is inside a loop for the case that there are no steps.
    """
    return count if isinstance(count, tirx.IntImm) else tirx.max(count, 1)


def _as_they_are(body: Any, count: Any, size: int, extent: Any) -> Any:
    """The statement in which loops along an axis that are not in tiles are as long as the axis, not as all tiles."""
    known = tvm.sym.Analyzer()

    def visit(loop: Any) -> Any:
        if loop.extent.same_as(count) or not any(v.same_as(count) for v in found(loop.extent, tirx.Var)):
            return loop
        none, one = (put(loop.extent, count, tirx.const(i, "int32")) for i in (0, 1))
        steps = known.simplify(one - none)
        if not isinstance(steps, tirx.IntImm) or steps.value % size:
            raise CompileError(f"a loop over {loop.extent} is not in whole tiles")
        elements = known.simplify(none + extent * (steps.value // size))
        body = _within(loop)
        return tirx.For(loop.loop_var, loop.min, elements, loop.kind, body, loop.thread_binding, loop.annotations)

    return tvm_ffi.structural_map(body, (tirx.For, visit))


def _with_starts(body: Any, count: Any, size: int, extent: Any, last: dict[Any, Any]) -> Any:
    """The statement whose loops over the tiles of an axis know where each tile begins.

    ``last`` receives the variables that say so, each with its greatest value.
    """

    def visit(loop: Any) -> Any:
        if not loop.extent.same_as(count):
            return loop
        start = tirx.Var(f"{loop.loop_var.name}_start", "int32")
        last[start if size > 1 else loop.loop_var] = extent - size

        def moved(e: Any) -> Any:
            factor = e.b.value if isinstance(e.b, tirx.IntImm) else 0
            if not e.a.same_as(loop.loop_var) or not factor or factor % size:
                return e
            return start * (factor // size) if factor != size else start

        inner = _within(loop)
        inner = tvm_ffi.structural_map(inner, (tirx.Mul, moved)) if size > 1 else inner
        if size > 1 and _decides(inner, loop.loop_var):
            raise CompileError(f"the index {loop.loop_var} of a tile is used for more than its elements")
        first = tirx.Bind(start, kept(tirx.min(loop.loop_var * size, extent - size)))
        inner = tirx.SeqStmt([first, inner]) if size > 1 else inner
        many = at_least_one(loop.extent) if loop.kind == tirx.ForKind.SERIAL else loop.extent
        return tirx.For(loop.loop_var, loop.min, many, loop.kind, inner, loop.thread_binding, loop.annotations)

    return tvm_ffi.structural_map(body, (tirx.For, visit))


def _within(loop: Any) -> Any:
    """The body of a loop, in which TVM need not ask whether the index is below the extent.

    It asks so where it cannot compare numbers of tiles, in ``index < extent or rest == 0``.
    """
    known = tvm.sym.Analyzer()

    def holds(test: Any) -> bool:
        if not isinstance(test, tirx.LT):
            return False
        rest = known.simplify(test.b - test.a - (loop.extent - loop.loop_var))
        return isinstance(rest, tirx.IntImm) and rest.value >= 0

    def either(test: Any) -> Any:
        return tirx.const(True, "bool") if holds(test.a) else test

    def both(test: Any) -> Any:
        return test.b if _is_true(test.a) else test.a if _is_true(test.b) else test

    return tvm_ffi.structural_map(tvm_ffi.structural_map(loop.body, (tirx.Or, either)), (tirx.And, both))


def _is_true(test: Any) -> bool:
    return isinstance(test, tirx.IntImm) and test.value == 1


def _decides(body: Any, index: Any) -> bool:
    """Whether an index stands in what a statement stores, or in its conditions; prefetches may use it."""
    stores = [[s.value, *s.indices] for s in found(body, tirx.BufferStore)]
    conditions = [s.condition for s in found(body, tirx.IfThenElse)]
    used = [v for e in itertools.chain(conditions, *stores) for v in found(e, tirx.Var)]
    return any(v.same_as(index) for v in used)


def _fused(loop: Any, band: Any) -> Any:
    """A loop that stands for several as one loop over all of their iterations, if it is shared out among threads.

    If it is not, its bands become a loop of their own.
    """
    parallel = loop.kind == tirx.ForKind.PARALLEL
    if TOGETHER not in loop.annotations or not (parallel or BANDS in loop.annotations):
        return loop
    loops, rest = _taken_apart(loop, int(loop.annotations[TOGETHER]))
    if BANDS in loop.annotations:
        loops, rest = _in_bands(loops, rest, band)
    annotations = {k: v for k, v in loop.annotations.items() if k not in (TOGETHER, BANDS)}
    if not parallel:
        for one, before in reversed(loops):
            rest = tirx.For(one.loop_var, one.min, one.extent, one.kind, rest, None)
            rest = tirx.SeqStmt([*before, rest]) if before else rest
        return rest
    index = tirx.Var("together", "int32")
    total: Any = 1
    position = index
    binds: list[Any] = []
    for one, before in reversed(loops):
        binds = [*before, tirx.Bind(one.loop_var, kept(tirx.truncmod(position, one.extent))), *binds]
        position, total = tirx.truncdiv(position, one.extent), total * one.extent
    body = tirx.SeqStmt([*binds, rest])
    return tirx.For(index, tirx.const(0, "int32"), total, loop.kind, body, loop.thread_binding, annotations)


Nest = list[tuple[Any, list[Any]]]
"""Loops inside one another, each with the statements that stand before it, such as where a tile begins."""


def _taken_apart(loop: Any, count: int) -> tuple[Nest, Any]:
    """That many loops which lie inside one another, and what the innermost does."""
    loops: Nest = []
    rest = loop
    for _ in range(count):
        before: list[Any] = []
        while not isinstance(rest, tirx.For):
            *first, rest = rest.seq
            before += first
        loops.append((rest, before))
        rest = rest.body
    return loops, rest


def _in_bands(loops: Nest, rest: Any, band: Any) -> tuple[Nest, Any]:
    """The loops with one over bands of the last in front of the last but one; the steps of a band are run in ``rest``.

    ``band`` is the number of steps of a band.
    """
    *outer, ahead, (steps, before) = loops
    index = tirx.Var("band", "int32")
    first = index * band
    extent = at_least_one(tirx.min(band, steps.extent - first))
    rest = tirx.For(steps.loop_var, first, extent, tirx.ForKind.SERIAL, rest)
    rest = tirx.SeqStmt([*before, rest]) if before else rest
    count = tirx.truncdiv(steps.extent + (band - 1), band)
    over_bands = tirx.For(index, tirx.const(0, "int32"), count, tirx.ForKind.SERIAL, rest)
    return [*outer, (over_bands, []), ahead], rest


def _nest(stmt: Any) -> tuple[list[Any], Any]:
    """The loops around a block that lie directly inside one another, and the block."""
    loops = []
    while isinstance(stmt, tirx.For):
        loops.append(stmt)
        stmt = stmt.body
    return loops, stmt if isinstance(stmt, s_tir.SBlockRealize) else None


def _longer(axis: Any, extent: Any) -> Any:
    return tirx.IterVar(tvm.ir.Range.from_min_extent(0, extent), axis.var, axis.iter_type, axis.thread_tag)


def _with(b: Any, **changed: Any) -> Any:
    names = ("iter_vars", "reads", "writes", "name_hint", "body", "init", "alloc_buffers", "match_buffers")
    return s_tir.SBlock(*(changed.get(name, getattr(b, name)) for name in (*names, "annotations")))
