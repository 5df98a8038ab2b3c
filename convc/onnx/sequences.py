"""Import of sequences and optionals, which exist only while importing: a sequence is a tuple of values.

A sequence whose length and positions are constant costs nothing when the model runs. Sequences are no inputs and no
outputs of a compiled model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from convc.ir.errors import plural
from convc.ir.graph import Value
from convc.ir.limits import check
from convc.ir.onnx_io import ImportNode
from convc.ir.ops._axes import axis_of


@dataclass(frozen=True)
class Listed:
    """A sequence of tensors."""

    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Absent:
    """An optional that holds nothing."""


Item = Value | Listed | Absent
"""What a name stands for while a model is imported."""


class Apply(Protocol):
    """Imports a node of an ONNX operator on these values, and gives its output."""

    def __call__(self, op: str, inputs: Sequence[Value], /, **attributes: int) -> Value: ...


Body = Callable[[onnx.GraphProto, Mapping[str, Item]], list[Item]]
"""Imports a subgraph of the node, which sees the given values."""


@dataclass(frozen=True)
class Call:
    """One node on sequences or optionals: the node, its inputs, and how further nodes and subgraphs are imported."""

    n: ImportNode
    items: Sequence[Item | None]
    apply: Apply
    body: Body

    def sequence(self, index: int = 0) -> Listed:
        """An input that must be a sequence."""
        item = self.items[index] if index < len(self.items) else None
        if not isinstance(item, Listed):
            raise self.n.error(f"input {index} must be a sequence, and is {kind_of(item)}")
        return item

    def tensor(self, index: int) -> Value:
        """An input that must be a tensor."""
        item = self.items[index] if index < len(self.items) else None
        if not isinstance(item, Value):
            raise self.n.error(f"input {index} must be a tensor, and is {kind_of(item)}")
        return item

    def place(self, index: int, count: int, last: int, default: int) -> int:
        """The position that an input gives, at most ``last``; a negative one counts from ``count``."""
        given = self.n.ints(index, "position")
        if given is None:
            return default
        if len(given) != 1 or not -count <= given[0] <= last:
            raise self.n.error(f"position {', '.join(map(str, given))} is not from {-count} to {last}")
        return given[0] + count if given[0] < 0 else given[0]


def kind_of(item: Item | None) -> str:
    """What an item is, in words."""
    if isinstance(item, Listed):
        return f"a sequence of {plural(len(item.values), 'tensor')}"
    return "missing" if item is None else "an empty optional" if isinstance(item, Absent) else "a tensor"


def tensors_of(item: Item) -> tuple[Value, ...]:
    """The tensors that an item holds."""
    return item.values if isinstance(item, Listed) else (item,) if isinstance(item, Value) else ()


def with_names(item: Item, renamed: Mapping[str, Value]) -> Item:
    """The item after values were renamed."""
    if isinstance(item, Listed):
        return Listed(tuple(renamed.get(v.name, v) for v in item.values))
    return renamed.get(item.name, item) if isinstance(item, Value) else item


def _at(c: Call) -> Item:
    values = c.sequence().values
    return _some(c, values)[c.place(1, len(values), len(values) - 1, 0)]


def _insert(c: Call) -> Item:
    values, new = c.sequence().values, c.tensor(1)
    at = c.place(2, len(values), len(values), len(values))
    return Listed((*values[:at], new, *values[at:]))


def _erase(c: Call) -> Item:
    values = c.sequence().values
    at = c.place(1, len(values), len(values) - 1, len(_some(c, values)) - 1)
    return Listed(values[:at] + values[at + 1 :])


def _some(c: Call, values: tuple[Value, ...]) -> tuple[Value, ...]:
    if not values:
        raise c.n.error("the sequence is empty")
    return values


def _length(c: Call) -> Item:
    return c.n.constant(np.array(len(c.sequence().values), np.int64), "length")


def _split(c: Call) -> Item:
    """SplitToSequence-11: pieces of the sizes that ``split`` lists, of one size, or of one element each."""
    n, x = c.n, c.tensor(0)
    axis = axis_of(n.attr("axis", 0), x.type.rank)
    size = x.type.sizes[axis]
    given = n.const(1, "split")
    if given is None:
        sizes = [1] * size
    elif given.ndim == 0:
        step = int(given)
        if step < 1:
            raise n.error(f"pieces of {step} elements: split must be at least 1")
        check("nodes", -(-size // step), f"{n.describe()}, its pieces counted,")
        sizes = [min(step, size - start) for start in range(0, size, step)]
    else:
        sizes = [int(s) for s in given.reshape(-1)]
        if min(sizes, default=0) < 0 or sum(sizes) != size:
            raise n.error(f"split {sizes} does not add up to {size}, the size of axis {axis}")
    check("nodes", len(sizes), f"{n.describe()}, its pieces counted,")
    pieces, start = [], 0
    for s in sizes:
        bounds = [n.constant(np.array([v], np.int64), "bound") for v in (start, start + s, axis)]
        piece = c.apply("Slice", [x, *bounds]) if s != size else x
        if given is None and not n.attr("keepdims", 1):
            piece = _reshaped(c, piece, (*x.type.sizes[:axis], *x.type.sizes[axis + 1 :]))
        pieces.append(piece)
        start += s
    return Listed(tuple(pieces))


def _join(c: Call) -> Item:
    """ConcatFromSequence-11: joined along an axis, or stacked along a new one."""
    n, values = c.n, _some(c, c.sequence().values)
    axis = n.attr("axis")
    if n.attr("new_axis", 0):
        axis = axis_of(axis, values[0].type.rank + 1)
        values = tuple(_reshaped(c, v, (*v.type.sizes[:axis], 1, *v.type.sizes[axis:])) for v in values)
    return c.apply("Concat", values, axis=axis) if len(values) > 1 else values[0]


def _reshaped(c: Call, x: Value, shape: Sequence[int]) -> Value:
    if not x.type.numel:  # a size of 0 copies the operand's size before opset 14
        return c.n.constant(np.zeros(shape, x.type.numpy_dtype))
    return c.apply("Reshape", [x, c.n.constant(np.array(shape, np.int64), "shape")])


def _map(c: Call) -> list[Item]:
    """SequenceMap-17: the body for each position; a tensor among the further inputs is the same for all."""
    n, first = c.n, c.sequence()
    graph = next((a.g for a in n.proto.attribute if a.name == "body"), onnx.GraphProto())
    if len(graph.input) != len(c.items):
        raise n.error(f"its body takes {plural(len(graph.input), 'value')}, and the node has {len(c.items)}")
    lengths = {len(item.values) for item in c.items if isinstance(item, Listed)}
    if len(lengths) > 1:
        raise n.error(f"its sequences differ in length: {sorted(lengths)}")
    made: list[list[Value]] = [[] for _ in graph.output]
    for i in range(len(first.values)):
        given = [item.values[i] if isinstance(item, Listed) else item for item in c.items]
        results = c.body(graph, {v.name: x for v, x in zip(graph.input, given, strict=True) if x is not None})
        for stack, value in zip(made, results, strict=True):
            if not isinstance(value, Value):
                raise n.unsupported("its body gives a sequence")
            stack.append(value)
    return [Listed(tuple(stack)) for stack in made]


def _optional(c: Call) -> Item:
    item = c.items[0] if c.items else None
    return Absent() if item is None else item


def _has_element(c: Call) -> Item:
    item = c.items[0] if c.items else None
    return c.n.constant(np.array(not isinstance(item, Absent | None)), "has_element")


def _element(c: Call) -> Item:
    item = c.items[0] if c.items else None
    if item is None or isinstance(item, Absent):
        raise c.n.error("the optional holds nothing")
    return item


def _construct(c: Call) -> Item:
    return Listed(tuple(c.tensor(i) for i in range(len(c.items))))


SEQUENCES: Mapping[str, Callable[[Call], Item | list[Item]]] = {
    "ConcatFromSequence": _join,
    "Optional": _optional,
    "OptionalGetElement": _element,
    "OptionalHasElement": _has_element,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": lambda _: Listed(),
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SequenceMap": _map,
    "SplitToSequence": _split,
}
"""The importer of each ONNX operator on sequences and optionals."""
