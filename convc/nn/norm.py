"""Normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.ir.errors import ShapeError
from convc.ir.ops import batch_norm, layer_norm

from ._geometry import per_axis
from .initializers import fill
from .module import Module
from .tensor import Tensor, apply


@dataclass(eq=False)
class BatchNorm(Module):
    """``(x - running_mean[c]) / sqrt(running_var[c] + epsilon) * weight[c] + bias[c]``, by statistics taken in
    training.

    Data ``(batch, channels, ...)``; parameters ``weight``, ``bias``, ``running_mean`` and ``running_var``, each
    ``(channels,)``.
    """

    ignored_weights: ClassVar[frozenset[str]] = frozenset({"num_batches_tracked"})
    epsilon: float = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        if len(x.shape) < 2:
            raise ShapeError(f"takes data of shape (batch, channels, ...), not {list(x.shape)}")
        initial = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
        vectors = [self.parameter(x, name, x.shape[1:2], fill(value)) for name, value in initial.items()]
        return apply(batch_norm.BatchNorm(self.epsilon), x, *vectors)


@dataclass(eq=False)
class LayerNorm(Module):
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last ``axes`` axes of each sample.

    Parameters ``weight`` and ``bias``, each of the shape of those axes.
    """

    axes: int = 1
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        per_axis(self.axes, 1, "axes")

    def forward(self, x: Tensor) -> Tensor:
        if len(x.shape) <= self.axes:
            raise ShapeError(f"takes data of a batch and at least {self.axes} more axes, not {list(x.shape)}")
        shape = x.shape[-self.axes :]
        vectors = [self.parameter(x, name, shape, fill(value)) for name, value in (("weight", 1), ("bias", 0))]
        return apply(layer_norm.LayerNorm(-self.axes, self.epsilon), x, *vectors)
