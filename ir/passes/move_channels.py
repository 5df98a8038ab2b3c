"""Channels that are split, joined and shuffled become an index: what reads them reads them where they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..ops._elementwise import Elementwise
from ..ops._pool import Pool
from ..ops.concat import Concat
from ..ops.conv import Conv, is_depthwise
from ..ops.gather import Gather
from ..ops.global_pool import GlobalPool
from ..ops.reshape import Reshape
from ..ops.select_channels import SelectChannels, interleaved
from ..ops.slice import Slice
from ..ops.transpose import Transpose
from ..rewrite import rebuild
from ..types import TensorType

MAX_RUNS = 64
"""An order of channels in more pieces than this is left to the ops that made it."""


def move_channels(graph: Graph) -> Graph:
    """``conv(slice(reshape(transpose(reshape(concat(a, b))))), w) -> conv(select_channels(a, b), w')``.

    A chain of ops that only move whole channels becomes one ``select_channels`` of the values that it starts from, or
    a ``concat`` where it comes to that, or nothing. A convolution takes its channels in whatever order they lie in
    memory, the inputs of its constant weight permuted to match; what works on each channel by itself takes them so too,
    and passes the order on.
    """
    if any(v.type.layout for v in graph.values()):
        return graph  # the text of a later stage
    return rebuild(graph, _Mover(graph).visit)


MOST_CHANNELS = 1 << 14
"""Values of more channels are left as they are: each channel of a view has a number in memory."""


@dataclass(frozen=True)
class _View:
    """A value ``N middle spatial`` whose middle axes hold channels of other values, by their numbers in ``_Mover``."""

    channels: np.ndarray
    node: Node
    """What makes the value, its inputs those of the new graph."""
    direct: bool
    """Whether its inputs are no views themselves."""


class _Mover:
    """The state of one run: views by the name of their value, and a number for every channel that one may hold."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.views: dict[str, _View] = {}
        self.sources: list[Value] = []
        self.starts: list[int] = []
        self.total = 0
        self.numbered: dict[str, int] = {}
        self.made: dict[bytes | str, Value] = {}

    def visit(self, b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        moved = self.moved(b, node, inputs)
        if moved is not None and moved.size <= MOST_CHANNELS:
            direct = not any(v.name in self.views for v in inputs)
            return self.viewed(b, node, _View(moved, Node(node.op, inputs, node.outputs), direct))
        if inputs and inputs[0].name in self.views and self.views[inputs[0].name].channels.ndim == 1:
            made = self.reordered(b, node, inputs)
            if made is not None:
                return made
        return b.reinfer(node, [self.value(b, v) for v in inputs])

    def viewed(self, b: Builder, node: Node, view: _View) -> Sequence[Value]:
        """The output of ``node`` as a view, which is computed when something needs it; at once where the graph returns
        it.
        """
        self.views[node.output.name] = view
        return [self.value(b, node.output)] if node.output.name in self.graph.output_set else node.outputs

    # -- what moves channels
    # ----------------------------------------------------------------------------------------------

    def moved(self, b: Builder, node: Node, inputs: tuple[Value, ...]) -> np.ndarray | None:
        """The channels of the output of a node that only moves channels; ``None`` for any other."""
        op = node.op
        if isinstance(op, Concat | SelectChannels):
            return _joined(op, inputs[0].type.rank, [self.channels_of(v) for v in inputs])
        if not isinstance(op, Slice | Reshape | Transpose | Gather):
            return None
        x, channels = inputs[0].type, self.channels_of(inputs[0])
        if channels is None:
            return None
        if isinstance(op, Slice):
            return _sliced(op, x, channels)
        if isinstance(op, Reshape):
            return _reshaped(x, node.output.type, channels)
        if isinstance(op, Transpose):
            return _transposed(op, channels)
        indices = b.constant_of(inputs[1])
        return None if indices is None else _gathered(op, x, channels, indices)

    def channels_of(self, v: Value) -> np.ndarray | None:
        """The numbers of the channels that a value holds; new ones for a value that is no view and has spatial axes."""
        if v.name in self.views:
            return self.views[v.name].channels
        if v.type.rank < 3 or v.type.sizes[1] > MOST_CHANNELS:
            return None
        size = v.type.sizes[1]
        if v.name not in self.numbered:
            self.numbered[v.name] = self.total
            self.starts.append(self.total)
            self.sources.append(v)
            self.total += size
        return np.arange(self.numbered[v.name], self.numbered[v.name] + size)

    # -- what takes them in another order
    # ---------------------------------------------------------------------------------

    def reordered(self, b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        """A node that can take the channels of its first operand as they lie in memory; ``None`` for one that cannot."""
        x, *params = inputs
        channels = self.views[x.name].channels
        order = self.memory_order(channels)
        sorted_already = bool((order == np.arange(len(order))).all())
        if not self.is_simple(channels[order]) or any(b.constant_of(v) is None for v in params):
            return None
        if isinstance(node.op, Conv) and node.op.group == 1:
            weight = params[0] if sorted_already else _permuted(b, params[0], order, 1)
            return b.reinfer(node, [self.selected(b, channels[order], x.name), weight, *params[1:]])
        if sorted_already or not _is_channelwise(node):
            return None
        data = self.selected(b, channels[order], x.name)
        y = b.emit(node.op, data, *(_permuted(b, v, order, 0) for v in params), names=[f"{node.output.name}.moved"])
        back = np.argsort(order)
        restored = Node(SelectChannels(tuple(back.tolist())), (y,), node.outputs)
        moved = self.channels_of(y)
        assert moved is not None
        return self.viewed(b, node, _View(moved[back], restored, direct=False))

    def memory_order(self, channels: np.ndarray) -> np.ndarray:
        """What sorts channels by the value that they lie in, the one that comes first being first, and there by their
        place.
        """
        owners = np.searchsorted(self.starts, channels, side="right")
        _, first, inverse = np.unique(owners, return_index=True, return_inverse=True)
        return np.lexsort((channels, first[inverse]))

    # -- values of them
    # ---------------------------------------------------------------------------------------------------

    def value(self, b: Builder, v: Value) -> Value:
        """The value itself, computed now if it is a view."""
        view = self.views.get(v.name)
        if view is None:
            return v
        if v.name not in self.made:
            if not view.direct and view.channels.ndim == 1 and self.is_simple(view.channels):
                self.made[v.name] = self.selected(b, view.channels, v.name)
            else:
                (self.made[v.name],) = b.reinfer(view.node, [self.value(b, x) for x in view.node.inputs])
        return self.made[v.name]

    def selected(self, b: Builder, channels: np.ndarray, name: str) -> Value:
        """The value ``N C spatial`` that holds these channels: an operand whole, several joined, or a selection."""
        key = channels.tobytes()
        if key not in self.made:
            operands, local = self.located(channels)
            if local != list(range(sum(v.type.sizes[1] for v in operands))):
                self.made[key] = b.emit(SelectChannels(tuple(local)), *operands, names=[name])
            else:
                self.made[key] = operands[0] if len(operands) == 1 else b.emit(Concat(1), *operands, names=[name])
        return self.made[key]

    def is_simple(self, channels: np.ndarray) -> bool:
        """Whether an order of channels is of so few pieces that it may be code."""
        operands, local = self.located(channels)
        return sum(map(len, interleaved(local, [v.type.sizes[1] for v in operands]))) <= MAX_RUNS

    def located(self, channels: np.ndarray) -> tuple[list[Value], list[int]]:
        """The operands that hold these channels, in order of appearance, and the channels counted one operand after
        another.
        """
        owners = np.searchsorted(self.starts, channels, side="right") - 1
        used = list(dict.fromkeys(owners.tolist()))
        operands = [self.sources[o] for o in used]
        offsets = np.cumsum([0, *(v.type.sizes[1] for v in operands)])
        shift = {o: int(offset) - self.starts[o] for o, offset in zip(used, offsets, strict=False)}
        return operands, [c + shift[o] for c, o in zip(channels.tolist(), owners.tolist(), strict=True)]


def _joined(op: Concat | SelectChannels, rank: int, parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [c for c in parts if c is not None]
    axis = op.axis % rank if isinstance(op, Concat) else 1
    if len(known) < len(parts) or len({c.ndim for c in known}) > 1 or not 1 <= axis <= known[0].ndim:
        return None
    whole = np.concatenate(known, axis - 1)
    return whole if isinstance(op, Concat) else whole[list(op.channels)]


def _sliced(op: Slice, x: TensorType, channels: np.ndarray) -> np.ndarray | None:
    ranges = op.ranges(x)
    end = 1 + channels.ndim
    if any(r is not None for r in (ranges[0], *ranges[end:])):
        return None
    kept = [np.arange(s) if r is None else np.array(r, int) for r, s in zip(ranges, x.sizes, strict=True)]
    chosen: np.ndarray = channels[np.ix_(*kept[1:end])]
    return chosen


def _reshaped(x: TensorType, out: TensorType, channels: np.ndarray) -> np.ndarray | None:
    spatial = x.shape[1 + channels.ndim :]
    end = out.rank - len(spatial)
    keeps = end >= 2 and out.shape[0] == x.shape[0] and out.shape[end:] == spatial
    return channels.reshape(out.sizes[1:end]) if keeps else None


def _transposed(op: Transpose, channels: np.ndarray) -> np.ndarray | None:
    end = 1 + channels.ndim
    keeps = all(op.perm[a] == a for a in (0, *range(end, len(op.perm))))
    return channels.transpose([a - 1 for a in op.perm[1:end]]) if keeps else None


def _gathered(op: Gather, x: TensorType, channels: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
    axis = op.axis % x.rank
    if not 1 <= axis <= channels.ndim or (indices < -x.sizes[axis]).any() or (indices >= x.sizes[axis]).any():
        return None
    taken: np.ndarray = channels.take(indices, axis - 1)
    return taken


def _is_channelwise(node: Node) -> bool:
    """Whether a node works on each channel by itself, its other operands having one entry a channel on axis 0."""
    if isinstance(node.op, Conv):
        return is_depthwise(node)
    one = len(node.inputs) == len(node.outputs) == 1
    return one and isinstance(node.op, Elementwise | Pool | GlobalPool)


def _permuted(b: Builder, v: Value, order: np.ndarray, axis: int) -> Value:
    """A constant with one axis permuted."""
    array = b.constant_of(v)
    assert array is not None
    return b.constant(array.take(order, axis), f"{v.name}.moved")
