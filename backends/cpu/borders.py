"""Tests at the borders of data: of the tiles of a plane, few elements of few tiles read beyond its border.

Where extents are constant, TVM cuts loops over tiles where borders begin and end. Where they are open, each tile tests
what can lie beyond a border by the place of an element in its tile: of a row of 3x3 windows, the first element's left
tap and the last element's right tap. Rows of taps are tested once for all elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from ..guards import found

BORDERS = "convc_borders"
"""The annotation of a loop over tiles whose elements may test where they read."""


def test_at_borders(sch: Any, loop: Any) -> None:
    """Let the tiles of the innermost loop over tiles test where they read only if they may lie at a border.

    Loops of constant extent over tiles are cut where the border begins and ends.
    """
    if isinstance(sch.get(loop).extent, tirx.IntImm):
        sch.annotate(loop, "pragma_loop_partition_hint", 1)
    else:
        sch.annotate(loop, BORDERS, 1)


def with_tests_at_borders(body: Any, last: Mapping[Any, Any]) -> Any:
    """The statement in which annotated loops over tiles test no more than they must.

    ``last`` gives the greatest values of the variables that say where tiles begin; the least is 0.
    """

    def visit(loop: Any) -> Any:
        if BORDERS not in loop.annotations:
            return loop
        annotations = {k: v for k, v in loop.annotations.items() if k != BORDERS}
        inner = _Tests(loop.body, last).removed()
        inner = _with_hoisted_tests(inner)
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, inner, loop.thread_binding, annotations)

    return tvm_ffi.structural_map(body, (tirx.For, visit))


class _Tests:
    """The tests of positions in a tile."""

    def __init__(self, tile: Any, last: Mapping[Any, Any]) -> None:
        self.tile, self.last = tile, last
        self.inside = [loop.loop_var for loop in found(tile, tirx.For)]
        self.known = tvm.sym.Analyzer()

    def removed(self) -> Any:
        """The tile in which a test is not done for elements and taps for which it always holds."""

        def fewer(call: Any) -> Any:
            if not _chooses(call):
                return call
            tests = [self.weaker(test) for test in _conjuncts(call.args[0])]
            return tirx.if_then_else(tirx.all(*tests), call.args[1], call.args[2])

        return tvm_ffi.structural_map(self.tile, (tvm.ir.Call, fewer))

    def weaker(self, test: Any) -> Any:
        """``place >= 0 or test``: the place of an element in its tile, at which the test holds wherever the tile is.

        The place is a constant once loops inside the tile are unrolled.
        """
        if not isinstance(test, tirx.LT | tirx.LE | tirx.GT | tirx.GE):
            return test
        less, more = (test.a, test.b) if isinstance(test, tirx.LT | tirx.LE) else (test.b, test.a)
        rest = more - less - (1 if isinstance(test, tirx.LT | tirx.GT) else 0)
        first = rest
        for var in self.inside:
            first = put(first, var, tirx.const(0, "int32"))
        worst = first
        for var, most in self.last.items():
            none, one = (put(worst, var, tirx.const(i, "int32")) for i in (0, 1))
            slope = self.known.simplify(one - none)
            if not isinstance(slope, tirx.IntImm):
                return test
            worst = none if slope.value >= 0 else put(worst, var, most)
        least = self.least(worst)
        if least is None:
            return test
        place = self.known.simplify(rest - first + least)
        return tirx.any(place >= 0, test)

    def least(self, size: Any) -> int | None:
        """The least value of an expression of one extent that repeats itself; ``None`` for others."""
        size = self.known.simplify(size)
        if isinstance(size, tirx.IntImm):
            return int(size.value)
        extents = {v.name: v for v in found(size, tirx.Var)}
        period = prod(
            int(d.b.value) for d in found(size, (tirx.FloorDiv, tirx.FloorMod)) if isinstance(d.b, tirx.IntImm)
        )
        if len(extents) != 1 or period > MOST_PERIODS:
            return None
        (extent,) = extents.values()
        whole = tirx.Var("whole", "int32")
        values = [self.known.simplify(put(size, extent, whole * period + i)) for i in range(period)]
        return min(int(v.value) for v in values) if all(isinstance(v, tirx.IntImm) for v in values) else None


MOST_PERIODS = 64
"""Strides up to this product are looked at for the least distance of a tile from the border."""


def _with_hoisted_tests(stmt: Any) -> Any:
    """A statement in which each test stands outside all loops that it does not depend on."""
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_with_hoisted_tests(s) for s in stmt.seq])
    if not isinstance(stmt, tirx.For):
        return stmt
    hoisted = _hoisted(stmt)
    if hoisted is not stmt:
        return hoisted
    body = _with_hoisted_tests(stmt.body)
    return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, stmt.thread_binding, stmt.annotations)


def _hoisted(loop: Any) -> Any:
    """A loop in whose body reads depend on tests of other indices than the loops' own, behind one such test."""
    inside = [loop.loop_var, *(i.loop_var for i in found(loop.body, tirx.For))]

    def varies(test: Any) -> bool:
        return any(v.same_as(i) for v in found(test, tirx.Var) for i in inside)

    calls = [call for call in found(loop.body, tvm.ir.Call) if _chooses(call)]
    fixed = [{str(t): t for t in _conjuncts(call.args[0]) if not varies(t)} for call in calls]
    if not calls or not fixed[0] or any(f.keys() != fixed[0].keys() for f in fixed):
        return loop

    def within(call: Any) -> Any:
        if not _chooses(call):
            return call
        tests = [t for t in _conjuncts(call.args[0]) if varies(t)]
        return tirx.if_then_else(tirx.all(*tests), call.args[1], call.args[2]) if tests else call.args[1]

    def with_body(body: Any) -> Any:
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, loop.annotations)

    reads = with_body(tvm_ffi.structural_map(loop.body, (tvm.ir.Call, within)))
    fills = with_body(
        tvm_ffi.structural_map(loop.body, (tvm.ir.Call, lambda call: call.args[2] if _chooses(call) else call))
    )
    return tirx.IfThenElse(tirx.all(*fixed[0].values()), reads, fills)


def _chooses(call: Any) -> bool:
    """Whether a call reads only where a test of positions holds."""
    return getattr(call.op, "name", "").endswith("if_then_else") and not found(call.args[0], tvm.ir.TensorLoad)


def _conjuncts(test: Any) -> Iterator[Any]:
    if isinstance(test, tirx.And):
        yield from _conjuncts(test.a)
        yield from _conjuncts(test.b)
    else:
        yield test


def put(expression: Any, var: Any, value: Any) -> Any:
    """The expression with a value in place of a variable."""
    return tvm_ffi.structural_map(expression, (tirx.Var, lambda v: value if v.same_as(var) else v))
