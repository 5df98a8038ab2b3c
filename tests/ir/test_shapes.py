"""Comparison of shapes with what a model declares."""

from __future__ import annotations

import pytest

from convc.ir.shapes import Bound, StatedSize, mismatch


@pytest.mark.parametrize(
    ("stated", "given", "why"),
    [
        ((1, "n"), (1, 7), ""),
        ((1, "n"), (1, "m"), ""),
        ((), (), ""),
        ((1, "n"), (1,), "input 'x' has 1 axis, [1]; the model takes 2, [1, n]"),
        ((1, "n"), (2, 7), "axis 0 of input 'x' has size 2; the model takes 1 there, [1, n]"),
        ((1, "n"), ("m", 7), "axis 0 of input 'x' has size m; the model takes 1 there, [1, n]"),
        (("n", "n"), (2, 3), "size 'n' is 2 by axis 0 of input 'x', and 3 by axis 1 of input 'x'"),
    ],
)
def test_one_shape(stated: tuple[StatedSize, ...], given: tuple[StatedSize, ...], why: str) -> None:
    assert mismatch("input 'x'", stated, given) == why


def test_a_name_is_one_size_in_all_inputs() -> None:
    bound: Bound = {}
    assert mismatch("input 'a'", ("n",), (2,), bound) == ""
    assert mismatch("input 'b'", (3, "n"), (3, 4), bound) == (
        "size 'n' is 2 by axis 0 of input 'a', and 4 by axis 1 of input 'b'"
    )
