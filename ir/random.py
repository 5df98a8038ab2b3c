"""Random numbers that are the same on every machine.

They come from Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), which
maps a counter and a key to random bits. The key is a seed, and the counter is the place of the number and of its node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .dtypes import numpy_dtype
from .errors import ConvcError

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = np.uint64(32)
_seed: ContextVar[int] = ContextVar("seed", default=0)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10: ``[n, 4]`` counters of 32 bits to as many random words, under a key of two such words."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = np.uint64(_MULTIPLIERS[0]) * c0, np.uint64(_MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = (p1 >> _WORD) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> _WORD) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Use this seed, of 64 bits, inside the ``with`` block, for the random numbers of nodes that have none.

    Raises ``ConvcError`` for a seed that is not an integer of 64 bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 64:
        raise ConvcError(f"the seed must be an integer from 0 to 2**64 - 1, not {seed!r}")
    token = _seed.set(int(seed))
    try:
        yield
    finally:
        _seed.reset(token)


def current_seed() -> int:
    """The seed in use."""
    return _seed.get()


class Stream:
    """The random numbers of one node: the stream ``number`` of a seed.

    ``seed`` is a node's own, a float as ONNX has it, or ``None`` for the seed in use (``seeded``).
    """

    def __init__(self, number: int, seed: float | None) -> None:
        own = seed is not None
        bits = int(np.float32(seed).view(np.uint32)) if own else _seed.get()
        self._key = (bits & 0xFFFFFFFF, bits >> 32)
        self._last = (number, int(own))

    def words(self, count: int) -> np.ndarray:
        """The first words of 64 bits."""
        at = np.arange(-(-count // 2), dtype=np.uint64)
        counter = np.empty((len(at), 4), np.uint32)
        counter[:, 0], counter[:, 1] = at & np.uint64(0xFFFFFFFF), at >> _WORD
        counter[:, 2], counter[:, 3] = self._last
        halves = philox(counter, self._key).reshape(-1, 2).astype(np.uint64)
        return ((halves[:, 0] << _WORD) | halves[:, 1])[:count]

    def uniform(self, shape: tuple[int, ...], dtype: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Numbers that are spread evenly over ``[low, high)``."""
        unit = (self.words(int(np.prod(shape, dtype=np.int64))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        made = (low + unit * (high - low)).astype(numpy_dtype(dtype))
        end = np.array(high, made.dtype)
        if low < high:  # rounding to the dtype may give the end
            made = np.where(made >= end, np.nextafter(end, np.array(low, made.dtype)), made)
        return made.reshape(shape).astype(numpy_dtype(dtype), copy=False)

    def normal(self, shape: tuple[int, ...], dtype: str, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
        """Numbers of a normal distribution (Box and Muller 1958, "A note on the generation of random normal
        deviates").
        """
        count = int(np.prod(shape, dtype=np.int64))
        words = self.words(count + count % 2) >> np.uint64(11)
        radius = np.sqrt(-2 * np.log((words[0::2].astype(np.float64) + 1) * 2.0**-53))
        angle = 2 * np.pi * 2.0**-53 * words[1::2].astype(np.float64)
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1)[:count]
        return (mean + scale * pairs).astype(numpy_dtype(dtype)).reshape(shape)
