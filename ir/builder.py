"""Build graphs: types are inferred as nodes are added, and names are made unique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from .assumptions import Assumptions
from .counted import TRIM, axis_of_trim, is_trim
from .errors import GraphError, ShapeError, UnsupportedOpError, plural
from .graph import Constant, Graph, Node, Value
from .limits import check, check_type
from .op import REGISTRY, Op, from_outside
from .sizes import Size, at, names
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
        self.streams = 0
        """The number of nodes so far that draw random numbers (``ir/random.py``)."""
        self._sizes: dict[str, Size] = {}
        self._trims: dict[str, Node] = {}
        self._known: dict[str, Op] = {}
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
        """The op ``KnownSizes`` that makes a value, or ``None`` when something else does."""
        return self._known.get(value.name)

    def constant_of(self, value: Value) -> np.ndarray | None:
        """The array that a value holds, or ``None`` when the value is computed."""
        constant = self.constants.get(value.name)
        return constant.array if constant is not None and constant.has_data else None

    def is_trimmed(self, value: Value) -> bool:
        """Whether the number of elements in use of a value is known only when the model runs."""
        return value.name in self._trims

    def inputs_behind(self, value: Value) -> tuple[str, ...]:
        """The names of the inputs that a value depends on, in their order."""
        live = {value.name}
        for node in reversed(self.nodes):
            if any(v.name in live for v in node.outputs):
                live.update(v.name for v in node.inputs)
        return tuple(v.name for v in self.inputs if v.name in live)

    def emit(self, op: Op, *inputs: Value, names: Sequence[str] = ()) -> Any:
        """Add a node, and return its output, or a tuple of several outputs.

        ``names`` are hints for the output names. Results of a counted size are trimmed (see ``counted.py``). Raises
        ``ShapeError`` when the operands do not fit, ``UnsupportedOpError`` when the op cannot take a trimmed operand.
        """
        if any(v.name in self._trims for v in inputs):
            return _emit_behind(self, op, inputs, self._trims, names)
        with self.assumptions.noted(op.name):
            types = infer_types(op, inputs)
        hints = [*names, *[op.name] * (len(types) - len(names))]
        outputs = tuple(Value(self.fresh(hint), t) for hint, t in zip(hints, types, strict=True))
        self._add(Node(op, tuple(inputs), outputs))
        if op.counted is not None:
            outputs = tuple(
                _trimmed(self, v, outputs[1], op.counted, hints[i]) if i in op.counted_results else v
                for i, v in enumerate(outputs)
                if i != 1
            )
        return outputs[0] if len(outputs) == 1 else outputs

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
        if is_trim(node):
            self._trims[node.output.name] = node
        if node.op.name == KNOWN_SIZES:
            self._known[node.output.name] = node.op
        check("nodes", len(self.nodes), f"graph '{self.name}', at {node.output.name!r},")

    def cut(self, since: int) -> list[Node]:
        """Take back the nodes from index ``since`` on, and return them. Their names stay taken."""
        nodes = self.nodes[since:]
        for n in nodes:
            self._trims.pop(n.output.name, None)
        del self.nodes[since:]
        return nodes

    def rename(self, names: Mapping[str, str], since: int) -> dict[str, Value]:
        """Rename values that the nodes from index ``since`` on made, and return the new values by their old names."""
        renamed = {
            v.name: Value(names[v.name], v.type) for n in self.nodes[since:] for v in n.outputs if v.name in names
        }
        for i in range(since, len(self.nodes)):
            n = self.nodes[i]
            n = Node(
                n.op, tuple(renamed.get(v.name, v) for v in n.inputs), tuple(renamed.get(v.name, v) for v in n.outputs)
            )
            self.nodes[i] = n
            if is_trim(n):
                self._trims[n.output.name] = n
            if n.op.name == KNOWN_SIZES:
                self._known[n.output.name] = n.op
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


def _trimmed(b: Builder, whole: Value, count: Value, axis: int, name: str) -> Value:
    """Add the node that says how many elements of a value are in use along an axis."""
    made: Value = b.emit(REGISTRY[TRIM](axis), whole, count, names=[name])  # type: ignore[call-arg]
    return made


def _emit_behind(b: Builder, op: Op, inputs: Sequence[Value], trims: Mapping[str, Node], names: Sequence[str]) -> Any:
    """Add an op some of whose operands are trimmed: it computes on the whole operands, and its results are trimmed.

    Raises ``UnsupportedOpError`` when the results depend on elements that do not count.
    """
    found = [trims.get(v.name) for v in inputs]
    axes = tuple(None if t is None else axis_of_trim(t) for t in found)
    counts = {t.inputs[1].name: t.inputs[1] for t in found if t is not None}
    moved = op.counted_axes([v.type for v in inputs], axes) if len(counts) == 1 else None
    if moved is None:
        which = next(v for v, t in zip(inputs, found, strict=True) if t is not None)
        raise UnsupportedOpError(
            f"{op.name} of '{which.name}', whose size follows from data when the model runs, is not supported: let the "
            "model end "
            "there, and do the rest outside"
        )
    made = b.emit(op, *(v if t is None else t.inputs[0] for v, t in zip(inputs, found, strict=True)))
    whole = made if isinstance(made, tuple) else (made,)
    hints = [*names, *[op.name] * (len(whole) - len(names))]
    (count,) = counts.values()
    results = tuple(_trimmed(b, v, count, axis, hint) for v, axis, hint in zip(whole, moved, hints, strict=True))
    return results[0] if len(results) == 1 else results
