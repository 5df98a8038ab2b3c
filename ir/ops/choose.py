"""One of two tensors of different shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports, onnx_dtype
from ..op import Op
from ..sizes import Sizes
from ..types import TensorType


@dataclass(frozen=True)
class Choose(Op):
    """The second operand where the first, one bool, holds, else the third; ONNX If.

    The two have one dtype and rank, and ``shape`` is that of the one that is chosen.
    """

    name = "choose"
    rounds = False
    injective = True
    shape: Sizes = ()

    def infer(self, *types: TensorType) -> TensorType:
        condition, yes, no = types
        if condition != TensorType("bool", ()) or (yes.dtype, yes.rank) != (no.dtype, no.rank):
            raise ShapeError(f"takes a bool and two tensors of one dtype and rank, not {condition}, {yes} and {no}")
        if len(self.shape) != yes.rank:
            raise ShapeError(f"shape {list(self.shape)} has another rank than {yes}")
        return yes.with_shape(self.shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        condition, *branches = xs

        def element(*i: Any) -> Any:
            def inside(x: Operand) -> Any:
                """The element of a tensor, or 0 beyond it."""
                within = [j < d for j, d, made in zip(i, x.shape, outs[0].shape, strict=True) if d != made]
                return k.guarded(k.tirx.all(*within), x(*i), k.const(0, x.dtype)) if within else x(*i)

            yes, no = map(inside, branches)
            return k.guarded(condition(), yes, no)

        return k.compute(outs[0], element, "choose", guard=True)


@exports(Choose)
def _export_choose(op: Choose, n: ExportNode) -> None:
    from onnx import helper

    def branch(name: str, i: int) -> object:
        made = n.fresh(name)
        info = helper.make_tensor_value_info(made, onnx_dtype(n.input_types[i].dtype), None)
        return helper.make_graph([helper.make_node("Identity", [n.inputs[i]], [made])], name, [], [info])

    n.node("If", n.inputs[:1], n.outputs, then_branch=branch("then", 1), else_branch=branch("else", 2))
