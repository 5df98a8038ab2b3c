"""The k largest elements of rows by ranking: the place of an element is the number of elements that come before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops.top_k import TopK
from convc.ir.types import TensorType

from ...group import Group
from ...lowered import Computes


def rankings(group: Group) -> Computes:
    """The computations that replace ``top_k`` in a group on a GPU, where TVM's sort, a host function, cannot run."""
    return {n.output.name: Ranking(n).compute for n in group.body.nodes if isinstance(n.op, TopK)}


@dataclass(frozen=True)
class Ranking:
    """``rank[i] = number of j that come before i``, comparing all pairs; then ``y[p] = x[i]`` where ``rank[i] = p``.

    An element comes before those that it is larger than (smaller than, where the smallest are wanted), and before equal
    ones of a higher index. NaN counts as larger than any number.
    """

    node: Node

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, (values, indices) = xs[0], outs
        op = self.node.op
        assert isinstance(op, TopK)
        if x.type.numel == 0 or values.numel == 0:
            return [k.compute(t, lambda *_, t=t: k.const(0, t.tvm_dtype)) for t in outs]
        axis = op.axis % x.type.rank
        size = x.shape[axis]

        def at(i: Sequence[Any], j: Any) -> Sequence[Any]:
            return (*i[:axis], j, *i[axis + 1 :])

        def before(a: Any, b: Any) -> Any:
            large, small = (a, b) if op.largest else (b, a)
            if not x.type.is_float:
                return large > small
            return k.tirx.any(large > small, k.tirx.all(k.tirx.isnan(large), k.tirx.Not(k.tirx.isnan(small))))

        def rank(*i: Any) -> Any:
            j = k.reduce_axis(size, "j")
            mine, other = x(*i), x(*at(i, j))
            tied = k.tirx.all(k.tirx.Not(before(mine, other)), j < i[axis])
            return te.sum(k.tirx.any(before(other, mine), tied).astype("int32"), axis=j)

        type = TensorType("i32", x.type.shape)
        ranks = k.operand(k.compute(type, rank, "rank"), type)

        def which(*i: Any) -> Any:
            j = k.reduce_axis(size, "j")
            return te.sum(k.select(ranks(*at(i, j)) == i[axis], j, 0), axis=j)

        type = TensorType("i32", indices.shape)
        chosen = k.operand(k.compute(type, which, "chosen"), type)
        return [
            k.compute(values, lambda *i: x(*at(i, chosen(*i))), "values"),
            k.compute(indices, lambda *i: chosen(*i).astype("int64"), "indices"),
        ]
