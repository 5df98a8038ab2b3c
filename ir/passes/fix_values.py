"""Replace inputs by constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..dtypes import described
from ..errors import NOT_AN_ARRAY, InputError, lacking
from ..graph import Constant, Graph
from ..shapes import Bound, StatedSize, mismatch
from .fix_shapes import with_sizes

_KINDS = {"U": "text", "S": "text", "c": "complex numbers", "M": "dates", "m": "durations"}
"""What arrays of numpy's other kinds of dtypes hold."""


def checked_value(name: str, dtype: np.dtype, shape: tuple[StatedSize, ...] | None, given: Any) -> np.ndarray:
    """The value that the caller gives for an input, as an array of the input's dtype and shape.

    Numbers are converted where this changes no integer and makes none infinite. One number, or a list of as many as the
    input holds, takes the input's shape. ``shape`` is ``None`` where the rank is not known. Raises ``InputError`` for
    what does not fit.
    """
    what = f"the value given for input '{name}'"
    wanted = described(str(dtype), ("...",) if shape is None else shape)
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        raise InputError(f"{what} is no array: {NOT_AN_ARRAY}; the input is {wanted}") from None
    if array.dtype != dtype:
        if array.size and array.dtype.kind not in "biuf":
            held = _KINDS.get(array.dtype.kind, "what is no number")
            raise InputError(f"{what} holds {held}; the input is {wanted}")
        with np.errstate(all="ignore"):
            made = array.astype(dtype)
        if dtype.kind in "biu" and not np.array_equal(made, array):
            raise InputError(f"{what} holds numbers that are not of dtype {dtype}; the input is {wanted}")
        if not np.array_equal(np.isfinite(made.astype(np.float64)), np.isfinite(array)):
            raise InputError(f"{what} holds numbers out of the range of {dtype}; the input is {wanted}")
        array = made
    if shape is not None and array.ndim < 2 and array.ndim != len(shape):
        sizes = [1 if isinstance(d, str) else d for d in shape]
        if math.prod(sizes) == array.size and (array.ndim == 0 or all(isinstance(d, int) for d in shape)):
            array = array.reshape(sizes)
    if shape is not None and (why := mismatch(what, shape, array.shape)):
        raise InputError(why)
    return array


def fix_values(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """The graph with some of its inputs replaced by constants.

    Raises ``InputError`` for an unknown input, or a value that does not fit it.
    """
    known = {v.name: v for v in graph.inputs}
    constants = {}
    bound: Bound = {}
    for name, given in values.items():
        if name not in known:
            raise InputError(f"values names input {lacking(name, known)}")
        type = known[name].type
        array = checked_value(name, type.numpy_dtype, type.stated, given)
        if why := mismatch(f"the value given for input '{name}'", type.stated, array.shape, bound):
            raise InputError(why)
        constants[name] = Constant.of(array)
    graph = with_sizes(graph, {size: number for size, (number, _) in bound.items() if isinstance(number, int)})
    inputs = tuple(v for v in graph.inputs if v.name not in constants)
    return replace(graph, inputs=inputs, constants={**graph.constants, **constants})
