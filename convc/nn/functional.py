"""Functions of symbolic tensors, for use in ``forward``. Activations compute the same as torch's of the same name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convc.ir.ops import activations, transcendental
from convc.ir.ops import softmax as softmaxes
from convc.ir.ops.clip import Clip
from convc.ir.ops.concat import Concat
from convc.ir.ops.unary import Relu

from .tensor import Tensor, apply


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return apply(Relu(), x)


def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return apply(Clip(0.0, 6.0), x)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """``x`` where it is positive, elsewhere ``slope * x``."""
    return apply(activations.LeakyRelu(slope), x)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, elsewhere ``alpha * (exp(x) - 1)``."""
    return apply(activations.Elu(alpha), x)


def selu(x: Tensor) -> Tensor:
    """The self-normalizing ELU; Klambauer et al. 2017."""
    return apply(activations.Selu(), x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return apply(transcendental.Sigmoid(), x)


def hardsigmoid(x: Tensor) -> Tensor:
    """``x / 6 + 1/2`` within 0 and 1."""
    return apply(activations.HardSigmoid(1 / 6, 0.5), x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply(transcendental.Tanh(), x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return apply(transcendental.Softplus(), x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``exp(x)`` divided by its sum along an axis."""
    return apply(softmaxes.Softmax(axis), x)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of ``softmax``."""
    return apply(softmaxes.LogSoftmax(axis), x)


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """``x`` times the distribution function of the normal distribution, exact or approximated by tanh."""
    return apply(activations.Gelu("tanh" if approximate else "none"), x)


def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``."""
    return apply(activations.Silu(), x)


def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return apply(activations.Mish(), x)


def hardswish(x: Tensor) -> Tensor:
    """``x * hardsigmoid(x)``."""
    return apply(activations.HardSwish(), x)


def concat(tensors: Sequence[Tensor], axis: int = 1) -> Tensor:
    """The tensors joined along an axis, by default the channels."""
    return apply(Concat(axis), *tensors)


def flatten(x: Tensor) -> Tensor:
    """Reshape ``(batch, ...)`` to ``(batch, features)``."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
