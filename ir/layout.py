"""Memory layouts: how a logical tensor lies in memory.

A layout is named as in oneDNN and TVM: upper-case letters are the logical axes, a number with a lower-case letter is a
block split off that axis, and the order of the letters is the order in memory. ``NCHW16c`` keeps sixteen channels
together; ``OIHW16i16o`` is a packed convolution weight. The logical order of the axes is always ``N C D H W`` for data,
``O I D H W`` for weights and ``A B`` for matrices, so ``NHWC`` is a permutation of the logical ``NCHW``.

An axis that its block does not divide is padded with zeros up to the next multiple: every kernel may rely on the
padding being zero and must leave it zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from .sizes import Dim

_LOGICAL_ORDER = "ABNOCIDHW"
_TOKEN = re.compile(r"([A-Z])|(\d+)([a-z])")


@dataclass(frozen=True)
class Layout:
    """A parsed layout name; raises ``ValueError`` when the name is malformed."""

    name: str

    def __post_init__(self) -> None:
        _dims(self.name)

    @property
    def dims(self) -> tuple[tuple[int, int], ...]:
        """For each dimension in memory: (logical axis, block); block is 0 for the outer part of an axis."""
        return _dims(self.name)

    @cached_property
    def rank(self) -> int:
        """The number of logical axes."""
        return sum(1 for _, block in self.dims if not block)

    @property
    def is_blocked(self) -> bool:
        """Whether a block is split off some axis; otherwise the layout is a permutation of the axes."""
        return any(block for _, block in self.dims)

    def block(self, axis: int) -> int:
        """The block split off a logical axis, 1 when there is none."""
        return next((block for a, block in self.dims if a == axis and block), 1)

    def physical_shape(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """The shape in memory of a tensor of this logical shape."""
        return tuple(block or -(-shape[axis] // self.block(axis)) for axis, block in self.dims)

    def physical_index(self, index: Sequence[Any]) -> tuple[Any, ...]:
        """The position in memory of a logical index."""
        out = []
        for axis, block in self.dims:
            size = self.block(axis)
            i = index[axis]
            out.append(i % block if block else i if size == 1 else i // size)
        return tuple(out)

    def logical_index(self, index: Sequence[Any]) -> tuple[Any, ...]:
        """The logical index of a position in memory. It exceeds the logical shape where the position is padding."""
        outer = {axis: i for (axis, block), i in zip(self.dims, index, strict=True) if not block}
        for (axis, block), i in zip(self.dims, index, strict=True):
            if block:
                outer[axis] = outer[axis] * block + i
        return tuple(outer[a] for a in range(self.rank))

    def is_padded(self, shape: Sequence[Dim]) -> bool:
        """Whether a tensor of this logical shape has zero padding in memory."""
        return any(block and shape[axis] % block for axis, block in self.dims)

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=1024)
def _dims(name: str) -> tuple[tuple[int, int], ...]:
    """What ``Layout.dims`` of this name is. Raises ``ValueError`` when the name is malformed."""
    tokens = list(_TOKEN.finditer(name))
    if "".join(m.group(0) for m in tokens) != name or not name:
        raise ValueError(f"malformed layout {name!r}")
    if re.search(rf"[^{_LOGICAL_ORDER}\da-z]|(?<!\d)0+[a-z]", name):
        raise ValueError(f"malformed layout {name!r}: axes are {', '.join(_LOGICAL_ORDER)}, blocks at least 1")
    axes = [m.group(1) for m in tokens if m.group(1)]
    blocks = [m.group(3) for m in tokens if m.group(3)]
    if len(set(axes)) != len(axes) or any(b.upper() not in axes for b in blocks) or len(set(blocks)) != len(blocks):
        raise ValueError(f"malformed layout {name!r}: each axis once, each block on a named axis, once")
    order = {a: i for i, a in enumerate(sorted(axes, key=_LOGICAL_ORDER.index))}
    return tuple((order[(m.group(1) or m.group(3)).upper()], int(m.group(2) or 0)) for m in tokens)


def round_up(size: int, multiple: int) -> int:
    """The least multiple of a number that is not less than ``size``."""
    return -(-size // multiple) * multiple
