"""Tile sizes."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """The sizes of a stack of matrix products: ``batch`` of them, ``m x k`` by ``k x n``."""

    batch: int
    m: int
    n: int
    k: int


class Tile(NamedTuple):
    """A block's part of the result, ``m x n``, summed ``k`` terms a step, shared out to ``rows x columns`` threads (warps, on tensor
    cores); ``stages`` steps of the factors are in shared memory at once.
    """

    m: int
    n: int
    k: int
    rows: int
    columns: int
    stages: int = 1
