"""Layers that change the shape of data, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from convc.ir.errors import GraphError

from . import functional as F
from .module import Module
from .tensor import Tensor


class Flatten(Module):
    """Reshape ``(batch, ...)`` to ``(batch, features)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x)


@dataclass(eq=False)
class Dropout(Module):
    """The identity, since dropout acts only in training, where it drops an element with probability ``rate``."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise GraphError(f"rate must be at least 0 and below 1, not {self.rate!r}")

    def forward(self, x: Tensor) -> Tensor:
        return x
