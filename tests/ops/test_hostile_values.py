"""Indices, lengths and places far out of range, and axes without elements, of ops that take them from tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.compiling import compiled

from convc.ir.builder import Builder
from convc.ir.errors import ConvcError, ShapeError
from convc.ir.op import Op
from convc.ir.ops.arg_max import ArgMax
from convc.ir.ops.binary import Add
from convc.ir.ops.cast import Cast
from convc.ir.ops.concat import Concat
from convc.ir.ops.deform_conv import DeformConv
from convc.ir.ops.gather import Gather
from convc.ir.ops.gather_elements import GatherElements
from convc.ir.ops.gather_nd import GatherND
from convc.ir.ops.global_pool import GlobalAveragePool
from convc.ir.ops.grid_sample import GridSample
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.one_hot import OneHot
from convc.ir.ops.reduce import ReduceSum
from convc.ir.ops.reverse_sequence import ReverseSequence
from convc.ir.ops.scatter import ScatterElements, ScatterND
from convc.ir.ops.softmax import Softmax
from convc.ir.ops.tensor_scatter import TensorScatter
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.unary import Relu
from convc.ir.types import TensorType, type_of

WILD = np.array([-(2**63), -(10**12), -(2**32) - 1, -1, 0, 1, 2**32 + 1, 10**12, 2**63 - 1])


def run(op: Op, *arrays: np.ndarray) -> Any:
    b = Builder("one")
    made = b.emit(op, *(b.input(f"x{i}", type_of(a)) for i, a in enumerate(arrays)))
    return compiled(b.finish(made if isinstance(made, tuple) else (made,)))(*arrays)


def test_lengths_out_of_range() -> None:
    """Lengths count as the nearest in range, also where int32 would cut off their high bits."""
    x = np.arange(len(WILD) * 3, dtype=np.float32).reshape(len(WILD), 3)
    wanted = np.stack([np.r_[row[:n][::-1], row[n:]] for row, n in zip(x, np.clip(WILD, 0, 3), strict=True)])
    np.testing.assert_array_equal(run(ReverseSequence(0, 1), x, WILD), wanted)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_places_out_of_range(mode: str) -> None:
    """Elements that are placed out of range are dropped, or with mode circular placed around the end."""
    cache, update = np.zeros((len(WILD), 5, 2), np.float32), np.ones((len(WILD), 2, 2), np.float32)
    wanted = cache.copy()
    for b, start in enumerate(map(int, WILD)):
        for j in range(2):
            at = (start + j) % 5 if mode == "circular" else start + j
            if 0 <= at < 5:
                wanted[b, at] = 1
    np.testing.assert_array_equal(run(TensorScatter(1, mode), cache, update, WILD), wanted)


def test_indices_out_of_range() -> None:
    """Negative indices count from the end, and then the nearest in range is read or written."""
    x = np.arange(4, dtype=np.float32)
    at = np.array([min(max(i + 4 if i < 0 else i, 0), 3) for i in map(int, WILD)])
    np.testing.assert_array_equal(run(Gather(), x, WILD), x[at])
    np.testing.assert_array_equal(run(GatherElements(), x, WILD), x[at])
    np.testing.assert_array_equal(run(GatherND(), x, WILD[:, None]), x[at])
    ones = np.ones(len(WILD), np.float32)
    np.testing.assert_array_equal(run(ScatterElements("add"), x, WILD, ones), x + np.bincount(at, minlength=4))
    np.testing.assert_array_equal(run(ScatterND("add"), x, WILD[:, None], ones), x + np.bincount(at, minlength=4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_that_are_no_integers(dtype: Any) -> None:
    """NaN, infinities and numbers out of range become the least int32 or int64, on every kind of processor."""
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**31, -(2.0**31), 2.0**63, -1.75, 5.5] * 3, dtype)
    for to, least in (("i32", -(2**31)), ("i64", -(2**63))):
        bound = -float(least)
        wanted = [int(v) if -bound <= v < bound else least for v in map(float, x)]
        np.testing.assert_array_equal(run(Cast(to), x), wanted)
    np.testing.assert_array_equal(run(Cast("u8"), x), [0, 0, 0, 0, 0, 0, 0, 0, 255, 5] * 3)
    top = 2**63
    np.testing.assert_array_equal(
        run(Cast("u64"), x), np.array([top, 0, top, 0, top, 2**31, 2**64 - 2**31, top, 2**64 - 1, 5] * 3, np.uint64)
    )
    hot = run(OneHot(3), x, np.array([0, 1], np.float32))
    np.testing.assert_array_equal(hot.sum(1), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0] * 3)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_places_that_are_no_numbers(mode: str, padding: str) -> None:
    """Whatever the coordinates are, only elements of the data are read."""
    x = np.ones((1, 1, 3, 4), np.float32)
    places = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -3e9], np.float32)
    grid = np.stack(np.meshgrid(places, places), -1)[None]
    y = run(GridSample(mode, padding), x, grid)
    assert (np.abs(y) < 2).all()
    offsets = np.broadcast_to(places, (1, 2, 1, 7)).copy()
    y = run(DeformConv(), np.ones((1, 1, 1, 7), np.float32), np.ones((1, 1, 1, 1), np.float32), offsets)
    assert (y == 0).all()


NOTHING, SOME = np.zeros((0, 3), np.float32), np.zeros((1, 3), np.int64)


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        (Gather(), (NOTHING, SOME)),
        (GatherElements(), (NOTHING, SOME)),
        (GatherND(), (NOTHING, np.zeros((1, 2), np.int64))),
        (GatherND(1), (np.zeros((2, 0), np.float32), np.zeros((2, 4, 1), np.int64))),
        (ScatterElements(), (NOTHING, SOME, np.ones((1, 3), np.float32))),
        (ScatterND(), (NOTHING, np.zeros((1, 1), np.int64), np.ones((1, 3), np.float32))),
        (ArgMax(), (NOTHING,)),
    ],
)
def test_asking_nothing(op: Op, arrays: tuple[np.ndarray, ...]) -> None:
    """An index into an axis without elements is an error that says so."""
    with pytest.raises(ShapeError, match=r"axis [01]") as e:
        run(op, *arrays)
    assert "no elements" in str(e.value)


def test_asking_nothing_of_nothing() -> None:
    """Without indices, and where other axes are empty, the result is empty."""
    none = np.zeros((0, 3), np.int64)
    assert run(Gather(), NOTHING, none[:, 0]).shape == (0, 3)
    assert run(GatherElements(), NOTHING, none).shape == (0, 3)
    assert run(GatherND(), NOTHING, np.zeros((0, 2), np.int64)).shape == (0,)
    assert run(Gather(1), NOTHING, np.array([2, -1])).shape == (0, 2)
    assert run(ScatterElements(), NOTHING, none, NOTHING).shape == (0, 3)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(run(ScatterElements(), x, none, NOTHING), x)


HUGE = (0, 32768, 65536)


@pytest.mark.parametrize(
    ("op", "shapes", "wanted"),
    [
        (Relu(), [HUGE], HUGE),
        (Add(), [HUGE, (65536,)], HUGE),
        (Softmax(), [HUGE], HUGE),
        (Transpose((2, 0, 1)), [HUGE], (65536, 0, 32768)),
        (Concat(0), [HUGE, HUGE], HUGE),
        (MatMul(), [(0, 1 << 20, 2), (2, 5)], (0, 1 << 20, 5)),
        (Relu(), [(1 << 20, 1 << 20, 0)], (1 << 20, 1 << 20, 0)),
    ],
)
def test_nothing_times_much(op: Op, shapes: list[tuple[int, ...]], wanted: tuple[int, ...]) -> None:
    """A result of no elements needs no code, however large its other sizes are."""
    assert run(op, *(np.zeros(s, np.float32) for s in shapes)).shape == wanted


def test_sums_of_nothing() -> None:
    """A result of some elements may follow from an operand of none."""
    np.testing.assert_array_equal(run(ReduceSum((0,), False), np.zeros((0, 4), np.float32)), np.zeros(4))
    y = run(ReduceSum((0, 2), False), np.zeros((0, 5, 1 << 33), np.float32))
    np.testing.assert_array_equal(y, np.zeros(5))
    assert np.isnan(run(GlobalAveragePool(), np.zeros((1, 2, 0, 3), np.float32))).all()
    assert run(MatMul(), np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32)).tolist() == [[0] * 3] * 2


def test_a_graph_goes_on_behind_nothing() -> None:
    """Values without elements are read by nodes that compute something, and are outputs."""
    b = Builder("on")
    x = b.input("x", TensorType("f32", HUGE))
    y = b.emit(Relu(), x)
    z = b.emit(ReduceSum((0, 2), False), b.emit(Relu(), y))
    for change in (lambda p: p, lambda p: p.without("fold_constants")):
        nothing, zeros = compiled(b.finish((y, z)), change=change)(np.zeros(HUGE, np.float32))
        assert nothing.shape == HUGE
        assert zeros.tolist() == [0.0] * 32768


def test_working_memory_beyond_what_code_indexes() -> None:
    b = Builder("large")
    shapes = (1, 64, 2100, 1050), (1, 64, 4, 4), (1, 32, 2097, 1047)
    y = b.emit(DeformConv(), *(b.input(f"x{i}", TensorType("f32", s)) for i, s in enumerate(shapes)))
    with pytest.raises(ConvcError, match=r"deform_conv.* needs 2248252416 elements of working memory"):
        compiled(b.finish((y,)))
