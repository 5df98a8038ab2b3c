"""Open the batch of a graph that fixed it, as most exporters do.

The graph computes one image, or a few; afterwards it computes any number of them, each as it would alone. The pass
follows the batch from the inputs through the graph: of every value it knows the axis along which the images lie. A rule
for each kind of op says along which axis of the results they lie then, or that the op mixes them. What only repeats the
size of the batch is seen for what it is: the shape of a Reshape or Expand, and a constant that is joined to each image.

This is how ``jax.vmap`` maps a function over an axis (J. Bradbury and others, JAX, 2018), without a new axis: the
batch has one already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..builder import Builder
from ..errors import ConvcError, ShapeError
from ..graph import Graph, Node, Value
from ..op import Op
from ..ops._axes import axes_of, axis_of
from ..ops._elementwise import Elementwise
from ..ops._pool import Pool
from ..ops._recurrent import Recurrent
from ..ops._resampling import Resampling
from ..ops.arg_max import ArgExtreme
from ..ops.batch_norm import BatchNorm
from ..ops.col2im import Col2Im
from ..ops.concat import Concat
from ..ops.conv import Conv
from ..ops.conv_integer import ConvInteger
from ..ops.conv_transpose import ConvTranspose
from ..ops.cum_sum import Cumulative
from ..ops.deform_conv import DeformConv
from ..ops.depth_to_space import DepthToSpace, SpaceToDepth
from ..ops.det import Det
from ..ops.expand import Expand, Tile
from ..ops.gather import Gather
from ..ops.gather_elements import GatherElements
from ..ops.gemm import Gemm
from ..ops.global_pool import GlobalPool
from ..ops.grid_sample import GridSample
from ..ops.group_norm import GroupNorm
from ..ops.instance_norm import InstanceNorm
from ..ops.layer_norm import LayerNorm
from ..ops.lp_norm import LpNorm
from ..ops.lrn import Lrn
from ..ops.matmul import MatMul
from ..ops.max_pool import MaxPool
from ..ops.mean_variance_norm import MeanVarianceNorm
from ..ops.pad import Pad
from ..ops.quantize import Dequantize, Quantize
from ..ops.reduce import Reduce
from ..ops.reshape import Reshape
from ..ops.rms_norm import RmsNorm
from ..ops.select_channels import SelectChannels
from ..ops.slice import Slice
from ..ops.softmax import Normalization
from ..ops.top_k import TopK
from ..ops.transpose import Transpose
from ..ops.trilu import Trilu
from ..rewrite import rebuild
from ..sizes import FIRST_AXIS, Dim, Size, named, product
from ..types import TensorType
from .fix_shapes import with_sizes


@dataclass(frozen=True)
class Place:
    """Where the images of a batch lie: along ``axis``, one after the other with ``inner`` elements for each, and that
    ``outer`` times.
    """

    axis: int
    inner: Dim = 1
    outer: Dim = 1

    def size(self, batch: Dim) -> Dim:
        """The size of the axis for a number of images."""
        return self.outer * batch * self.inner

    def on(self, axis: int) -> Place:
        """The same along another axis."""
        return replace(self, axis=axis)


class Mixed(Exception):
    """An op does not compute each image by itself, as far as the pass can tell. The message says why."""


@dataclass(frozen=True)
class Operand:
    """An operand in the graph of a fixed batch; ``place`` is ``None`` where all images share it."""

    type: TensorType
    place: Place | None


@dataclass(frozen=True)
class Opened:
    """An op for any batch, and the place of the images in each of its results.

    ``spread`` names operands that all images share, and that the op needs once for each, with the place for them.
    """

    op: Op
    places: Sequence[Place | None]
    spread: Mapping[int, Place] = field(default_factory=dict)


def open_batch(graph: Graph, name: str) -> Graph:
    """The graph with the named size ``name`` as its batch: the first axis of its first input, and of the other inputs
    of two or more axes that have the same size there.

    Raises ``ShapeError``, naming the node, where the batch of the graph cannot be opened.
    """
    if not graph.inputs or not graph.inputs[0].type.rank:
        raise ShapeError("the model has no batch: its first input has no axes")
    if name in graph.named_sizes:
        raise ShapeError(f"the model has a size '{name}' already: give its batch another name")
    size = named(name, typical=FIRST_AXIS)
    fixed = graph.inputs[0].type.shape[0]
    if isinstance(fixed, Size):
        if str(fixed) not in graph.named_sizes:
            raise ShapeError(f"the batch of the model is {fixed}, which is no size of its own")
        return with_sizes(graph, {str(fixed): size})
    if fixed < 1:
        raise ShapeError("the batch of the model is 0: there is no image to follow")
    return _best(graph, fixed, size)


MOST_READINGS = 32
"""The number of readings of a graph that are tried."""


def _best(graph: Graph, fixed: int, size: Size) -> Graph:
    """The graph for any batch, whose results have the images along an axis of their own, the first if possible.

    A Reshape from ``[5, 1, 4]`` to ``[5, 1, 1, 4]`` may be read in two ways, of which each is right and another one may
    be followed to the end. Raises ``ShapeError`` where none can.
    """
    picks: list[int] = []
    best: tuple[int, Graph] | None = None
    failed: ShapeError | None = None
    for _ in range(MOST_READINGS):
        reading = _Batch(graph, fixed, size, picks)
        try:
            made = reading.opened()
            worth = sum(place.axis for place in reading.results())
            if best is None or worth < best[0]:
                best = worth, made
            if not worth:
                break
        except ShapeError as e:
            failed = failed or e
        picks = reading.picked()
        while picks and picks[-1] + 1 >= reading.ways[len(picks) - 1]:
            picks.pop()
        if not picks:
            break
        picks[-1] += 1
    if best is None:
        assert failed is not None
        raise failed
    return best[1]


class _Batch:
    """The batch of a graph: its fixed size and the open one, and where its images lie in the values seen so far.

    ``picks`` says which way the first nodes are read that can be read in several; the others are read in the first.
    """

    def __init__(self, graph: Graph, fixed: int, size: Size, picks: Sequence[int] = ()) -> None:
        self.graph, self.fixed, self.size = graph, fixed, size
        self._picks = picks
        self.ways: list[int] = []
        """In how many ways each of the nodes can be read that can be read in several."""
        self.places: dict[str, Place] = {}
        self.types = {v.name: v.type for v in graph.values()}

    def picked(self) -> list[int]:
        """Which way each of these nodes was read."""
        return [*self._picks, *[0] * (len(self.ways) - len(self._picks))][: len(self.ways)]

    def pick(self, found: Sequence[Place]) -> Place:
        """One of several places, the first of which is the most likely."""
        if len(found) == 1:
            return found[0]
        self.ways.append(len(found))
        return found[self.picked()[-1]]

    def results(self) -> list[Place]:
        """The places of the images in the outputs.

        Raises ``ShapeError`` when one has no axis for them alone.
        """
        found = []
        for name, v in zip(self.graph.output_names, self.graph.outputs, strict=True):
            if (place := self.places.get(v.name)) is not None:
                if (place.inner, place.outer) != (1, 1):
                    raise ShapeError(
                        f"the batch of the model cannot be opened: its output '{name}', {v.type}, has no axis for the "
                        "images alone"
                    )
                found.append(place)
        return found

    def opened(self) -> Graph:
        inputs = {v.name: v for v in self.graph.inputs}
        for i, v in enumerate(self.graph.inputs):
            if v.type.shape[:1] == (self.fixed,) and (i == 0 or v.type.rank > 1):
                self.places[v.name] = Place(0)
                inputs[v.name] = Value(v.name, v.type.with_shape((self.size, *v.type.shape[1:])))
        nodes = tuple(replace(n, inputs=tuple(inputs.get(v.name, v) for v in n.inputs)) for n in self.graph.nodes)
        outputs = tuple(inputs.get(v.name, v) for v in self.graph.outputs)
        whole = replace(self.graph, inputs=tuple(inputs.values()), nodes=nodes, outputs=outputs)
        return rebuild(whole, self.visit)

    def visit(self, b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        operands = [Operand(self.types[v.name], self.places.get(v.name)) for v in node.inputs]
        if all(x.place is None for x in operands):
            return None
        made = tuple(self.types[v.name] for v in node.outputs)
        try:
            found = _rule(node.op)(node.op, operands, made, self)
            given = [self.spread(b, v, found.spread[i]) if i in found.spread else v for i, v in enumerate(inputs)]
            results = b.reinfer(replace(node, op=found.op), given)
            for v, place in zip(results, found.places, strict=True):
                if place is not None and v.type.shape[place.axis] != place.size(self.size):
                    raise Mixed(f"axis {place.axis} of its result would be {v.type.shape[place.axis]}")
        except (Mixed, ConvcError) as e:
            first = self.graph.inputs[0].name
            raise ShapeError(
                f"the batch of the model cannot be opened: {node.op.name} node '{node.output.name}' "
                f"({', '.join(map(str, operands_of(node, self.types)))}) {e}; run it for {self.fixed} at a time, or "
                f"export it with an open first axis of '{first}'"
            ) from None
        self.places |= {v.name: place for v, place in zip(results, found.places, strict=True) if place is not None}
        return results

    def spread(self, b: Builder, value: Value, place: Place) -> Value:
        """A value that all images share, once for each of them."""
        shape, axis = value.type.shape, place.axis
        if self.fixed > 1:
            value = self.first(b, value, place)

        def with_axis(*sizes: Dim) -> tuple[Dim, ...]:
            return (*shape[:axis], *sizes, *shape[axis + 1 :])

        joined = with_axis(place.size(self.size))
        made: Value
        if place.inner == 1 and place.outer == 1:
            made = b.emit(Expand(joined), value)
            return made
        apart = b.emit(Reshape(with_axis(place.outer, 1, place.inner), True), value)
        repeated = b.emit(Expand(with_axis(place.outer, self.size, place.inner)), apart)
        made = b.emit(Reshape(joined, True), repeated)
        return made

    def first(self, b: Builder, value: Value, place: Place) -> Value:
        """A constant that is the same for each image of the fixed batch, for one of them."""
        array = b.constant_of(value)
        if array is None or place.outer != 1 or not isinstance(place.inner, int):
            raise Mixed(f"reads '{value.name}', which may differ between the images")
        parts = np.split(array, self.fixed, place.axis)
        if not all(np.array_equal(parts[0], part, equal_nan=array.dtype.kind == "f") for part in parts):
            raise Mixed(f"reads the constant '{value.name}', which differs between the images")
        return b.constant(parts[0], value.name)

    def shared(self, x: Operand, place: Place) -> bool:
        """Whether an operand that all images share has elements for each of the fixed batch at a place."""
        return x.place is None and x.type.shape[place.axis] == place.size(self.fixed)


def operands_of(node: Node, types: Mapping[str, TensorType]) -> list[Value]:
    """The operands of a node with their types before."""
    return [Value(v.name, types[v.name]) for v in node.inputs]


# -- rules -------------------------------------------------------------------------------------------------------------

Rule = Callable[[Any, Sequence[Operand], Sequence[TensorType], _Batch], Opened]
"""What a rule makes of an op, its operands and the types of its results; it raises ``Mixed`` where images mix."""


def _rule(op: Op) -> Rule:
    for kinds, rule in _RULES:
        if isinstance(op, kinds):
            return rule
    raise Mixed("is of a kind of which convc does not know whether it computes each image by itself")


def _only(xs: Sequence[Operand], count: int = 1) -> Place:
    """The place of the images in the first operands, which is the same in all of them; the others are shared."""
    if any(x.place is not None for x in xs[count:]):
        raise Mixed("takes weights that differ between the images")
    (place, *others) = {x.place for x in xs[:count]}
    if others or place is None:
        raise Mixed("takes operands in which the images lie along different axes")
    return place


def _along(place: Place, axes: Sequence[int]) -> None:
    if place.axis in axes:
        raise Mixed(f"works along axis {place.axis}, where the images lie")


def _first_axis(op: Op, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    """Ops that compute each element of the first axis of their first operand by itself."""
    place = _only(xs)
    if isinstance(op, MaxPool) and op.indices:
        raise Mixed("gives places among the elements of all images")
    if place.axis:
        raise Mixed(f"takes the images along axis 0, and they lie along axis {place.axis}")
    return Opened(op, [place] * len(made))


def _rows(axes: Callable[[Any, int], Sequence[int]]) -> Rule:
    """Ops that work along some axes of their first operand, and keep all of them."""

    def rule(op: Any, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
        place = _only(xs)
        _along(place, axes(op, xs[0].type.rank))
        return Opened(op, [place] * len(made))

    return rule


def _reduce(op: Any, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place, rank = _only(xs), xs[0].type.rank
    gone = op.reduced(rank) if isinstance(op, Reduce) else (axis_of(op.axis, rank),)
    _along(place, gone)
    axis = place.axis if op.keepdims else place.axis - sum(a < place.axis for a in gone)
    return Opened(op, [place.on(axis)])


def _elementwise(op: Op, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    found = {x.place.on(x.place.axis - x.type.rank) for x in xs if x.place is not None}
    (place, *others) = found
    if others:
        raise Mixed("takes operands in which the images lie along different axes")
    spread = {}
    for i, x in enumerate(xs):
        if x.place is None and x.type.rank >= -place.axis and x.type.shape[place.axis] != 1:
            if not batch.shared(x, place):
                raise Mixed(f"makes {x.type.shape[place.axis]} elements of each where the images lie")
            spread[i] = place.on(x.type.rank + place.axis)
    return Opened(op, [place.on(made[0].rank + place.axis)] * len(made), spread)


def _reshape(op: Reshape, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place, shape, wanted = _only(xs), xs[0].type.shape, made[0].shape
    before = product(shape[: place.axis]) * place.outer
    found = []
    for axis, size in enumerate(wanted):
        around = product(wanted[:axis])
        outer = 0 if 0 in (around, size) else before // around
        step = outer * batch.fixed
        if outer != 0 and outer * around == before and size // step * step == size:
            found.append(Place(axis, size // step, outer))
    if not found:
        raise Mixed(f"makes {made[0]}, in which the images have no axis")
    found.sort(key=lambda p: (p.inner != 1, p.outer != 1, p.axis))  # an axis of its own first, if there is one
    at = batch.pick(found)
    sizes = (*wanted[: at.axis], at.size(batch.size), *wanted[at.axis + 1 :])
    return Opened(replace(op, shape=sizes, allowzero=True), [at])


def _transpose(op: Transpose, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place = _only(xs)
    return Opened(op, [place.on(op.perm.index(place.axis))])


def _joined(op: Any, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    """Ops along one axis of several operands of one rank: Concat and GatherElements."""
    found = {x.place for x in xs if x.place is not None}
    (place, *others) = found
    if others:
        raise Mixed("takes operands in which the images lie along different axes")
    _along(place, [axis_of(op.axis, xs[0].type.rank)])
    spread = {i: place for i, x in enumerate(xs) if batch.shared(x, place)}
    if any(x.place is None and i not in spread for i, x in enumerate(xs)):
        raise Mixed("takes operands of another size where the images lie")
    return Opened(op, [place], spread)


def _slice(op: Slice, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place, rank = _only(xs), xs[0].type.rank
    if not op.keeps(xs[0].type, place.axis):
        raise Mixed("takes some of the images")
    kept = [i for i, a in enumerate(op.axes) if axis_of(a, rank) != place.axis]
    lists = {
        name: tuple(given[i] for i in kept) if (given := getattr(op, name)) else given
        for name in ("axes", "starts", "ends", "steps")
    }
    return Opened(replace(op, **lists), [place])


def _pad(op: Pad, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place = _only(xs)
    if op.pads[place.axis] != (0, 0):
        raise Mixed("adds to the images, or takes some away")
    return Opened(op, [place])


def _expand(op: Expand, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place = _only(xs)
    at = place.axis - xs[0].type.rank
    if made[0].shape[at] != xs[0].type.shape[at]:
        raise Mixed(f"makes {made[0].shape[at]} elements of each where the images lie")
    shape = list(op.shape)
    if len(shape) >= -at:
        shape[at] = 1
    return Opened(replace(op, shape=tuple(shape)), [place.on(made[0].rank + at)])


def _tile(op: Tile, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place = _only(xs)
    if op.repeats[place.axis] != 1:
        raise Mixed("repeats the images")
    return Opened(op, [place])


def _gemm(op: Gemm, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    x, w, *c = xs
    if x.place is None or w.place is not None or x.place.axis != int(op.trans_a):
        raise Mixed("sums over the images, or multiplies some by others")
    place = x.place.on(0)
    spread = {}
    for addend in c:
        if addend.place is not None and (addend.place != place or addend.type.rank < 2):
            raise Mixed("takes operands in which the images lie along different axes")
        if addend.place is None and addend.type.rank == 2 and addend.type.shape[0] != 1:
            if not batch.shared(addend, place):
                raise Mixed(f"makes {addend.type.shape[0]} elements of each where the images lie")
            spread[2] = place
    return Opened(op, [place], spread)


def _matmul(op: MatMul, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    a, b = xs
    rank = max(a.type.rank, b.type.rank)
    if min(a.type.rank, b.type.rank) < 2:
        raise Mixed("takes a vector")
    places = [None if x.place is None else x.place.on(x.place.axis - x.type.rank) for x in xs]
    alone = [p for p in places if p is not None]
    if len(alone) == 1 and alone[0].axis == (-2 if places[0] else -1):  # rows of the one, or columns of the other
        return Opened(op, [alone[0].on(rank + alone[0].axis)])
    if any(p.axis >= -2 for p in alone):
        raise Mixed("sums over the images, or multiplies some by others")
    return _elementwise(op, xs, made, batch)  # stacks of matrices are broadcast


def _gather(op: Gather, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    x, at = xs
    axis = axis_of(op.axis, x.type.rank)
    if x.place is None and at.place is not None:
        return Opened(op, [at.place.on(axis + at.place.axis)])
    if x.place is None or at.place is not None:
        raise Mixed("takes places in the images that differ between them")
    _along(x.place, [axis])
    moved = x.place.axis + (at.type.rank - 1 if x.place.axis > axis else 0)
    return Opened(op, [x.place.on(moved)])


def _resize(op: Resampling, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    place, rank = _only(xs), xs[0].type.rank
    kept = [i for i, a in enumerate(op.axes) if axis_of(a, rank) != place.axis]
    if len(kept) < len(op.axes):
        if made[0].shape[place.axis] != xs[0].type.shape[place.axis] or op.policy != "stretch" or op.roi:
            raise Mixed(f"works along axis {place.axis}, where the images lie")
        if op.scales and op.scales[next(i for i in range(len(op.axes)) if i not in kept)] != 1:
            raise Mixed(f"works along axis {place.axis}, where the images lie")
        lists = {name: tuple(v[i] for i in kept) for name in ("axes", "scales", "sizes") if (v := getattr(op, name))}
        op = replace(op, **lists)  # type: ignore[arg-type]
    return Opened(op, [place])


def _linear(op: Any, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    """Quantize and Dequantize."""
    place = _only(xs)
    if op.block_size:
        raise Mixed("takes a scale for each block, also of the images")
    if xs[1].type.numel != 1:
        _along(place, [axis_of(op.axis, xs[0].type.rank)])
    return Opened(op, [place])


def _recurrent(op: Recurrent, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    """The batch is axis 1 of the gates and the outputs, and axis 0 of the lengths and the states."""
    lengths = len(xs) - 1 - op.states
    if any(x.place is not None for x in xs[1:lengths]) or xs[0].place != Place(1):
        raise Mixed("takes weights that differ between the images, or sequences along the axis where they lie")
    if any(x.place not in (None, Place(0)) for x in xs[lengths:]):
        raise Mixed("takes operands in which the images lie along different axes")
    spread = {i: Place(0) for i in range(lengths, len(xs)) if xs[i].place is None}
    return Opened(op, [Place(1), *[Place(0)] * op.states], spread)


def _sampled(op: Op, xs: Sequence[Operand], made: Sequence[TensorType], batch: _Batch) -> Opened:
    """GridSample and DeformConv: data and places for each image."""
    each = [0, 1] if isinstance(op, GridSample) else [0, 2, *([len(xs) - 1] if getattr(op, "has_mask", 0) else [])]
    for i, x in enumerate(xs):
        if x.place not in ((None, Place(0)) if i in each else (None,)):
            raise Mixed("takes weights that differ between the images, or images along another axis than the first")
    return Opened(op, [Place(0)], {i: Place(0) for i in each if xs[i].place is None})


_RULES: tuple[tuple[Any, Rule], ...] = (
    (Elementwise, _elementwise),
    (
        (
            *(Conv, ConvInteger, ConvTranspose, Pool, GlobalPool, BatchNorm, InstanceNorm, GroupNorm, Lrn),
            *(DepthToSpace, SpaceToDepth, Col2Im, SelectChannels),
        ),
        _first_axis,
    ),
    (Normalization, _rows(lambda op, rank: op.reduced(rank))),
    ((LayerNorm, RmsNorm), _rows(lambda op, rank: range(axis_of(op.axis, rank), rank))),
    (MeanVarianceNorm, _rows(lambda op, rank: axes_of(op.axes, rank))),
    ((LpNorm, Cumulative, TopK), _rows(lambda op, rank: [axis_of(op.axis, rank)])),
    ((Trilu, Det), _rows(lambda op, rank: [rank - 2, rank - 1])),
    ((Reduce, ArgExtreme), _reduce),
    (Reshape, _reshape),
    (Transpose, _transpose),
    ((Concat, GatherElements), _joined),
    (Slice, _slice),
    (Pad, _pad),
    (Expand, _expand),
    (Tile, _tile),
    (Gemm, _gemm),
    (MatMul, _matmul),
    (Gather, _gather),
    (Resampling, _resize),
    ((Quantize, Dequantize), _linear),
    (Recurrent, _recurrent),
    ((GridSample, DeformConv), _sampled),
)
"""The rule for each kind of op; the first that fits is asked."""
