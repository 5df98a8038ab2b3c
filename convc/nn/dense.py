"""Fully connected layers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convc.ir.errors import ShapeError
from convc.ir.ops.gemm import Gemm

from ._geometry import per_axis
from .activation import ActivationLike, activate, check_activation
from .initializers import fill, glorot
from .module import Module
from .tensor import Tensor, apply


@dataclass(eq=False)
class Dense(Module):
    """``y[..., o] = b[o] + sum over i of x[..., i] * w[o, i]``; parameters ``weight (units, in)`` and
    ``bias (units,)``.
    """

    units: int
    use_bias: bool = True
    activation: ActivationLike = None

    def __post_init__(self) -> None:
        per_axis(self.units, 1, "units")
        check_activation(self.activation)

    def forward(self, x: Tensor) -> Tensor:
        if len(x.shape) < 2:
            raise ShapeError(f"takes data of shape (batch, ..., features), not {list(x.shape)}")
        *outer, features = x.shape
        shape = (self.units, features)
        operands = [self.parameter(x, "weight", shape, glorot(shape))]
        if self.use_bias:
            operands.append(self.parameter(x, "bias", (self.units,), fill(0)))
        rows = x if len(outer) == 1 else x.reshape(math.prod(outer), features)
        y = apply(Gemm(trans_b=True), rows, *operands)
        return activate(self.activation, y if len(outer) == 1 else y.reshape(*outer, self.units))
