"""Replace ops that split, join and shuffle channels by an index, so that their readers read each channel where it was
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..ops._axes import size_of
from ..ops._elementwise import Elementwise
from ..ops._pool import Pool
from ..ops.concat import Concat
from ..ops.conv import Conv, is_depthwise
from ..ops.gather import Gather
from ..ops.global_pool import GlobalPool
from ..ops.reshape import Reshape
from ..ops.select_channels import SelectChannels, interleaved, runs_of
from ..ops.slice import Slice
from ..ops.transpose import Transpose
from ..rewrite import rebuild
from ..types import TensorType

MAX_RUNS = 64
"""The most pieces of an order of channels; the ops that make an order of more pieces are kept."""


def move_channels(graph: Graph) -> Graph:
    """``conv(slice(reshape(transpose(reshape(concat(a, b))))), w) -> conv(select_channels(a, b), w')``.

    A chain of ops that only move whole channels becomes one ``select_channels`` of the values that it starts from, or
    one ``concat``, or nothing. A convolution takes its channels in the order in which they lie in memory, with the
    input channels of its constant weight permuted to match. An op that works on each channel by itself takes them in
    this order too, and passes the order on.
    """
    if any(v.type.layout for v in graph.values()):
        return graph  # the graph is the text of a later stage
    return rebuild(graph, _Mover(graph).visit)


MOST_CHANNELS = 1 << 14
"""The most channels of a value that is treated as a view, since each channel of a view has a number in memory."""


@dataclass(frozen=True)
class _View:
    """A value ``N middle spatial`` whose middle axes hold channels of other values, by their numbers in ``_Mover``."""

    channels: np.ndarray
    node: Node
    """The node that makes the value, with inputs of the new graph."""
    direct: bool
    """Whether no input of the node is a view."""


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
        return b.again(node, [self.value(b, v) for v in inputs])

    def viewed(self, b: Builder, node: Node, view: _View) -> Sequence[Value]:
        """The output of ``node`` as a view, which is computed when a node needs it, or at once where the graph returns
        it.
        """
        self.views[node.output.name] = view
        return [self.value(b, node.output)] if node.output.name in self.graph.output_set else node.outputs

    # -- ops that move channels
    # ---------------------------------------------------------------------------------------------

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
        """The numbers of the channels that a value holds.

        A value that is not a view, and has spatial axes, gets new numbers.
        """
        if v.name in self.views:
            return self.views[v.name].channels
        size = v.type.shape[1] if v.type.rank > 2 else None
        if not isinstance(size, int) or size > MOST_CHANNELS:
            return None
        if v.name not in self.numbered:
            self.numbered[v.name] = self.total
            self.starts.append(self.total)
            self.sources.append(v)
            self.total += size
        return np.arange(self.numbered[v.name], self.numbered[v.name] + size)

    # -- ops that take channels in another order
    # ----------------------------------------------------------------------------

    def reordered(self, b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        """The node, changed to take the channels of its first operand as they lie in memory; ``None`` if it cannot."""
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
        """A sort key of channels: the value that they lie in, in order of appearance, and their position in it."""
        owners = np.searchsorted(self.starts, channels, side="right")
        _, first, inverse = np.unique(owners, return_index=True, return_inverse=True)
        return np.lexsort((channels, first[inverse]))

    # -- values of channels
    # -------------------------------------------------------------------------------------------------

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
        """The value ``N C spatial`` that holds these channels: an operand itself, several joined, or a selection."""
        key = channels.tobytes()
        if key not in self.made:
            operands, local = self.located(channels)
            if local != list(range(sum(map(_channels, operands)))):
                self.made[key] = b.emit(SelectChannels(tuple(local)), *operands, names=[name])
            else:
                self.made[key] = operands[0] if len(operands) == 1 else b.emit(Concat(1), *operands, names=[name])
        return self.made[key]

    def is_simple(self, channels: np.ndarray) -> bool:
        """Whether an order of channels has few enough pieces to be compiled into code."""
        operands, local = self.located(channels)
        sizes = list(map(_channels, operands))
        if len(runs_of(local, sizes)) <= MAX_RUNS:
            return True
        return sum(map(len, interleaved(local, sizes))) <= MAX_RUNS

    def located(self, channels: np.ndarray) -> tuple[list[Value], list[int]]:
        """The operands that hold these channels, in order of appearance, and the channels counted one operand after
        another.
        """
        owners = np.searchsorted(self.starts, channels, side="right") - 1
        used = list(dict.fromkeys(owners.tolist()))
        operands = [self.sources[o] for o in used]
        offsets = np.cumsum([0, *map(_channels, operands)])
        shift = {o: int(offset) - self.starts[o] for o, offset in zip(used, offsets, strict=False)}
        return operands, [c + shift[o] for c, o in zip(channels.tolist(), owners.tolist(), strict=True)]


def _channels(v: Value) -> int:
    return size_of(v.type, 1)


def _joined(op: Concat | SelectChannels, rank: int, parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [c for c in parts if c is not None]
    axis = op.axis % rank if isinstance(op, Concat) else 1
    if len(known) < len(parts) or len({c.ndim for c in known}) > 1 or not 1 <= axis <= known[0].ndim:
        return None
    whole = np.concatenate(known, axis - 1)
    return whole if isinstance(op, Concat) else whole[list(op.channels)]


def _sliced(op: Slice, x: TensorType, channels: np.ndarray) -> np.ndarray | None:
    end = 1 + channels.ndim
    kept = []
    for axis in range(x.rank):
        if 1 <= axis < end:
            if not op.knows(x, axis):
                return None
            places = op.places(x, axis)
            kept.append(np.arange(channels.shape[axis - 1]) if places is None else np.array(places, int))
        elif not op.keeps(x, axis):
            return None
    chosen: np.ndarray = channels[np.ix_(*kept)]
    return chosen


def _reshaped(x: TensorType, out: TensorType, channels: np.ndarray) -> np.ndarray | None:
    spatial = x.shape[1 + channels.ndim :]
    end = out.rank - len(spatial)
    keeps = end >= 2 and out.shape[0] == x.shape[0] and out.shape[end:] == spatial
    middle = [d for d in out.shape[1:end] if isinstance(d, int)]
    return channels.reshape(middle) if keeps and len(middle) == end - 1 else None


def _transposed(op: Transpose, channels: np.ndarray) -> np.ndarray | None:
    end = 1 + channels.ndim
    keeps = all(op.perm[a] == a for a in (0, *range(end, len(op.perm))))
    return channels.transpose([a - 1 for a in op.perm[1:end]]) if keeps else None


def _gathered(op: Gather, x: TensorType, channels: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
    axis = op.axis % x.rank
    if not 1 <= axis <= channels.ndim:
        return None
    size = channels.shape[axis - 1]
    if (indices < -size).any() or (indices >= size).any():
        return None
    taken: np.ndarray = channels.take(indices, axis - 1)
    return taken


def _is_channelwise(node: Node) -> bool:
    """Whether a node works on each channel by itself, and its other operands have one entry per channel on axis 0."""
    if isinstance(node.op, Conv):
        return is_depthwise(node)
    one = len(node.inputs) == len(node.outputs) == 1
    return one and isinstance(node.op, Elementwise | Pool | GlobalPool)


def _permuted(b: Builder, v: Value, order: np.ndarray, axis: int) -> Value:
    """A constant with one axis permuted."""
    array = b.constant_of(v)
    assert array is not None
    return b.constant(array.take(order, axis), f"{v.name}.moved")
