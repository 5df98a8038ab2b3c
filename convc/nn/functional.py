"""Functions of symbolic tensors, for ``forward``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convc.ir.ops.concat import Concat
from convc.ir.ops.transcendental import Tanh
from convc.ir.ops.unary import Relu

from .tensor import Tensor, apply


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return apply(Relu(), x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply(Tanh(), x)


def concat(tensors: Sequence[Tensor], axis: int = 1) -> Tensor:
    """The tensors one after the other along an axis, by default the channels."""
    return apply(Concat(axis), *tensors)


def flatten(x: Tensor) -> Tensor:
    """``(batch, ...)`` to ``(batch, features)``."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
