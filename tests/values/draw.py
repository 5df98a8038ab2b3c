"""Random values of an operand: ordinary ones, and those that do harm as indices, lengths and numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from support.oracles import values

from convc.ir.op import Case
from convc.ir.types import TensorType, type_of

Rng = np.random.Generator


class Drawer:
    """Draws values for the operands of one case, whose types may have other sizes than the case's own."""

    def __init__(self, case: Case, types: Sequence[TensorType]) -> None:
        self.case, self.types = case, types
        sizes = sorted({d for t in types for d in t.sizes})
        near = {s + d for s in sizes for d in (-1, 0, 1)}
        self._awkward = [_awkward(t, near | {-n for n in near}) for t in types]

    def __call__(self, rng: Rng) -> tuple[list[np.ndarray], bool]:
        """An array for each operand, and whether all of them hold only ordinary values."""
        kinds = rng.choice(5, len(self.types), p=(0.3, 0.2, 0.2, 0.15, 0.15))
        if rng.random() < 0.1:
            kinds[:] = 0
        return [self._draw(i, int(kind), rng) for i, kind in enumerate(kinds)], not kinds.any()

    def _draw(self, i: int, kind: int, rng: Rng) -> np.ndarray:
        type, awkward = self.types[i], self._awkward[i]
        if kind == 0:
            return self._ordinary(i, rng)
        if kind == 1:  # one value everywhere
            return np.full(type.sizes, awkward[rng.integers(len(awkward))], type.numpy_dtype)
        if kind == 2:
            return awkward[rng.integers(0, len(awkward), type.sizes)]
        if kind == 3:  # a few among ordinary ones
            mixed = self._ordinary(i, rng).copy()
            where = rng.random(type.sizes) < 0.2
            mixed[where] = awkward[rng.integers(0, len(awkward), int(where.sum()))]
            return mixed
        raw = rng.bytes(type.numel * type.numpy_dtype.itemsize)
        return np.frombuffer(raw, np.uint8).view(type.numpy_dtype).reshape(type.sizes)

    def _ordinary(self, i: int, rng: Rng) -> np.ndarray:
        given = self.case.inputs[i]
        if isinstance(given, np.ndarray) and given.shape == self.types[i].sizes:
            return given
        return values(self.types[i], rng, self.case.low, self.case.high)


def _awkward(type: TensorType, near: set[int]) -> np.ndarray:
    """Awkward values of a dtype: its extremes, what is near the sizes, and what conversions get wrong."""
    dtype = type.numpy_dtype
    if type.dtype == "bool" or (dtype.itemsize == 1 and dtype.kind not in "iu"):
        return np.arange(256, dtype=np.uint8).view(dtype)
    whole = [*near, 2**15, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32, 2**32 + 1, -(10**12), 2**62, -(2**63)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array(sorted({int(info.min), int(info.max), *(v for v in whole if info.min <= v <= info.max)}), dtype)
    halves = [v + 0.5 for v in near]
    with np.errstate(all="ignore"):
        small = np.array([1e-45, -1e-45, 1e-310, 1e-30, 0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan]).astype(dtype)
        large = np.array([*whole, *halves, 1e9, -1e9, 1e30, -1e30, 3.4e38, -3.4e38, 1e300, 65504]).astype(dtype)
    return np.concatenate([small, large])


def operand_types(case: Case) -> list[TensorType]:
    """The types of the operands of a case."""
    return [type_of(x) if isinstance(x, np.ndarray) else x for x in case.inputs]


def emptied(types: Sequence[TensorType], rng: Rng) -> list[TensorType]:
    """The types with one size made zero: on one operand's axis, or on every axis of that size."""
    found = [(i, a) for i, t in enumerate(types) for a in range(t.rank)]
    if not found:
        return list(types)
    which, axis = found[rng.integers(len(found))]
    size, everywhere = types[which].sizes[axis], rng.random() < 0.5

    def changed(i: int, t: TensorType) -> TensorType:
        return TensorType(
            t.dtype,
            tuple(
                0 if (i, a) == (which, axis) or (everywhere and d == size and a == axis) else d
                for a, d in enumerate(t.sizes)
            ),
        )

    return [changed(i, t) for i, t in enumerate(types)]
