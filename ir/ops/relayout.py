"""Conversion between layouts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..op import Op
from ..types import TensorType


@dataclass(frozen=True)
class Relayout(Op):
    """The same tensor in the layout ``to``, or row-major if it is empty.

    The padding of the layout is filled with zeros.
    """

    name = "relayout"
    injective = True
    to: str = ""

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        return x.with_layout(Layout(self.to) if self.to else None)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        return k.compute(
            outs[0], lambda *i: xs[0](*i), "relayout", guard=True
        )  # the source may end where padding begins
