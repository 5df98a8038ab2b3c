"""Sizes of tensors, some of them only named, and whether a shape fits what a model states of it."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import plural

StatedSize = int | str
"""A size in elements, or the name of a dynamic size."""

Bound = dict[str, tuple[StatedSize, str]]
"""What each named size was found to be, and where it was found first."""


ANY_RANK: tuple[StatedSize, ...] = ("...",)
"""The shape of a tensor of which not even the rank is known."""


def mismatch(owner: str, stated: Sequence[StatedSize], given: Sequence[StatedSize], bound: Bound | None = None) -> str:
    """Why a shape does not fit the stated one, as a sentence without its full stop; the empty string when it fits.

    ``owner`` says whose shape it is, as in ``input 'x'``. A stated number must be given as it is; a stated name fits
    any size, but the same one wherever the name stands; ``ANY_RANK`` fits every shape. Pass the same ``bound`` for all
    tensors of a model: it keeps the size of each name from one call to the next, and grows.
    """
    if tuple(stated) == ANY_RANK:
        return ""
    if len(stated) != len(given):
        axes = plural(len(given), "axis", "axes")
        return f"{owner} has {axes}, {described(given)}; the model takes {len(stated)}, {described(stated)}"
    bound = {} if bound is None else bound
    for axis, (expected, size) in enumerate(zip(stated, given, strict=True)):
        where = f"axis {axis} of {owner}"
        if isinstance(expected, str):
            known, first = bound.setdefault(expected, (size, where))
            if known != size:
                return f"size '{expected}' is {known} by {first}, and {size} by {where}"
        elif expected != size:
            return f"{where} has size {size}; the model takes {expected} there, {described(stated)}"
    return ""


def described(shape: Sequence[StatedSize]) -> str:
    """A shape as people read it: ``[n, 3, 224, 224]``."""
    return f"[{', '.join(map(str, shape))}]"
