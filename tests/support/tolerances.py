"""The table of tolerances by dtype, with the reason for each."""

from __future__ import annotations

import numpy as np

TOLERANCES: dict[str, tuple[float, float]] = {
    # (rtol, atol)
    "float64": (1e-7, 1e-9),  # 53 bits; libraries differ in the order of sums and in the last bits of exp and tanh
    "float32": (1e-4, 1e-5),  # 24 bits; a sum of a thousand terms of size 1 in another order moves by some 1e-5
    "float16": (4e-3, 4e-3),  # 11 bits; one rounding is 5e-4, and oracles round between ops where fused code does not
    "bfloat16": (3e-2, 3e-2),  # 8 bits; one rounding is 4e-3
}
"""Integers, booleans and the small floats, which are only converted to, have no tolerance: they must be equal."""

WINOGRAD = (1e-4, 4e-5)
"""The tolerance of Winograd's convolutions on data of deviation 1.

Their rounding errors are two to twenty times larger than those of the direct form, whose errors against float64 are
1.5e-7 in the mean and 1.5e-6 at most. F(4, 7) reaches 2.7e-5 (convc/ir/ops/_winograd.py).
"""

TF32 = (2e-3, 3e-3)
"""The tolerance of sums of products of deviation 1 whose float32 factors tensor cores round to 11 bits.

A product changes by up to 1e-3 of itself. The sum, of terms that change in either direction, changes by 5e-4 in the
mean.
"""

MODEL_RTOL, MODEL_ATOL = 1e-3, 1e-4
"""The tolerance of whole networks in float32 against ONNX Runtime.

Errors of single ops add up over some fifty layers.
"""

GPU_NETWORKS: dict[str, tuple[float, float]] = {
    "fp32": (0.0, 1e-5),
    "tf32": (0.0, 4e-3),  # factors of 11 bits, sums in 24
    "fp16": (0.0, 5e-3),  # weights and every result of 11 bits, sums in 24: 5e-4 to 2e-3 was seen
}
"""The tolerance of small networks of some ten layers against ONNX Runtime in float32, by precision.

It is a share of the largest output.
"""


DETECTED = (1e-4, 5e-3)
"""For the boxes of detectors, in pixels, and their masks: they follow from features by exponentials of sums of many
products, and a mask magnifies its errors where it is small.
"""


def assert_close(
    got: np.ndarray, want: np.ndarray, what: str = "", tolerance: tuple[float, float] | None = None
) -> None:
    """Assert that arrays have the same shape and dtype, and values within a tolerance, by default the dtype's own.

    NaN and infinities must be in the same places.
    """
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    tolerance = tolerance or TOLERANCES.get(str(want.dtype))
    if tolerance is None:
        small = want.dtype.kind == "V" or want.dtype.name.startswith("float8")
        pair = (a.astype(np.float64) if small else a for a in (got, want))
        np.testing.assert_array_equal(*pair, err_msg=what)
    else:
        rtol, atol = tolerance
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=atol, err_msg=what)
