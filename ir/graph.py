"""The records that a graph consists of: ``Value``, ``Node``, ``Constant``, ``Graph``.

They are immutable: a pass makes a new graph.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar

import networkx as nx
import numpy as np

from .assumptions import Assumption
from .errors import GraphError, plural
from .limits import check_made
from .op import Op
from .sizes import Named, names
from .types import TensorType, type_of


@dataclass(frozen=True)
class Value:
    """One tensor in a graph: a name, unique in its graph, and a type."""

    name: str
    type: TensorType

    def __str__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True)
class Node:
    """One application of an op. Its attributes are the fields of ``op``."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def output(self) -> Value:
        """The first output; most ops have one."""
        return self.outputs[0]

    @property
    def is_static(self) -> bool:
        """Whether the sizes of its results, and those among its attributes, are all known."""
        return all(v.type.is_static for v in self.outputs) and not any(self.op.named_sizes())

    @cached_property
    def flops(self) -> int:
        """The number of floating-point operations, at typical values of open sizes."""
        sizes = [n for v in (*self.inputs, *self.outputs) for d in v.type.shape for n in names(d)]
        sizes += self.op.named_sizes()
        op = self.op.at({n.name: n.typical for n in sizes}) if sizes else self.op
        return op.flops([v.type.at_typical() for v in self.inputs], [v.type.at_typical() for v in self.outputs])

    def describe(self) -> str:
        """The node's op, output and operands, as errors name it."""
        operands = ", ".join(str(v) for v in self.inputs)
        return f"{self.op.name} node '{self.output.name}' ({operands})"


@dataclass(frozen=True)
class Initializer:
    """How a parameter that was given no values gets some.

    ``uniform`` draws from [-amount, amount] with ``seed``; ``fill`` repeats ``amount``.
    """

    KINDS: ClassVar[tuple[str, ...]] = ("uniform", "fill")
    kind: str
    amount: float = 0.0
    seed: int = 0

    def make(self, type: TensorType) -> np.ndarray:
        if self.kind == "uniform":
            values = np.random.default_rng(self.seed).uniform(-self.amount, self.amount, type.sizes)
            return values.astype(type.numpy_dtype)
        if self.kind == "fill":
            return np.full(type.sizes, self.amount, type.numpy_dtype)
        raise GraphError(f"unknown initializer {self.kind!r}")

    def __str__(self) -> str:
        return f"{self.kind}({self.amount!r}, {self.seed})"


GLANCED = 64
"""How many elements ``Constant.glance`` looks at."""


