"""Runs of channels, against a loop over single channels."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np
import pytest

from convc.ir.ops.select_channels import Run, interleaved, runs_of


def one_by_one(channels: list[int], sizes: list[int]) -> list[Run]:
    starts = [0, *accumulate(sizes)]
    runs: list[Run] = []
    for at, c in enumerate(channels):
        operand = bisect_right(starts, c) - 1
        last = runs[-1] if runs else None
        if last is not None and operand == last.operand:
            step = c - channels[at - 1]
            if last.count == 1 or step == last.step:
                runs[-1] = Run(last.start, operand, last.first, step, last.count + 1)
                continue
        runs.append(Run(at, operand, c - starts[operand], 1, 1))
    return runs


@pytest.mark.parametrize("seed", range(200))
def test_runs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, rng.integers(1, 5)).tolist()
    every = np.arange(sum(sizes))
    orders = (every[::-1], every[::2], np.roll(every, 3), rng.permutation(every), rng.integers(0, sum(sizes), 9), [])
    for order in orders:
        channels = [int(c) for c in order]
        assert runs_of(channels, sizes) == one_by_one(channels, sizes)
        assert sum(map(len, interleaved(channels, sizes))) <= len(runs_of(channels, sizes))
