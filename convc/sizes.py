"""Sizes that a model leaves open: what they are when arrays are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.ir.errors import InputError

from .artifact import AnyPort, OpenPort, Port
from .model import any_array

Shapes = tuple[tuple[int, ...], ...]
"""The shape of each input, in order."""


def readable(port: AnyPort, given: Any) -> Any:
    """An input whose ``shape`` and ``dtype`` can be read: it, where it has both, and else a numpy array of it."""
    return given if hasattr(given, "shape") and hasattr(given, "dtype") else any_array(port, given)


def shapes_of(ports: Sequence[AnyPort], arrays: Sequence[Any]) -> Shapes:
    """The shapes of readable inputs, which agree with the ports; raises ``InputError`` naming the input, the axis and the size."""
    bound: dict[str, tuple[int, str]] = {}
    shapes = []
    for port, array in zip(ports, arrays, strict=True):
        shape = tuple(int(size) for size in array.shape)
        _check_dtype(port, array)
        if len(shape) != len(port.shape):
            raise InputError(f"input '{port.name}' has {len(shape)} axes, {list(shape)}; the model takes {port}")
        for axis, (stated, size) in enumerate(zip(port.shape, shape, strict=True)):
            where = f"axis {axis} of input '{port.name}'"
            if isinstance(stated, str):
                known, first = bound.setdefault(stated, (size, where))
                if known != size:
                    raise InputError(f"size '{stated}' is {known} by {first}, and {size} by {where}")
            elif stated != size:
                raise InputError(f"{where} has size {size}; the model takes {stated} there, {port}")
        shapes.append(shape)
    return tuple(shapes)


def _check_dtype(port: AnyPort, array: Any) -> None:
    name = str(array.dtype).rpartition(".")[2]  # torch.float32
    if name != port.dtype and (isinstance(array, np.ndarray) or name in np.sctypeDict):
        raise InputError(f"input '{port.name}' has dtype {name}; the model takes {port.dtype}: convert it first")


def joined(ports: Sequence[Port]) -> OpenPort:
    """One port of several models of a network: where their sizes differ, all of them as a name."""
    first = ports[0]
    if any(len(p.shape) != len(first.shape) for p in ports):
        return OpenPort(first.name, ("...",), first.dtype)
    axes = [dict.fromkeys(sizes) for sizes in zip(*(p.shape for p in ports), strict=True)]
    return OpenPort(
        first.name, tuple(next(iter(s)) if len(s) == 1 else "|".join(map(str, s)) for s in axes), first.dtype
    )
