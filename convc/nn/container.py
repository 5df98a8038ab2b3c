"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from convc.ir.errors import GraphError, ShapeError

from .activation import ActivationLike, activate, check_activation
from .functional import concat
from .module import Module
from .tensor import Tensor

Layer = Callable[..., Any]
"""A module, or a function of tensors."""


class _Layers(Module):
    """A module holding layers by position, which name them: ``0``, ``1``, ..."""

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if isinstance(layer, type) or not callable(layer):
                raise GraphError(f"{type(self).__name__} takes modules and functions of tensors, not {layer!r}")
        self.layers = layers

    def children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), m) for i, m in enumerate(self.layers) if isinstance(m, Module))

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]


class Sequential(_Layers):
    """Layers one after the other."""

    def forward(self, x: Tensor) -> Any:
        return reduce(lambda x, layer: layer(x), self.layers, x)


class Parallel(_Layers):
    """Branches on the same input, joined by ``combine``: ``"concat"`` along the channels (axis 1), or ``"add"``."""

    def __init__(self, *branches: Layer, combine: str = "concat") -> None:
        super().__init__(*branches)
        if combine not in ("concat", "add"):
            raise GraphError(f"combine must be 'concat' or 'add', not {combine!r}")
        if not branches:
            raise GraphError("Parallel needs at least one branch")
        self.combine = combine

    def forward(self, x: Tensor) -> Tensor:
        made: list[Tensor] = [branch(x) for branch in self.layers]
        if self.combine == "concat":
            return concat(made)
        if len({t.shape for t in made}) > 1:
            raise ShapeError(
                f"its branches cannot be added: their shapes are {', '.join(str(list(t.shape)) for t in made)}"
            )
        total: Tensor = reduce(add, made)
        return total


@dataclass(eq=False)
class Residual(Module):
    """``activation(branch(x) + shortcut(x))``, the input itself where there is no shortcut; He et al. 2015.

    Raises ``ShapeError`` when the two sides differ in shape.
    """

    branch: Layer
    shortcut: Layer | None = None
    activation: ActivationLike = None

    def __post_init__(self) -> None:
        check_activation(self.activation)

    def forward(self, x: Tensor) -> Tensor:
        main: Tensor = self.branch(x)
        side: Tensor = self.shortcut(x) if self.shortcut is not None else x
        if main.shape != side.shape:
            raise ShapeError(
                f"the branch gives {list(main.shape)} and the shortcut {list(side.shape)}; they must be equal (a 1x1 "
                "convolution as shortcut= can make them so)"
            )
        return activate(self.activation, main + side)
