"""The fuzzer of values on a few cases, and what it must notice. ``python -m tests.values`` checks more."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from values.campaign import Job, run
from values.guard import Guarded
from values.trial import Trial, graph_of

from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.op import Op, f32, i64
from convc.ir.types import TensorType

ASKING = ("gather", "gather_nd", "scatter_nd", "tensor_scatter", "reverse_sequence", "one_hot", "roi_align", "lstm")
"""Ops whose operands hold indices, lengths and places."""


def test_few_values() -> None:
    """No value of an operand makes code read or write what is not its own."""
    outcomes = run(300, 0, ASKING)
    assert not [f"{o.job}: {o.error}" for o in outcomes if o.error]
    assert sum(o.values for o in outcomes) > 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_more_values(seed: int) -> None:
    outcomes = run(100_000, seed)
    assert not [f"{o.job}: {o.error}" for o in outcomes if o.error]


@dataclass(frozen=True)
class Careless(Op):
    """``x`` at an index that is not checked."""

    name = "careless"

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType("f32", (1,))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, index = xs
        return k.compute(outs[0], lambda i: x(index(i).astype("int32")))


def _read_at(index: int) -> None:
    np.testing.assert_array_equal(
        Trial(graph_of(Careless(), [f32[4], i64[1]]))([np.ones(4, np.float32), np.array([index])]), [[1]]
    )


@pytest.mark.parametrize("index", [4, -1])
def test_a_read_beyond_the_borders_ends_the_process(index: int) -> None:
    assert _ends_in_a_crash(_read_at, index)


def test_a_read_of_what_lies_around() -> None:
    """The first run reads poison before the array, which the second run does not have there."""
    _read_at(3)
    memory = Guarded(16, True, 0xFF)
    assert memory.intact()
    memory.bytes[:] = 1
    assert memory.intact()
    memory._around[-1] = 3
    assert not memory.intact()


def _touch(at_end: bool) -> None:
    memory = Guarded(16, at_end, 0)
    import ctypes

    ctypes.c_char.from_address(memory.address + (16 if at_end else -1)).value = b"x"


@pytest.mark.parametrize("at_end", [True, False])
def test_both_borders_are_watched(at_end: bool) -> None:
    assert _ends_in_a_crash(_touch, at_end)


def _ends_in_a_crash(target: Callable[..., None], *arguments: Any) -> bool:
    child = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    child.start()
    child.join()
    return (child.exitcode or 0) < 0


def test_a_failure_names_the_value() -> None:
    assert str(Job("gather", 2, True)) == "gather-2-empty"
