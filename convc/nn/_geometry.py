"""Window sizes, strides and padding as users write them, for every spatial axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convc.ir.errors import ShapeError
from convc.ir.ops._window import Ints, Pads

from .tensor import Tensor

Size = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
"""``"valid"`` (none), ``"same"``, one size, a size an axis, or a pair (begin, end) an axis."""


def per_axis(value: Size, rank: int, what: str, least: int = 1) -> Ints:
    """A size for each axis; raises ``ShapeError`` naming ``what`` when there are too few or one is too small."""
    sizes = (value,) * rank if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(sizes) != rank or not all(_is_size(s, least) for s in sizes):
        raise ShapeError(f"{what} must be an integer of at least {least} or {rank} of them, not {value!r}")
    return sizes


def window_pads(padding: Padding, kernel: Ints, dilations: Ints) -> Pads:
    """Pads (begin, end) for each axis.

    ``"same"`` adds ``dilation * (kernel - 1)`` in all, so that stride 1 keeps sizes and stride s gives
    ``ceil(size / s)``; of an odd number the larger half goes to the beginning.
    """
    rank = len(kernel)
    if padding == "valid":
        return ((0, 0),) * rank
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        return tuple((t - t // 2, t // 2) for t in totals)
    sizes: Any = (padding,) * rank if isinstance(padding, int) else padding
    if isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes) == rank:
        pairs = [(p, p) if isinstance(p, int) else tuple(p) if isinstance(p, Sequence) else () for p in sizes]
        if all(len(p) == 2 and all(_is_size(s, 0) for s in p) for p in pairs):
            return tuple((a, b) for a, b in pairs)
    raise ShapeError(
        f"padding must be 'same', 'valid', a size, or for each of {rank} axes a size or a pair (begin, end), not "
        f"{padding!r}"
    )


def check_rank(x: Tensor, rank: int) -> None:
    """Raises ``ShapeError`` unless ``x`` is a batch of channels over ``rank`` spatial axes."""
    if len(x.shape) != rank + 2:
        axes = ("batch", "channels", *("depth", "height", "width")[3 - rank :])
        raise ShapeError(f"takes data of shape ({', '.join(axes)}), not {list(x.shape)}")


def _is_size(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
