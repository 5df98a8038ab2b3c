"""Activation functions by name, and as a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convc.ir.errors import GraphError

from . import functional as F
from .module import Module
from .tensor import Tensor

ActivationLike = str | Callable[[Tensor], Tensor] | None
"""The name of an activation, a function of a tensor, a module, or ``None`` for none."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    f.__name__: f
    for f in (
        F.relu,
        F.relu6,
        F.leaky_relu,
        F.elu,
        F.selu,
        F.sigmoid,
        F.hardsigmoid,
        F.tanh,
        F.softplus,
        F.softmax,
        F.log_softmax,
        F.gelu,
        F.silu,
        F.mish,
        F.hardswish,
    )
}
"""The activations that have a name."""


def check_activation(activation: ActivationLike) -> None:
    """Raises ``GraphError`` for a name that no activation has."""
    if isinstance(activation, str) and activation not in ACTIVATIONS:
        raise GraphError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    if activation is not None and not isinstance(activation, str) and not callable(activation):
        raise GraphError(f"activation must be a name or a function of a tensor, not {activation!r}")


def activate(activation: ActivationLike, x: Tensor) -> Tensor:
    """The activation of ``x``; ``x`` itself for ``None``."""
    if activation is None:
        return x
    return (ACTIVATIONS[activation] if isinstance(activation, str) else activation)(x)


@dataclass(eq=False)
class Activation(Module):
    """An activation as a layer, by name or function."""

    activation: ActivationLike

    def __post_init__(self) -> None:
        check_activation(self.activation)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.activation, x)
