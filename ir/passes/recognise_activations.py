"""Replace activation functions that a model spells out in simpler ops by single ops, which take fewer instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..op import Op
from ..ops.activations import Gelu, HardSigmoid, HardSwish, Silu
from ..ops.binary import Add, Div, Mul, Pow
from ..ops.clip import Clip
from ..ops.transcendental import Erf, Sigmoid, Tanh
from ..rewrite import Match, Report, apply_rules


def recognise_activations(graph: Graph, report: Report | None = None) -> Graph:
    """Apply the rules until none fires. ``report`` records where each fired, and why it did not elsewhere."""
    return apply_rules(
        graph, (SiluOfSigmoid(), HardSwishOfHardSigmoid(), HardSwishOfClip(), GeluOfErf(), GeluOfTanh()), report
    )


class Activation:
    """A rule for a product that is an activation of one of its factors.

    ``find`` gives the op and that factor, or the reason why there is none.
    """

    gate: type[Op]
    """The op that gives the activation away: a product without it among the producers of its factors is passed over."""

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        if not isinstance(node.op, Mul | Div):
            return None
        gates = [n for n in _before(graph, node, DEPTH) if isinstance(n.op, self.gate)]
        why: str | None = None
        for gate in gates:
            found = self.find(graph, node, gate)
            if isinstance(found, Match):
                same = found.data[1].type == node.output.type
                return found if same else f"'{node.output.name}' is not of the type of '{found.data[1].name}'"
            why = found or why
        return why

    def find(self, graph: Graph, node: Node, gate: Node) -> Match | str | None:
        """A match whose data is ``(op, x)``, or the reason why the product of ``node`` is no activation."""
        raise NotImplementedError

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        op, x = match.data
        return [b.emit(op, env(x), names=[match.root.output.name])]


class SiluOfSigmoid(Activation):
    """``x * sigmoid(c * x) => silu{alpha=c}(x)``, where c may be left out as 1."""

    gate = Sigmoid

    def find(self, graph: Graph, node: Node, gate: Node) -> Match | str | None:
        x = _other_factor(graph, node, gate.output)
        if x is None:
            return None
        inner = Product.of(graph, gate.inputs[0], x)
        if inner.factors != (x,):
            return f"the sigmoid is not one of '{x.name}'"
        return Match(node, (gate, *inner.nodes), (Silu(inner.scale), x))


class HardSwishOfHardSigmoid(Activation):
    """``x * hard_sigmoid{alpha=1/6, beta=0.5}(x) => hard_swish(x)``."""

    gate = HardSigmoid

    def find(self, graph: Graph, node: Node, gate: Node) -> Match | str | None:
        x = _other_factor(graph, node, gate.output)
        if x is None or gate.inputs != (x,):
            return None
        assert isinstance(gate.op, HardSigmoid)
        if not (math.isclose(gate.op.alpha, 1 / 6, rel_tol=1e-6) and gate.op.beta == 0.5):
            return f"the slope is {gate.op.alpha}, and {gate.op.beta} at zero"
        return Match(node, (gate,), (HardSwish(), x))


class HardSwishOfClip(Activation):
    """``x * clip{low=0, high=6}(x + 3) / 6 => hard_swish(x)``, in any order."""

    gate = Clip

    def find(self, graph: Graph, node: Node, gate: Node) -> Match | str | None:
        shift = _plus_constant(graph, gate.inputs[0])
        if shift is None:
            return None
        x, three, add = shift
        whole = Product.of(graph, node.output, x, gate.output)
        if sorted(v.name for v in whole.factors) != sorted((x.name, gate.output.name)):
            return None
        assert isinstance(gate.op, Clip)
        if (gate.op.low, gate.op.high, three) != (0, 6, 3) or not _close(whole.scale, 1 / 6, x):
            return f"the product is {whole.scale} x within {gate.op.low} and {gate.op.high} of x + {three}"
        return Match(node, (add, gate, *whole.nodes_but(node)), (HardSwish(), x))


class GeluOfErf(Activation):
    """``0.5 * x * (1 + erf(x / sqrt(2))) => gelu(x)``, in any order."""

    gate = Erf

    def find(self, graph: Graph, node: Node, gate: Node) -> Match | str | None:
        inner = Product.of(graph, gate.inputs[0], depth=1)
        return _gelu(graph, node, gate, inner, math.sqrt(0.5), Gelu())


class GeluOfTanh(Activation):
    """``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) => gelu{approximate="tanh"}(x)``, in any order."""

    gate = Tanh

    def find(self, graph: Graph, node: Node, gate: Node) -> Match | str | None:
        outer = Product.of(graph, gate.inputs[0], depth=1)
        add = graph.producers.get(outer.factors[0].name) if len(outer.factors) == 1 else None
        if add is None or not isinstance(add.op, Add):
            return None
        for x, other in (add.inputs, add.inputs[::-1]):
            cube = Product.of(graph, other, x)
            if cube.factors == (x, x, x) and _close(cube.scale, 0.044715, x):
                inner = Product(outer.scale, (x,), (*outer.nodes, add, *cube.nodes))
                return _gelu(graph, node, gate, inner, math.sqrt(2 / math.pi), Gelu("tanh"))
        return "its argument is not x + 0.044715 x**3"


def _gelu(graph: Graph, node: Node, gate: Node, inner: Product, slope: float, op: Gelu) -> Match | str | None:
    """Match ``0.5 * x * (1 + gate)``, where ``inner``, the argument of the gate, is ``slope`` times a value derived
    from x.
    """
    readers = graph.consumers[gate.output.name]
    shift = _plus_constant(graph, readers[0].output) if len(readers) == 1 else None
    if shift is None or len(inner.factors) != 1:
        return None
    _, one, add = shift
    (x,) = inner.factors
    whole = Product.of(graph, node.output, x, add.output)
    if sorted(v.name for v in whole.factors) != sorted((x.name, add.output.name)):
        return None
    if one != 1 or not _close(whole.scale, 0.5, x) or not _close(inner.scale, slope, x):
        return f"the product is {whole.scale} x ({one} + {gate.op.name}({inner.scale} x))"
    return Match(node, (gate, add, *inner.nodes, *whole.nodes_but(node)), (op, x))


# -- reading expressions -----------------------------------------------------------------------------------------------

TOLERANCES = {"f16": 2**-8, "bf16": 2**-5}
"""The relative error allowed in a constant, by dtype: four units in the last place."""
DEPTH = 4
"""The most ops between the last op of a product and the op that gives the activation away."""


@dataclass(frozen=True)
class Product:
    """A product: ``scale`` times the factors, as computed by ``nodes``."""

    scale: float
    factors: tuple[Value, ...]
    nodes: tuple[Node, ...] = ()

    @staticmethod
    def of(graph: Graph, value: Value, *atoms: Value, depth: int = DEPTH) -> Product:
        """A value as a product. Factors among ``atoms``, and those that lie deeper, are not taken apart."""
        node = graph.producers.get(value.name)
        number = _number(graph, value)
        if number is not None:
            return Product(number, ())
        if node is None or value in atoms or depth == 0:
            return Product(1.0, (value,))

        def part(v: Value) -> Product:
            return Product.of(graph, v, *atoms, depth=depth - 1)

        if isinstance(node.op, Mul):
            a, b = map(part, node.inputs)
            return Product(a.scale * b.scale, a.factors + b.factors, (*a.nodes, *b.nodes, node))
        c = _number(graph, node.inputs[-1])
        if isinstance(node.op, Div) and c:
            a = part(node.inputs[0])
            return Product(a.scale / c, a.factors, (*a.nodes, node))
        if isinstance(node.op, Pow) and c in (2, 3):
            a = part(node.inputs[0])
            return Product(a.scale**c, a.factors * int(c), (*a.nodes, node))
        return Product(1.0, (value,))

    def nodes_but(self, root: Node) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if n is not root)


def _number(graph: Graph, value: Value) -> float | None:
    """The one element of a constant that has one; ``None`` for others."""
    array = graph.constant_of(value) if value.type.is_single else None
    return None if array is None or not value.type.is_float else float(array.reshape(-1)[0])


def _plus_constant(graph: Graph, value: Value) -> tuple[Value, float, Node] | None:
    """The two terms of a value that is the sum of a value and a number, and the node that adds them."""
    node = graph.producers.get(value.name)
    if node is None or not isinstance(node.op, Add):
        return None
    for a, b in (node.inputs, node.inputs[::-1]):
        number = _number(graph, b)
        if number is not None:
            return a, number, node
    return None


def _other_factor(graph: Graph, node: Node, factor: Value) -> Value | None:
    """The operand that ``node`` multiplies ``factor`` by."""
    if not isinstance(node.op, Mul) or factor not in node.inputs:
        return None
    return node.inputs[0] if node.inputs[1] == factor else node.inputs[1]


def _close(a: float, b: float, x: Value) -> bool:
    """Whether two numbers are equal within the precision of the dtype of x."""
    return math.isclose(a, b, rel_tol=TOLERANCES.get(x.type.dtype, 2**-21))


def _before(graph: Graph, node: Node, depth: int) -> list[Node]:
    """The elementwise nodes that lead to ``node`` in at most ``depth`` steps."""
    made = [p for v in node.inputs if (p := graph.producers.get(v.name)) and p.op.elementwise]
    return [n for p in made for n in ([p] if depth == 1 else [p, *_before(graph, p, depth - 1)])]
