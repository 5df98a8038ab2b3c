"""Build graphs: types are inferred as nodes are added, and names are made unique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import numpy as np

from .assumptions import Assumptions
from .data_sizes import TRIM, TYPICAL, defined
from .errors import GraphError, ShapeError, UnsupportedOpError, plural
from .graph import Constant, Graph, Node, Value
from .limits import check, check_type
from .op import READ, REGISTRY, Op, from_outside
from .sizes import MOST, Dim, Named, Size, Sizes, at, bounds, names, product
from .types import TensorType

KNOWN_SIZES = "known_sizes"
"""The name of the op ``KnownSizes``, whose class cannot be imported here because it depends on this module."""


def infer_types(op: Op, inputs: Sequence[Value]) -> tuple[TensorType, ...]:
    """The output types of an op on these inputs.

    Raises ``ShapeError``, naming the op and its operands, when they do not fit.
    """
    if not op.name:
        raise UnsupportedOpError(f"class {type(op).__qualname__} has no name: an op needs a class attribute 'name'")
    check("operands", len(inputs), f"a node {op.name}")
    try:
        hash(op)  # raises TypeError where a file gives an attribute as a graph or a sparse tensor
        types = op.infer(*(v.type for v in inputs))
    except ShapeError as e:
        raise ShapeError(f"{op.name}({', '.join(str(v) for v in inputs)}): {e}") from None
    except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError) as e:
        raise ShapeError(f"{op.name}({', '.join(str(v) for v in inputs)}): {_misfit(op, len(inputs), e)}") from e
    types = types if isinstance(types, tuple) else (types,)
    if not types or not all(isinstance(t, TensorType) for t in types):
        raise ShapeError(
            f"infer of op {op.name} (class {type(op).__qualname__}) must return a TensorType, or a tuple of them for "
            f"several results, not {_brief(types if len(types) != 1 else types[0])}"
        )
    check("operands", len(types), f"a node {op.name}")
    for t in types:
        check_type(t, f"the result of {op.name}")
    return types


def _misfit(op: Op, operands: int, error: Exception) -> str:
    """What is wrong with the operands of an op on whose types ``infer`` failed by an error of Python."""
    counts = {len(case.inputs) for case in type(op).cases()}
    if isinstance(error, ValueError) and counts and not min(counts) <= operands <= max(counts):
        least, most = min(counts), max(counts)
        takes = plural(least, "operand") if least == most else f"{least} to {most} operands"
        return f"takes {takes}, not {operands}"
    attributes = ", ".join(f"{f.name}={_brief(getattr(op, f.name))}" for f in fields(op)) or "none"
    if from_outside(type(op)):
        raised = f"{type(error).__name__}: {error}"
        mistake = "which must be hashable, as tuples are" if "unhashable" in str(error) else "or infer has a mistake"
        return f"its operands do not fit its attributes ({attributes}), {mistake} ({raised})"
    return f"its operands and attributes ({attributes}) do not fit each other"


def _brief(value: object) -> str:
    return str(value)[:80]


class Builder:
    """Collects the inputs, constants and nodes of a graph; ``finish`` makes the immutable graph."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.assumptions = Assumptions()
        """What was assumed of open sizes while types were inferred."""
        self.reads_inputs = False
        """Whether the integers in small inputs are read as sizes. Otherwise a model is compiled for their values."""
        self.streams = 0
        """The number of nodes so far that draw random numbers (``ir/random.py``)."""
        self.data_sizes: set[str] = set()
        """The names of the sizes that data decides."""
        self._sizes: dict[str, Size] = {}
        self._known: dict[str, Op] = {}
        self._counted: dict[tuple[Op, tuple[Value, ...]], Any] = {}
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    @classmethod
    def of(cls, graph: Graph) -> Builder:
        """A builder for a graph in place of this one, with its name, inputs and constants, but no nodes yet.

        Names of the graph's values are not handed out for others.
        """
        b = cls(graph.name)
        b.reserve([v.name for v in graph.values()])
        b.inputs, b.constants = list(graph.inputs), dict(graph.constants)
        b._sizes = {name: Size.of(n) for name, n in graph.named_sizes.items()}
        b.assumptions = Assumptions(graph.assumptions)
        return b

    def fresh(self, hint: str) -> str:
        """A name that no value has yet: the hint itself when it is free, else the hint with a number."""
        hint = hint or "v"
        name = hint
        while name in self._taken:
            self._next[hint] = self._next.get(hint, 0) + 1
            name = f"{hint}_{self._next[hint]}"
        self._taken.add(name)
        return name

    def reserve(self, names: Sequence[str]) -> None:
        """Keep these names from being handed out by ``fresh``."""
        self._taken.update(names)

    def input(self, name: str, type: TensorType) -> Value:
        """Add a graph input; raises ``GraphError`` when the name is taken.

        A named size of an input before is the same size here, whatever else is said of it.
        """
        if name in self._taken:
            raise GraphError(f"two values are called '{name}'")
        for d in type.shape:
            for size in names(d):
                self._sizes.setdefault(size.name, Size.of(size))
        type = type.with_shape([at(d, self._sizes) for d in type.shape]) if self._sizes else type
        check_type(type, f"input '{name}'")
        value = Value(self.fresh(name), type)
        self.inputs.append(value)
        return value

    def constant(self, data: np.ndarray | Constant, hint: str = "const") -> Value:
        """Add a constant."""
        constant = data if isinstance(data, Constant) else Constant.of(np.asarray(data))
        name = self.fresh(hint)
        check_type(constant.type, f"constant '{name}'")
        self.constants[name] = constant
        return Value(name, constant.type)

    def known_sizes(self, value: Value) -> Any:
        """The op ``KnownSizes`` that makes a value, or one that would make what was read from it as sizes; ``None`` for
        any other value.
        """
        return self._known.get(value.name)

    def read_sizes(self, value: Value, most: Dim = MOST) -> Sizes:
        """The integers in a tensor, in row-major order, as sizes that data decides, each of them at most ``most``.

        Two reads of one value give the same sizes. Raises ``ShapeError`` when the number of integers is open.
        """
        if value.name not in self._known:
            wide = value if value.type.dtype == "i64" else self.emit(REGISTRY["cast"]("i64"), value)  # type: ignore[call-arg]
            sizes = tuple(self._size(bounds(most)[1]) for _ in range(product(value.type.sizes)))
            self.emit(REGISTRY[READ](sizes), wide, names=[f"{value.name}.sizes"])  # type: ignore[call-arg]
            self._known[value.name] = REGISTRY[KNOWN_SIZES](sizes, value.type.shape, (), value.type.dtype)  # type: ignore[call-arg]
        return self._known[value.name].values  # type: ignore[attr-defined, no-any-return]

    def settled(self) -> AbstractContextManager[None]:
        """A block in which nothing is assumed: a question that what is known does not decide raises ``ShapeError``."""
        return self.assumptions.closed()

    def new_size(self) -> Size:
        """A size that data decides, which the caller's next node defines."""
        size = self._size(MOST)
        self.data_sizes.add(str(size))
        return size

    def _size(self, most: int) -> Size:
        """A named size with a name of its own, at most ``most``."""
        most = max(0, min(most, MOST))
        name = next(name for i in range(len(self._sizes) + 1) if (name := f"u{i}") not in self._sizes)
        self._sizes[name] = Size.of(Named(name, 0, most, min(most, TYPICAL)))
        return self._sizes[name]

    def constant_of(self, value: Value) -> np.ndarray | None:
        """The array that a value holds, or ``None`` when the value is computed."""
        constant = self.constants.get(value.name)
        return constant.array if constant is not None and constant.has_data else None

    def inputs_behind(self, value: Value) -> tuple[str, ...]:
        """The names of the inputs that a value depends on, in their order."""
        live = {value.name}
        for node in reversed(self.nodes):
            if any(v.name in live for v in node.outputs):
                live.update(v.name for v in node.inputs)
        return tuple(v.name for v in self.inputs if v.name in live)

    def emit(self, op: Op, *inputs: Value, names: Sequence[str] = ()) -> Any:
        """Add a node, and return its output, or a tuple of several outputs.

        ``names`` are hints for the output names. Results of a counted size are trimmed (see ``data_sizes.py``), and
        their number is not returned. Raises ``ShapeError`` when the operands do not fit.
        """
        if op.counted is not None and (before := self._counted.get((op, inputs))) is not None:
            return before  # so that one number is one size
        with self.assumptions.noted(op.name):
            types = infer_types(op, inputs)
        hints = [*names, *[op.name] * (len(types) - len(names))]
        outputs = tuple(Value(self.fresh(hint), t) for hint, t in zip(hints, types, strict=True))
        self._add(Node(op, tuple(inputs), outputs))
        if op.counted is not None:
            most = outputs[0].type.shape[op.counted]
            (size,) = self.read_sizes(outputs[1], most) if bounds(most)[1] else (0,)
            trim: Op = REGISTRY[TRIM](op.counted, size)  # type: ignore[call-arg]
            outputs = tuple(
                self.emit(trim, v, names=[hints[i]]) if i in op.counted_results else v
                for i, v in enumerate(outputs)
                if i != 1
            )
        made = outputs[0] if len(outputs) == 1 else outputs
        if op.counted is not None:
            self._counted[op, inputs] = made
        return made

    def reinfer(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Add a node again on other inputs: its output types are derived anew, and its output names are kept.

        Raises ``GraphError`` when the node and its op differ in the number of outputs.
        """
        with self.assumptions.noted(f"{node.op.name} node '{node.output.name}'"):
            types = infer_types(node.op, inputs)
        if len(types) != len(node.outputs):
            raise GraphError(f"{node.describe()} gives {plural(len(types), 'value')}, not {len(node.outputs)}")
        outputs = tuple(Value(v.name, t) for v, t in zip(node.outputs, types, strict=True))
        self._add(Node(node.op, tuple(inputs), outputs))
        return outputs

    def again(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Add a node of a sound graph again: the node itself when its inputs are the same, else on its new inputs."""
        if tuple(inputs) != node.inputs:
            return self.reinfer(node, inputs)
        self._add(node)
        return node.outputs

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        for n in defined(node):
            self._sizes.setdefault(n.name, Size.of(n))
            self.data_sizes.add(n.name)
        if node.op.name == KNOWN_SIZES:
            self._known[node.output.name] = node.op
        check("nodes", len(self.nodes), f"graph '{self.name}', at {node.output.name!r},")

    def cut(self, since: int) -> list[Node]:
        """Take back the nodes from index ``since`` on, and return them. Their names stay taken."""
        nodes = self.nodes[since:]
        for read in (n for n in nodes if n.op.name == READ):
            for v in read.inputs:
                self._known.pop(v.name, None)
        del self.nodes[since:]
        self._counted.clear()
        return nodes

    def rename(self, names: Mapping[str, str], since: int) -> dict[str, Value]:
        """Rename values that the nodes from index ``since`` on made, and return the new values by their old names."""
        self._counted.clear() if names else None
        renamed = {
            v.name: Value(names[v.name], v.type) for n in self.nodes[since:] for v in n.outputs if v.name in names
        }
        for i in range(since, len(self.nodes)):
            n = self.nodes[i]
            n = Node(
                n.op, tuple(renamed.get(v.name, v) for v in n.inputs), tuple(renamed.get(v.name, v) for v in n.outputs)
            )
            self.nodes[i] = n
            if n.op.name == KNOWN_SIZES:
                self._known[n.output.name] = n.op
        for old, new in renamed.items():
            if old in self._known:
                self._known[new.name] = self._known[old]
        return renamed

    def finish(self, outputs: Sequence[Value], output_names: Sequence[str] = ()) -> Graph:
        """The graph that returns ``outputs``. Constants that nothing reads are left out."""
        read = {v.name for n in self.nodes for v in n.inputs} | {v.name for v in outputs}
        constants = {name: c for name, c in self.constants.items() if name in read}
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.nodes),
            tuple(outputs),
            constants,
            tuple(output_names),
            self.assumptions.made,
        )
