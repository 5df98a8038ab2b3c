"""Selection of channels of several tensors, in any order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Node
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports
from ..op import Case, Op, boolean, f32, i64, sample
from ..sizes import same_shape
from ..types import TensorType
from ._axes import Ints, size_of
from .concat import Concat

MAX_PERIOD = 8
"""The most sequences that an order of channels is tried to be an interleaving of."""


@dataclass(frozen=True)
class SelectChannels(Op):
    """Channel ``c`` of the result is channel ``channels[c]`` of the operands, which are counted one operand after the
    other.

    Operands ``N C ...`` have one dtype, one layout, and the same size except for their channels. A pass makes this op
    of chains of ops that move whole channels, such as splits and shuffles; no model holds it.
    """

    name = "select_channels"
    injective = True
    channels: Ints = ()

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        alike = all(same_shape((*t.shape[:1], *t.shape[2:]), (*x.shape[:1], *x.shape[2:])) for t in types)
        if x.rank < 2 or len({(t.dtype, t.layout, t.rank) for t in types}) > 1 or not alike:
            raise ShapeError("takes operands N C ... that differ only in their channels")
        total = sum(t.shape[1] for t in types)
        if any(not 0 <= c < total for c in self.channels):
            raise ShapeError(f"the operands have {total} channels, and channels has others")
        return x.with_shape((x.shape[0], len(self.channels), *x.shape[2:]))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        lanes = interleaved(self.channels, [size_of(x.type, 1) for x in xs])

        def inside(x: Operand, channel: Any) -> Any:
            """A channel of an operand. Of an intermediate TVM takes no part beyond it, even behind a guard."""
            if not x.is_computed:
                return channel
            return k.simplify(k.tirx.max(k.tirx.min(channel, x.shape[1] - 1), 0))

        def element(n: Any, c: Any, *i: Any) -> Any:
            def pick(runs: Sequence[Run], at: Any) -> Any:
                """The element at index ``at``, which lies in one of the runs, found by binary search."""
                if len(runs) == 1:
                    (run,) = runs
                    return xs[run.operand](n, inside(xs[run.operand], run.first + (at - run.start) * run.step), *i)
                middle = len(runs) // 2
                return k.guarded(at < runs[middle].start, pick(runs[:middle], at), pick(runs[middle:], at))

            chosen = [pick(runs, c // len(lanes)) for runs in lanes]
            value = chosen[-1]
            for lane in reversed(range(len(lanes) - 1)):
                value = k.guarded(c % len(lanes) == lane, chosen[lane], value)
            return value

        return k.compute(outs[0], element, self.name, guard=True)

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return inputs[0].rank == layout.rank

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((3, 1, 0, 4, 4)), f32[2, 5, 3])
        yield sample(cls((0, 3, 1, 4, 2, 5)), f32[1, 3, 4, 5], f32[1, 3, 4, 5])
        yield sample(cls((1, 2, 3, 5, 6, 7, 8, 10, 12)), f32[2, 4, 2, 3], f32[2, 5, 2, 3], f32[2, 4, 2, 3])
        yield sample(cls((7, 6, 5, 0)), f32[1, 5, 2, 2, 2], f32[1, 3, 2, 2, 2])
        yield sample(cls((0, 2, 1)), i64[2, 3])
        yield sample(cls((2, 1)), boolean[1, 1, 2], boolean[1, 2, 2])


@exports(SelectChannels)
def _export_select_channels(op: SelectChannels, n: ExportNode) -> None:
    joined = n.node("Concat", n.inputs, axis=1) if len(n.inputs) > 1 else n.inputs[0]
    n.node("Gather", [joined, n.constant(np.array(op.channels, np.int64), "channels")], n.outputs, axis=1)


def joins_channels(node: Node) -> bool:
    """Whether a node joins whole channels of its operands to ``N C ...``."""
    return isinstance(node.op, SelectChannels) or (
        isinstance(node.op, Concat) and node.op.axis in (1, 1 - node.output.type.rank)
    )


@dataclass(frozen=True)
class Run:
    """``count`` channels of one operand, from ``first`` on with distance ``step``, which become the channels from
    ``start`` on.
    """

    start: int
    operand: int
    first: int
    step: int
    count: int


def runs_of(channels: Sequence[int], sizes: Sequence[int]) -> list[Run]:
    """The fewest runs, found greedily, that make up an order of channels of operands of these sizes."""
    starts = [0, *accumulate(sizes)]
    owner = np.searchsorted(starts, channels, side="right") - 1
    leaves, steps = np.diff(owner) != 0, np.diff(channels)
    leaves[1:] |= np.diff(steps) != 0
    # a run of two channels or more ends where the operand or the step changes
    ends = [*(np.flatnonzero(leaves) + 1).tolist(), len(channels)]
    runs: list[Run] = []
    at = 0
    while at < len(channels):
        alone = at + 1 == len(channels) or owner[at + 1] != owner[at]
        end = at + 1 if alone else ends[bisect_left(ends, at + 2)]
        step = 1 if alone else int(steps[at])
        runs.append(Run(at, int(owner[at]), int(channels[at]) - starts[owner[at]], step, end - at))
        at = end
    return runs


def interleaved(channels: Sequence[int], sizes: Sequence[int]) -> list[list[Run]]:
    """An order of channels as interleaved sequences, as many as give the fewest runs in all."""
    periods = range(1, min(MAX_PERIOD, max(len(channels), 1)) + 1)
    splits = [[runs_of(channels[lane::period], sizes) for lane in range(period)] for period in periods]
    return min(splits, key=lambda lanes: sum(map(len, lanes)))
