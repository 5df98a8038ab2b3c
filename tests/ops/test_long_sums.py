"""Reductions of many float32 numbers keep their digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.onnx_text import model

import convc

WANTED: dict[str, Callable[[np.ndarray], float]] = {
    "ReduceSum": lambda x: x.sum(),
    "ReduceMean": lambda x: x.mean(),
    "ReduceL1": lambda x: np.abs(x).sum(),
    "ReduceL2": lambda x: np.sqrt((x * x).sum()),
    "ReduceSumSquare": lambda x: (x * x).sum(),
    "ReduceLogSum": lambda x: np.log(x.sum()),
    "ReduceLogSumExp": lambda x: np.log(np.exp(x - x.max()).sum()) + x.max(),
}


@pytest.mark.parametrize("op", WANTED)
def test_sums_far_from_zero(op: str) -> None:
    """The last bit of a result is the only one that may be wrong, though a running float32 sum loses four digits."""
    x = (np.random.default_rng(0).standard_normal((2, 48000)) + 1e4).astype(np.float32)
    got = convc.compile(model(13, "float[2, 48000] x", f"y = {op}<keepdims=0>(x)"), threads=1)(x)
    np.testing.assert_allclose(got, WANTED[op](x.astype(np.float64)), rtol=3e-7)


def test_a_sum_of_ones_beyond_24_bits() -> None:
    ones = np.ones(1 << 25, np.float32)
    made = model(
        13, f"float[{ones.size}] x", "y = ReduceSum<keepdims=0>(x) z = ReduceMean<keepdims=0>(x)", "float y, float z"
    )
    assert [float(r) for r in convc.compile(made, threads=1)(ones)] == [ones.size, 1]