class Constant:
    """A tensor known at compile time, compared by content. Its data may be lazy, made on first use, or absent.

    The data is absent when a graph was parsed from text without it: shapes can then be studied, values cannot. Such a
    constant equals another one without data of the same type and ``sha``, and none that has data.
    """

    def __init__(self, type: TensorType, data: np.ndarray | Initializer | None, sha: str | None = None) -> None:
        self.type = type
        self._data = data
        if isinstance(data, np.ndarray):
            if type_of(data) != type.with_layout(None):
                raise GraphError(f"constant of type {type} given data of type {type_of(data)}")
            if data.flags.writeable:  # a constant must not change under the graph that holds it
                data.flags.writeable = False
        self._sha = sha

    @staticmethod
    def of(array: np.ndarray) -> Constant:
        """A constant holding this array, which becomes read-only when it is already contiguous."""
        return Constant(type_of(array), np.ascontiguousarray(array).reshape(array.shape))

    @property
    def initializer(self) -> Initializer | None:
        return self._data if isinstance(self._data, Initializer) else None

    @property
    def has_data(self) -> bool:
        return self._data is not None

    @cached_property
    def array(self) -> np.ndarray:
        """The values.

        Raises ``GraphError`` when they are absent, ``LimitError`` when they would be too many to make.
        """
        if self._data is None:
            raise GraphError(
                f"the values of constant sha={self._sha} ({self.type}) are absent: this graph was read from text "
                "without its data"
            )
        if isinstance(self._data, Initializer):
            check_made(self.type, f"a constant {self._data}")
            return self._data.make(self.type)
        return self._data

    @cached_property
    def sha(self) -> str:
        """The first twelve digits of ``digest``, by which a graph's text names the constant."""
        return self.digest[:12] if self._sha is None else self._sha

    @cached_property
    def digest(self) -> str:
        """SHA-256 over type and content, in hexadecimal digits."""
        if isinstance(self._data, Initializer):
            return hashlib.sha256(f"{self.type} {self._data}".encode()).hexdigest()
        digest = hashlib.sha256(str(self.type).encode())
        digest.update(self.array.reshape(-1).view(np.uint8).data if self.array.size else b"")
        return digest.hexdigest()

    @cached_property
    def glance(self) -> Hashable:
        """What equal constants have in common and others rarely do. It is known sooner than ``digest``."""
        if not isinstance(self._data, np.ndarray):
            return self._identity
        elements = self._data.reshape(-1)
        return self.type, elements[:: 1 + elements.size // GLANCED].tobytes()

    @property
    def _identity(self) -> tuple[TensorType, bool, str]:
        """The type and the whole digest; of a constant without data, the ``sha`` that stands for it."""
        return self.type, self.has_data, self.digest if self.has_data else self.sha

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"Constant({self.type}, sha={self.sha})"


@dataclass(frozen=True)
class Graph:
    """A model: inputs, nodes in topological order, outputs, and the constants by value name.

    ``output_names`` are the names under which the caller knows the outputs. A value may be returned twice, and an
    output may be an input.

    ``assumptions`` are what inference took for granted of the graph's open sizes, each with what it was assumed for.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    constants: Mapping[str, Constant] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    assumptions: Mapping[Assumption, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "assumptions", MappingProxyType(dict(self.assumptions)))
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        if not self.output_names:
            object.__setattr__(self, "output_names", tuple(v.name for v in self.outputs))

    def __hash__(self) -> int:
        return hash((self.name, self.inputs, self.nodes, self.outputs))

    def __repr__(self) -> str:
        """A line, since a graph may have thousands of nodes; ``print_graph`` (``ir/text.py``) writes them all."""
        inputs = ", ".join(map(str, self.inputs))
        outputs = ", ".join(f"{name}: {v.type}" for name, v in zip(self.output_names, self.outputs, strict=False))
        counts = f"{plural(len(self.nodes), 'node')}, {plural(len(self.constants), 'constant')}"
        return f"<Graph {self.name} ({inputs}) -> ({outputs}), {counts}>"

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value, by value name; inputs and constants have none."""
        return {v.name: n for n in self.nodes for v in n.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, by value name; each node is listed once."""
        found: dict[str, list[Node]] = defaultdict(list)
        for n in self.nodes:
            for name in dict.fromkeys(v.name for v in n.inputs):
                found[name].append(n)
        return defaultdict(tuple, {k: tuple(v) for k, v in found.items()})

    @cached_property
    def output_set(self) -> frozenset[str]:
        """The names of the values that the graph returns."""
        return frozenset(v.name for v in self.outputs)

    @cached_property
    def named_sizes(self) -> Mapping[str, Named]:
        """What is known of each named size, by its name: first those of inputs, and then those that data decides,
        in the bodies of loops too.
        """
        found: dict[str, Named] = {}
        for v in self.inputs:
            for d in v.type.shape:
                for n in names(d):
                    found.setdefault(n.name, n)
        for node in self.nodes:
            for size in node.op.defines():
                for n in names(size):
                    found.setdefault(n.name, n)
            if node.op.between_segments:
                for body in node.op.bodies():
                    found |= {name: n for name, n in body.named_sizes.items() if name not in found}
        return MappingProxyType(found)

    @cached_property
    def at_load(self) -> frozenset[str]:
        """The names of the values that depend on constants only and are not returned: they are computed once, when the
        model is loaded. No open size is known then.
        """
        known = set(self.constants)
        for n in self.nodes:
            returned = any(v.name in self.output_set for v in n.outputs)
            if all(v.name in known for v in n.inputs) and not returned and n.is_static:
                known.update(v.name for v in n.outputs)
        return frozenset(known - set(self.constants))

    def values(self) -> list[Value]:
        """All inputs, constants and node outputs, each of them once."""
        constants = [Value(name, c.type) for name, c in self.constants.items()]
        return [*self.inputs, *constants, *(v for n in self.nodes for v in n.outputs)]

    def all_constants(self) -> list[Constant]:
        """The constants of the graph and of the graphs among the attributes of its nodes."""
        inner = [c for n in self.nodes for body in n.op.bodies() for c in body.all_constants()]
        return [*self.constants.values(), *inner]

    def all_ops(self) -> Iterator[Op]:
        """The op of each node, and those of the graphs among its attributes, in order."""
        for node in self.nodes:
            yield node.op
            for body in node.op.bodies():
                yield from body.all_ops()

    def constant_of(self, value: Value) -> np.ndarray | None:
        """The array behind a value, or ``None`` when it is computed or its data is absent."""
        constant = self.constants.get(value.name)
        return constant.array if constant is not None and constant.has_data else None

    def as_networkx(self) -> nx.MultiDiGraph:
        """The graph for networkx: its vertices are indices into ``nodes``, and each edge carries a value under
        ``value``.
        """
        g = nx.MultiDiGraph()
        index = {v.name: i for i, n in enumerate(self.nodes) for v in n.outputs}
        g.add_nodes_from(range(len(self.nodes)))
        g.add_edges_from(
            (index[v.name], i, {"value": v}) for i, n in enumerate(self.nodes) for v in n.inputs if v.name in index
        )
        return g


def sort_topologically(
    items: Sequence[object],
    reads: Callable[[int], Sequence[str]],
    writes: Callable[[int], Sequence[str]],
    what: Callable[[int], str],
) -> list[int]:
    """The indices of ``items`` in an order in which each item comes after those whose results it reads.

    The given order is kept where possible.

    Raises ``GraphError`` naming the items on a cycle, or a value written twice.
    """
    writer: dict[str, int] = {}
    for i in range(len(items)):
        for name in writes(i):
            if name in writer:
                raise GraphError(f"value '{name}' is written by both {what(writer[name])} and {what(i)}")
            writer[name] = i
    g = nx.DiGraph()
    g.add_nodes_from(range(len(items)))
    g.add_edges_from((writer[name], i) for i in range(len(items)) for name in reads(i) if name in writer)
    try:
        return list(nx.lexicographical_topological_sort(g))
    except nx.NetworkXUnfeasible:
        cycle = nx.find_cycle(g)
        raise GraphError(
            "the graph has a cycle: " + " -> ".join(what(a) for a, _ in cycle) + f" -> {what(cycle[0][0])}"
        ) from None
