"""Where NaN stands: it is larger than any number in TopK, and every maximum and minimum of which it is one is NaN.

The oracle is numpy, which has the same order. All ops are one graph for each dtype and processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.compiling import compiled

from convc.ir.builder import Builder
from convc.ir.graph import Value
from convc.ir.op import Op
from convc.ir.ops.arg_max import ArgMax, ArgMin
from convc.ir.ops.binary import Max, Min
from convc.ir.ops.clip import Clip
from convc.ir.ops.conv import Conv
from convc.ir.ops.global_pool import GlobalMaxPool
from convc.ir.ops.max_pool import MaxPool
from convc.ir.ops.max_roi_pool import MaxRoiPool
from convc.ir.ops.non_max_suppression import NonMaxSuppression
from convc.ir.ops.reduce import ReduceMax, ReduceMin
from convc.ir.ops.scatter import ScatterElements
from convc.ir.ops.softmax import Hardmax, LogSoftmax, Softmax
from convc.ir.ops.top_k import TopK
from convc.ir.ops.unary import Relu
from convc.ir.types import type_of

DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
Oracle = Callable[[np.ndarray], np.ndarray]


def data(dtype: Any) -> np.ndarray:
    """Images with NaN first, last, alone, in rows and beside infinities; and slices without any."""
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 9, (2, 5, 9, 35)).astype(np.float32)
    x[0, 0, 0, 0] = x[0, 1, 8, 34] = x[0, 2, 4, 17] = np.nan
    x[0, 3, 2], x[0, 4] = np.nan, np.nan
    x[1, 0, 3, ::7], x[1, 1, ::2, 5] = np.nan, -np.inf
    x[1, 2, 1, 3:6] = np.inf, np.nan, -np.inf
    x[1, 3, :, :8] = -np.inf
    return x.astype(dtype)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def pooled(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5))


def hot(x: np.ndarray) -> np.ndarray:
    return np.eye(x.shape[-1])[x.argmax(-1)]


OPS: list[tuple[Op, Oracle]] = [
    (ReduceMax((1,)), lambda x: x.max(1, keepdims=True)),
    (ReduceMax((2, 3), False), lambda x: x.max((2, 3))),
    (ReduceMax((3,)), lambda x: x.max(3, keepdims=True)),
    (ReduceMin(), lambda x: x.min(keepdims=True)),
    (ReduceMin((3,), False), lambda x: x.min(3)),
    (ArgMax(3, False), lambda x: x.argmax(3)),
    (ArgMax(1), lambda x: x.argmax(1, keepdims=True)),
    (ArgMin(2, False), lambda x: x.argmin(2)),
    (ArgMax(3, False, True), lambda x: x.shape[3] - 1 - x[..., ::-1].argmax(3)),
    (GlobalMaxPool(), lambda x: x.max((2, 3), keepdims=True)),
    (MaxPool((3, 3), (2, 2), ((1, 1), (1, 1))), pooled),
    (Clip(-2.0, 3.0), lambda x: np.clip(x, -2, 3)),
    (Relu(), lambda x: np.maximum(x, 0)),
    (Hardmax(-1), hot),
    (TopK(6, 3), lambda x: np.sort(x, 3)[..., :-7:-1]),
    (TopK(9, 2, False), lambda x: np.sort(x, 2)),
]


@pytest.mark.parametrize(
    ("dtype", "target"),
    [
        (np.float32, "cpu"),
        (np.float32, "x86-64-v2"),
        pytest.param(np.float64, "cpu", marks=pytest.mark.slow),
        pytest.param(np.float16, "cpu", marks=pytest.mark.slow),
        pytest.param(ml_dtypes.bfloat16, "cpu", marks=pytest.mark.slow),
    ],
)
def test_one_order(dtype: Any, target: str) -> None:
    x, b = data(dtype), Builder("nan")
    v, outputs = b.input("x", type_of(x)), []
    for op, _ in OPS:
        made = b.emit(op, v)
        outputs.append(made[0] if isinstance(made, tuple) else made)
    got = compiled(b.finish(outputs), target, threads=2)(x)
    for (op, oracle), g in zip(OPS, got, strict=True):
        np.testing.assert_array_equal(wide(g), oracle(wide(x)), err_msg=str(op))


def one(op: Op, *arrays: np.ndarray) -> Any:
    b = Builder("one")
    made: Any = b.emit(op, *(b.input(f"x{i}", type_of(a)) for i, a in enumerate(arrays)))
    made = made if isinstance(made, tuple) else (made,)
    return compiled(b.finish(made))(*arrays)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_operands(dtype: Any) -> None:
    a, b = (v.astype(dtype).reshape(-1) for v in np.meshgrid(*[[np.nan, 1, -np.inf, np.inf, -0.5]] * 2))
    np.testing.assert_array_equal(wide(one(Max(), a, b)), np.maximum(wide(a), wide(b)))
    np.testing.assert_array_equal(wide(one(Min(), a, b)), np.minimum(wide(a), wide(b)))
    at = np.arange(25)
    np.testing.assert_array_equal(wide(one(ScatterElements("max"), a, at, b)), np.maximum(wide(a), wide(b)))
    np.testing.assert_array_equal(wide(one(ScatterElements("min"), a, at, b)), np.minimum(wide(a), wide(b)))


def test_the_example_of_top_k() -> None:
    """9 is not lost behind NaN, and of equal elements, NaN being equal to NaN, the first comes first."""
    values, indices = one(TopK(3), np.array([5, 4, np.nan, 9, 8, np.nan, 7], np.float32))
    np.testing.assert_array_equal(values, [np.nan, np.nan, 9])
    assert indices.tolist() == [2, 5, 3]


def test_indices_of_max_pool() -> None:
    """The index is that of the first NaN of a window."""
    x = np.array([[[1, np.nan, 3, np.nan, 2, 4]]], np.float32)
    y, at = one(MaxPool((4,), (1,), indices=True), x)
    np.testing.assert_array_equal(y, [[[np.nan] * 3]])
    assert at.tolist() == [[[1, 1, 3]]]


def test_pooling_of_blocks() -> None:
    """A pool behind a convolution, which holds channels in blocks, gives what the one in rows gives."""
    x = data(np.float32)[:, :1]
    x[np.isinf(x)] = 0  # infinity times a weight of zero would be NaN too
    w = np.arange(1, 33, dtype=np.float32).reshape(32, 1, 1, 1)
    b = Builder("blocks")
    c = b.emit(Conv(), b.input("x", type_of(x)), b.constant(w))
    y: Value = b.emit(MaxPool((3, 3), (2, 2), ((1, 1), (1, 1))), c)
    np.testing.assert_array_equal(compiled(b.finish((y,)))(x), pooled(wide(x) * wide(w)[:, 0]))


def test_regions() -> None:
    """The maximum of a region is NaN wherever NaN lies in it."""
    x = np.arange(81, dtype=np.float32).reshape(9, 1, 3, 3) + np.where(np.eye(9), np.nan, 0).reshape(9, 1, 3, 3)
    regions = np.array([[i, 0, 0, 2, 2] for i in range(9)], np.float32)
    assert np.isnan(one(MaxRoiPool(), x.astype(np.float32), regions)).all()


def test_scores_that_are_no_numbers() -> None:
    """No box whose score is NaN is picked, since it does not exceed the least score."""
    boxes = np.array([[[i, i, i + 1, i + 1] for i in range(4)]], np.float32)
    scores = np.array([[[0.5, np.nan, 0.9, np.nan]]], np.float32)
    rows = one(NonMaxSuppression(4), boxes, scores, *(np.array([v], np.float32) for v in (0.5, 0.1)))
    assert np.asarray(rows).tolist() == [[0, 0, 2], [0, 0, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(dtype: Any) -> None:
    """A row that holds NaN, or whose maximum is infinite, is NaN."""
    x = np.array([[1, np.nan, 2], [-np.inf] * 3, [np.inf, 1, 2], [-np.inf, 0, -np.inf]], dtype)
    for op in (Softmax(), LogSoftmax()):
        y = wide(one(op, x))
        assert np.isnan(y[:3]).all()
        assert y[3].tolist() == ([0, 1, 0] if isinstance(op, Softmax) else [-np.inf, 0, -np.inf])
