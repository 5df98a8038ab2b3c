"""Group normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError, plural
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports, onnx_dtype
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import divides, equal
from ..types import TensorType
from ._accumulate import accumulator, moments
from .layer_norm import FAR


@dataclass(frozen=True)
class GroupNorm(Op):
    """``(x - mean) / sqrt(var + epsilon) * scale + b``, statistics over a group of channels; ONNX
    GroupNormalization-21.

    Operands x, scale, b of one float dtype: data ``N C ...`` in any layout, and two vectors with one element per
    channel, or per group as in opset 18.
    """

    name = "group_norm"
    normalises_rows = True
    num_groups: int
    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> TensorType:
        x, *params = types
        if len(params) != 2 or {t.dtype for t in types} != {x.dtype} or not x.is_float or x.rank < 2:
            raise ShapeError("takes data of rank 2 or more, scale and b, of one float dtype")
        channels = x.shape[1]
        if self.num_groups < 1 or not divides(self.num_groups, channels):
            raise ShapeError(f"{plural(channels, 'channel')} cannot be divided into {plural(self.num_groups, 'group')}")
        if not all(t.rank == 1 and any(equal(t.shape[0], d) for d in (channels, self.num_groups)) for t in params):
            raise ShapeError(f"scale and b must have shape [{channels}], or [{self.num_groups}] for each group")
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, b = xs
        channels = x.shape[1]
        per_group = channels // self.num_groups
        acc = accumulator(x.type)
        stat = TensorType(acc.dtype, (x.shape[0], self.num_groups))

        def read(i: Sequence[Any], r: Sequence[Any]) -> Any:
            return x(i[0], i[1] * per_group + r[0], *r[1:]).astype(acc.tvm_dtype)

        m = moments(k, stat, (per_group, *x.shape[2:]), read)

        def element(n: Any, c: Any, *i: Any) -> Any:
            at = (n, c // per_group)
            spread = k.tirx.sqrt(m.variance(*at) + k.const(self.epsilon, acc.tvm_dtype))
            normal = m.centred(x(n, c, *i).astype(acc.tvm_dtype), at) / spread
            factor, offset = (p(c // (channels // p.shape[0])).astype(acc.tvm_dtype) for p in (scale, b))
            return (normal * factor + offset).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "group_norm", guard=True)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 8 * inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        per_group = inputs[0].shape[1] // self.num_groups
        return layout.rank == inputs[0].rank and per_group % layout.block(1) == 0

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(2), f32[2, 6, 3, 5], f32[6], f32[6])
        yield sample(cls(3), f32[2, 6, 7], f32[3], f32[3])
        yield sample(cls(1, 0.25), f32[2, 4, 2, 3, 3], f32[4], f32[4])
        yield sample(cls(2), f32[2, 4, 9], *[np.ones(4, np.float32)] * 2, low=3, high=5)
        yield sample(cls(2), f32[2, 4, 9], *[np.ones(4, np.float32)] * 2, low=9998, high=10002, **FAR)
        yield sample(cls(2), f16[1, 4, 5, 5], f16[4], f16[4])
        yield sample(cls(2), f64[1, 4, 2, 2], f64[4], f64[4])


@imports("GroupNormalization")
def _import_group_norm(n: ImportNode) -> Any:
    groups = n.attr("num_groups")
    if groups is None:
        raise n.error("attribute 'num_groups' is missing")
    return n.emit(GroupNorm(groups, n.attr("epsilon", 1e-5)), n.input(0), n.input(1), n.input(2))


@exports(GroupNorm)
def _export_group_norm(op: GroupNorm, n: ExportNode) -> None:
    channels = n.input_types[0].sizes[1]

    def of_channels(name: str, type: TensorType) -> str:
        """The vector with one element per channel."""
        if type.sizes == (channels,):
            return name
        column = n.reshape(name, (op.num_groups, 1))
        wide = n.node("Expand", [column, n.ints((op.num_groups, channels // op.num_groups))])
        return n.reshape(wide, (channels,))

    vectors = [of_channels(name, t) for name, t in zip(n.inputs[1:], n.input_types[1:], strict=True)]
    n.node(
        "GroupNormalization",
        [n.inputs[0], *vectors],
        n.outputs,
        num_groups=op.num_groups,
        epsilon=op.epsilon,
        stash_type=onnx_dtype(accumulator(n.input_types[0]).dtype),
    )
