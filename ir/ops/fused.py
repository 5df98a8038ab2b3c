"""A group of ops compiled as one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ShapeError
from ..graph import Graph
from ..op import Op
from ..types import TensorType


@dataclass(frozen=True)
class Fused(Op):
    """A graph as an op: the outputs of ``body`` with its inputs bound to the operands.

    The fusion pass makes one for each kernel.
    """

    name = "fused"
    body: Graph = field(default_factory=lambda: Graph("empty", (), (), ()))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        wanted = tuple(v.type for v in self.body.inputs)
        if types != wanted:
            raise ShapeError(f"the body wants {', '.join(map(str, wanted))}")
        return tuple(v.type for v in self.body.outputs)

    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return sum(n.flops for n in self.body.nodes)
