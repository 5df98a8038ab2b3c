"""What passes do with loops: every pass works on the bodies too, constants move in before and out after the others, and
loops of few steps are spelt out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import index

from ..builder import Builder
from ..errors import ConvcError
from ..graph import Graph, Node, Value
from ..ops.concat import Concat
from ..ops.loop import Loop
from ..ops.reshape import Reshape
from ..ops.slice import Slice
from ..rewrite import drop_dead, rebuild


def with_bodies(run: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """The result of a pass on a graph and, before, on the bodies of its loops.

    A pass keeps the inputs, and the types of the outputs, of what it works on.
    """
    return run(_in_bodies(lambda body: with_bodies(run, body), graph))


def _in_bodies(change: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """The graph with the bodies of its loops changed. What is assumed of open sizes is kept by the graph around them,
    which has the sizes.
    """
    if not any(isinstance(n.op, Loop) for n in graph.nodes):
        return graph
    assumed = dict(graph.assumptions)
    nodes = []
    for n in graph.nodes:
        if isinstance(n.op, Loop):
            body = change(replace(n.op.body, assumptions=assumed))
            assumed |= body.assumptions
            nodes.append(replace(n, op=replace(n.op, body=replace(body, assumptions={}))))
        else:
            nodes.append(n)
    return replace(graph, nodes=tuple(nodes), assumptions=assumed)


def unroll(graph: Graph, most: int | None) -> Graph:
    """The graph with loops of at most ``most`` steps, or all loops, replaced by the nodes of their steps.

    Raises ``LimitError`` when these are too many.
    """

    def is_short(node: Node) -> bool:
        return isinstance(node.op, Loop) and (
            most is None or (isinstance(node.op.steps, int) and node.op.steps <= most)
        )

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not is_short(node):
            return None
        assert isinstance(node.op, Loop)
        try:
            return _steps(b, node.op, inputs)
        except ConvcError as e:
            e.within(f"loop '{node.output.name}', whose steps become nodes one by one")
            raise

    while any(map(is_short, graph.nodes)):  # a body may hold loops
        graph = rebuild(graph, visit)
    return _in_bodies(lambda body: unroll(body, most), graph)


def _steps(b: Builder, op: Loop, inputs: Sequence[Value]) -> list[Value]:
    """Add the nodes of every step of a loop, and return its results."""
    state, scanned, captured = inputs[: op.states], inputs[op.states : op.captured], inputs[op.captured :]
    taken = [v.name for v in op.body.inputs]
    known = {name: b.constant(c, name) for name, c in op.body.constants.items()}
    stacks: list[list[Value]] = [[] for _ in op.stacks]
    for step in range(index(op.steps)):
        elements = []
        for x, backwards in zip(scanned, op.scans, strict=True):
            at = op.steps - 1 - step if backwards else step
            piece = b.emit(Slice((0,), (at,), (at + 1,)), x) if op.steps > 1 else x
            elements.append(b.emit(Reshape(x.type.shape[1:], True), piece))
        env = known | dict(zip(taken, [*state, *elements, *captured], strict=True))
        for n in op.body.nodes:
            made = b.emit(n.op, *(env[v.name] for v in n.inputs), names=[v.name for v in n.outputs])
            env |= zip((v.name for v in n.outputs), made if isinstance(made, tuple) else (made,), strict=True)
        results = [env[v.name] for v in op.body.outputs]
        state = results[: op.states]
        for stack, value in zip(stacks, results[op.states :], strict=True):
            stack.append(b.emit(Reshape((1, *value.type.shape), True), value))
    stacked = [s[::-1] if backwards else s for s, backwards in zip(stacks, op.stacks, strict=True)]
    return [*state, *(b.emit(Concat(0), *s) if len(s) > 1 else s[0] for s in stacked)]


def fill_bodies(graph: Graph) -> Graph:
    """``loop(%x, %c) { ... } -> loop(%x) { %c = const ... }``: the constants that a body captures move into it, and a
    value that it captures twice is captured once.
    """
    nodes = tuple(_filled(n, graph) if isinstance(n.op, Loop) else n for n in graph.nodes)
    return _in_bodies(fill_bodies, drop_dead(replace(graph, nodes=nodes)))


def _filled(node: Node, graph: Graph) -> Node:
    op = node.op
    assert isinstance(op, Loop)
    body, at = op.body, op.captured
    first: dict[str, Value] = {}
    swap: dict[str, Value] = {}
    constants = dict(body.constants)
    for outside, inside in zip(node.inputs[at:], body.inputs[at:], strict=True):
        if first.setdefault(outside.name, inside) is not inside:
            swap[inside.name] = first[outside.name]
        elif outside.name in graph.constants:
            constants[inside.name] = graph.constants[outside.name]
    kept = [
        (outside, inside)
        for outside, inside in zip(node.inputs[at:], body.inputs[at:], strict=True)
        if inside.name not in swap and inside.name not in constants
    ]
    inner = tuple(replace(n, inputs=tuple(swap.get(v.name, v) for v in n.inputs)) for n in body.nodes)
    outputs = tuple(swap.get(v.name, v) for v in body.outputs)
    inputs = (*body.inputs[:at], *(v for _, v in kept))
    filled = drop_dead(Graph(body.name, inputs, inner, outputs, constants, body.output_names))
    return replace(node, op=replace(op, body=filled), inputs=(*node.inputs[:at], *(v for v, _ in kept)))


def hoist(graph: Graph) -> Graph:
    """Nodes of a body that are the same in every step, and that do not follow from constants alone, move before the
    loop.
    """
    return rebuild(graph, lambda b, n, xs: _hoisted(b, n, xs, with_constants=False))


def empty_bodies(graph: Graph) -> Graph:
    """The constants of bodies, and all nodes that are the same in every step, move before the loops: they are then
    computed once, at load when they follow from constants.
    """
    return rebuild(graph, lambda b, n, xs: _hoisted(b, n, xs, with_constants=True))


def _hoisted(b: Builder, node: Node, inputs: tuple[Value, ...], with_constants: bool) -> Sequence[Value] | None:
    """Add a loop, and before it what its body need not do in every step."""
    if not isinstance(node.op, Loop):
        return None
    body, at = node.op.body, node.op.captured
    outside = {v.name: x for v, x in zip(body.inputs[at:], inputs[at:], strict=True)}
    added: dict[str, Value] = {}
    inner: list[Node] = []

    def ready(n: Node) -> bool:
        """Whether a node of the body can run before the loop, and should."""
        known = all(v.name in outside or v.name in body.constants for v in n.inputs)
        if not known or any(v.name in body.output_set for v in n.outputs):
            return False
        return with_constants or any(v.name in outside for v in n.inputs)

    def found(v: Value) -> Value:
        """What a value of the body is outside: a captured value, the result of a moved node, or a constant."""
        if v.name not in outside and v.name not in added:
            added[v.name] = b.constant(body.constants[v.name], v.name)
        return outside[v.name] if v.name in outside else added[v.name]

    for n in body.nodes:
        if not ready(n):
            inner.append(n)
            continue
        made = b.emit(n.op, *map(found, n.inputs), names=[v.name for v in n.outputs])
        outside |= zip((v.name for v in n.outputs), made if isinstance(made, tuple) else (made,), strict=True)
    read = {v.name: v for n in inner for v in n.inputs} | {v.name: v for v in body.outputs}
    stays = {v.name for v in body.inputs[:at]} | {v.name for n in inner for v in n.outputs}
    if not with_constants:
        stays |= set(body.constants)
    captured = [v for name, v in read.items() if name not in stays]
    operands = [*inputs[:at], *map(found, captured)]
    kept = {name: c for name, c in body.constants.items() if name in read and not with_constants}
    inputs_of_body = (*body.inputs[:at], *captured)
    made_body = Graph(body.name, inputs_of_body, tuple(inner), body.outputs, kept, body.output_names)
    return b.reinfer(replace(node, op=replace(node.op, body=made_body)), operands)
