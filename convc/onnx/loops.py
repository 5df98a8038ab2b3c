"""Import of Loop and Scan.

A loop becomes one ``loop`` op (``ir/ops/loop.py``), where its body can be imported once for all steps: where the
states keep their types, and no shape depends on a state or on the number of the step. Otherwise the nodes of every step
are imported one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any

import numpy as np
import onnx

from convc.ir.data_sizes import is_read
from convc.ir.errors import ConvcError, LimitError, ModelFileError, NotConstantError, plural
from convc.ir.graph import Graph, Node, Value
from convc.ir.limits import check, check_made
from convc.ir.onnx_io import ImportNode
from convc.ir.ops._axes import axis_of
from convc.ir.ops.cast import Cast
from convc.ir.ops.concat import Concat
from convc.ir.ops.known_sizes import Range
from convc.ir.ops.loop import Loop
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.slice import Slice
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.where import Where
from convc.ir.ops.while_loop import While
from convc.ir.rewrite import drop_dead
from convc.ir.sizes import MOST, Dim, Size, bounds, largest, least, names, same, typical
from convc.ir.types import TensorType

from .export import to_onnx

Body = Callable[[onnx.GraphProto, Mapping[str, Value]], list[Any]]
"""``body(graph, values)`` imports a subgraph of the node, and gives its outputs, which are values or sequences.

The subgraph sees these values and those around the node.
"""


def subgraph(n: ImportNode, name: str) -> onnx.GraphProto:
    """The graph that an attribute holds."""
    return next((a.g for a in n.proto.attribute if a.name == name), onnx.GraphProto())


@dataclass(frozen=True)
class _Steps:
    """What Loop and Scan have in common. The body gives a condition, where there is one, states and elements."""

    n: ImportNode
    body: Body
    graph: onnx.GraphProto
    names: Sequence[str]
    """The names of the body's inputs: the states, and then the elements."""
    state: Sequence[Value]
    """The initial states."""
    elements: Sequence[TensorType]
    """The types of the elements of what is scanned."""
    scanned: Callable[[Dim], Sequence[Value]]
    """Given the number of steps: the scanned tensors, with the steps along the first axis."""
    element: Callable[[int], Sequence[Value]]
    """Given the number of a step: its elements of the scanned tensors."""
    directions: tuple[int, ...]
    most: Dim | None
    """The most steps that are taken; ``None`` when only the condition says."""
    given: Mapping[str, Value]
    """Values that are the same in every step, by the name under which the body sees them."""
    has_condition: bool
    stacks: Sequence[tuple[int, int]]
    """The axis and the direction of each stacked result."""
    steps_of: Callable[[], Sequence[Value]] | None = None
    """Gives the largest number of steps and the condition for the first, where the runtime can run the steps."""

    def run(self, state: Sequence[Value], elements: Sequence[Value]) -> list[Any]:
        """Import the body once."""
        values = zip(self.names, [*state, *elements], strict=True)
        return self.body(self.graph, {**self.given, **dict(values)})


def loop(n: ImportNode, body: Body) -> list[Value]:
    """Import ``Loop``. The number of its steps must follow from constants and sizes."""
    graph = subgraph(n, "body")
    going = n.optional(1)
    if going is not None and n.builder.constant_of(going) is None and n.optional(0) is not None and n.is_data(going):
        trip = n.emit(Cast("i64"), n.emit(Reshape((1,)), n.input(0)))
        n.inputs[0] = n.emit(Where(), n.emit(Reshape((1,)), going), trip, n.constant(np.zeros(1, np.int64), "none"))
        n.inputs[1] = None
    trips, given = n.sizes(0, "trip count"), n.const(1, "condition")
    state = [n.input(i) for i in range(2, len(n.inputs))]
    if len(graph.input) != 2 + len(state) or len(graph.output) < 1 + len(state):
        raise n.error(
            f"its body must take {plural(2 + len(state), 'value')}, and give the condition and at least {len(state)}"
        )
    most = None if trips is None else largest(trips[0], 0)
    if given is not None and not given.reshape(-1)[0]:
        most = 0
    number, condition, *names = (i.name for i in graph.input)
    counter = TensorType("i64", _declared(graph.input[0]))

    def numbers(steps: Dim) -> list[Value]:
        if isinstance(steps, Size):
            return [n.emit(Reshape((steps, *counter.shape), True), n.emit(Range(steps)))]
        made = counter.with_shape((steps, *counter.shape))
        check_made(made, f"{n.describe()}: the numbers of its steps")
        return [n.constant(np.arange(steps, dtype=np.int64).reshape(made.sizes), "steps")]

    def number_of(step: int) -> list[Value]:
        return [n.constant(np.full(counter.sizes, step, np.int64), "step")]

    true = n.constant(np.full(_declared(graph.input[1]), True), "true")
    stacks = [(0, 0)] * (len(graph.output) - 1 - len(state))

    def steps_of() -> list[Value]:
        going = n.constant(np.array(given is None or bool(given.reshape(-1)[0])), "going")
        return [n.constant(np.array([MOST], np.int64), "most") if most is None else n.sizes_as_tensor([most]), going]

    return _imported(
        _Steps(
            n, body, graph, [*names, number], state, [counter], numbers, number_of, (0,), most, {condition: true},
            True, stacks, steps_of,
        )
    )  # fmt: skip


def scan(n: ImportNode, body: Body) -> list[Value]:
    """Import ``Scan``."""
    if n.opset < 9:
        raise n.unsupported("Scan before opset 9 is not supported; convert the model to a newer opset")
    graph, count = subgraph(n, "body"), n.attr("num_scan_inputs")
    values = [n.input(i) for i in range(len(n.inputs))]
    if not isinstance(count, int) or not 0 < count <= len(values) or len(graph.input) != len(values):
        raise n.error(
            f"num_scan_inputs is {count!r} for {plural(len(values), 'input')} and a body that takes {len(graph.input)}"
        )
    state, sequences = values[: len(values) - count], values[len(values) - count :]
    if len(graph.output) < len(state):
        raise n.error(f"its body must give at least {plural(len(state), 'value')}, the states")
    axes = [axis_of(axis, x.type.rank) for axis, x in zip(_each(n, "scan_input_axes", count), sequences, strict=True)]
    steps, *lengths = (x.type.shape[axis] for axis, x in zip(axes, sequences, strict=True))
    if not all(same(steps, length) for length in lengths):
        raise n.error(f"what it scans differs in length: {', '.join(map(str, (steps, *lengths)))}")
    backwards = _each(n, "scan_input_directions", count)
    stacked = len(graph.output) - len(state)
    places = [_each(n, name, stacked) for name in ("scan_output_axes", "scan_output_directions")]
    if not {*backwards, *places[1]} <= {0, 1}:
        raise n.error("a direction must be 0 or 1")

    def element(step: int) -> list[Value]:
        at = [index(steps) - 1 - step if reverse else step for reverse in backwards]
        return [_element(n, x, axis, i) for x, axis, i in zip(sequences, axes, at, strict=True)]

    return _imported(
        _Steps(
            n,
            body,
            graph,
            [i.name for i in graph.input],
            state,
            [x.type.with_shape(_without(x.type.shape, a)) for x, a in zip(sequences, axes, strict=True)],
            lambda _: [_moved(n, x, axis, 0) for x, axis in zip(sequences, axes, strict=True)],
            element,
            tuple(backwards),
            steps,
            {},
            False,
            list(zip(*places, strict=True)),
        )
    )


def _imported(steps: _Steps) -> list[Value]:
    """The loop as one op, where its body can be imported once for all steps and sizes are those of inputs; else the
    nodes of every step, where their number is known; else a loop that the runtime runs.
    """
    b = steps.n.builder
    since, streams, assumed = len(b.nodes), b.streams, dict(b.assumptions.made)
    reasons: list[ConvcError] = []
    for read in (_kept, lambda s: _unrolled(s, reasons[0]), _run_by_steps):
        try:
            return read(steps)
        except ModelFileError:
            raise
        except ConvcError as why:
            if isinstance(why, LimitError) and not reasons:
                raise
            b.cut(since)
            b.streams, b.assumptions.made = streams, dict(assumed)
            reasons.append(why)
            if isinstance(why, NotConstantError) and why.inputs:
                break  # the model can be compiled for each of their values
    raise reasons[min(1, len(reasons) - 1)]


def _run_by_steps(s: _Steps) -> list[Value]:
    """The loop as a node that runs its body as long as data says, on states whose sizes may change.

    The body is imported again for states of open sizes, as long as a step changes a size that was not open.
    """
    n, b, count = s.n, s.n.builder, len(s.state)
    if s.steps_of is None:
        raise n.unsupported("the number of its steps is not known")
    if not all(isinstance(v, Value) for v in s.state):
        raise n.unsupported("a state is a sequence")
    types = [v.type for v in s.state]
    inner: list[Dim] = []
    outside = dict(b.assumptions.made)
    for _ in range(sum(t.rank for t in types) + 1):
        since, streams = len(b.nodes), b.streams
        taken = [Value(b.fresh(name), t) for name, t in zip(s.names, [*types, *s.elements], strict=True)]
        made = s.run(taken[:count], taken[count:])
        if b.streams > streams or not all(isinstance(v, Value) for v in made):
            raise n.unsupported("its body draws random numbers, or makes sequences")
        nodes = b.cut(since)
        changed = [_changed(n, i, t, v.type, inner) for i, (t, v) in enumerate(zip(types, made[1:], strict=False))]
        if not any(changed):
            break
        b.assumptions.made = dict(outside)
        for i, axes in enumerate(changed):
            sizes = {a: b.new_size() for a in axes}
            inner += sizes.values()
            types[i] = types[i].with_shape([sizes.get(a, d) for a, d in enumerate(types[i].shape)])
    inputs, outputs = (taken[count], *taken[:count]), tuple(made)
    body = drop_dead(Graph("body", inputs, tuple(nodes), outputs))
    captured = _captured(body)
    constants = {v.name: b.constants[v.name] for v in captured if v.name in b.constants}
    captured = [v for v in captured if v.name not in constants]
    inside = {a: about for a, about in b.assumptions.made.items() if a not in outside}  # checked in each step
    b.assumptions.made = outside
    body = replace(body, inputs=(*inputs, *captured), constants=constants, assumptions=inside)
    op = While(body, count, tuple(inner), (*(b.new_size() for _ in inner), b.new_size()))
    whole = n.emit(op, *s.steps_of(), *s.state, *captured)
    return list(whole) if isinstance(whole, tuple) else [whole]


def _changed(n: ImportNode, i: int, before: TensorType, after: TensorType, inner: Sequence[Dim]) -> list[int]:
    """The axes of a state that a step changes in size, without those whose sizes are open already."""
    if (before.dtype, before.rank) != (after.dtype, after.rank):
        raise n.unsupported(f"state {i} is {before} before a step and {after} after it")
    pairs = enumerate(zip(before.shape, after.shape, strict=True))
    return [a for a, (d, e) in pairs if d != e and d not in inner]


def _kept(s: _Steps) -> list[Value]:
    """The loop as one op.

    Raises a ``ConvcError`` when its body cannot be imported once for all steps.
    """
    n, b, count = s.n, s.n.builder, len(s.state)
    same = _same(s)
    if not all(isinstance(v, Value) for v in s.state):
        raise n.unsupported("a state is a sequence")
    types = [*(v.type for v in s.state), *s.elements]
    taken = [Value(b.fresh(name), t) for name, t in zip(s.names, types, strict=True)]
    before = [initial if i in same else v for i, (initial, v) in enumerate(zip(s.state, taken, strict=False))]
    since, streams = len(b.nodes), b.streams
    made = s.run(before, taken[count:])
    if b.streams > streams:
        raise n.unsupported("its body draws random numbers, which differ from step to step")
    if not all(isinstance(v, Value) for v in made):
        raise n.unsupported("a state is a sequence")
    nodes = b.cut(since)
    if any(map(is_read, nodes)):
        raise n.unsupported("a size in its body follows from data when the model runs")
    condition, results = (made[0], made[1:]) if s.has_condition else (None, made)
    after, elements = results[:count], results[count:]
    for i, (v, w) in enumerate(zip(s.state, after, strict=True)):
        if v.type != w.type:
            raise n.unsupported(f"state {i} is {v.type} before a step and {w.type} after it")
    varying = [i for i in range(count) if i not in same and after[i] != taken[i]]
    passed_on = [i for i in range(count) if i not in same and after[i] == taken[i]]
    at = s.most if condition is None else _count(s, condition, nodes, before, after, taken[count])
    assert at is not None
    final = list(s.state)
    if isinstance(at, Size) and bounds(at)[0] < 1 and any(m.name in b.data_sizes for m in names(at)):
        raise n.unsupported("data decides whether it takes a step")
    if at == 0:
        return [*final, *(_nothing(n, v, axis) for v, (axis, _) in zip(elements, s.stacks, strict=True))]
    check("steps", typical(at), n.describe())
    if not varying and not elements:
        return final
    inputs = [*(taken[i] for i in varying), *taken[count:]]
    outputs = [*(after[i] for i in varying), *elements]
    body = drop_dead(Graph("body", (*inputs, *(taken[i] for i in passed_on)), tuple(nodes), tuple(outputs)))
    captured = _captured(body)
    body = replace(body, inputs=(*body.inputs, *captured))
    op = Loop(body, at, len(varying), s.directions, tuple(d for _, d in s.stacks))
    initial, same_in_each = ([s.state[i] for i in which] for which in (varying, passed_on))
    whole = n.emit(op, *initial, *s.scanned(at), *same_in_each, *captured)
    whole = whole if isinstance(whole, tuple) else (whole,)
    for i, v in zip(varying, whole, strict=False):
        final[i] = v
    return [*final, *(_moved(n, v, 0, axis) for v, (axis, _) in zip(whole[len(varying) :], s.stacks, strict=True))]


def _same(s: _Steps) -> set[int]:
    """The indices of the states that a step passes on as they are."""
    sources = {m.output[0]: m.input[0] for m in s.graph.node if m.op_type == "Identity" and m.input and m.output}
    found = set()
    for i in range(len(s.state)):
        name = s.graph.output[i + s.has_condition].name
        for _ in range(len(sources) + 1):
            name = sources.get(name, name)
        if name == s.names[i]:
            found.add(i)
    return found


def _captured(body: Graph) -> list[Value]:
    """The values that a body reads or returns, and neither takes nor makes."""
    inside = {v.name for v in body.values()}
    read = {v.name: v for n in body.nodes for v in n.inputs} | {v.name: v for v in body.outputs}
    return [v for name, v in read.items() if name not in inside]


def _count(
    s: _Steps, condition: Value, nodes: Sequence[Node], before: Sequence[Value], after: Sequence[Value], number: Value
) -> Dim:
    """The number of steps that a loop takes before its condition ends it.

    Where the condition is not constant, what it depends on is computed step by step. Raises ``UnsupportedOpError``
    when that is known only at run time.
    """
    n, b = s.n, s.n.builder
    known = b.constant_of(condition)
    if known is not None and not known.reshape(-1)[0]:
        return 1 if s.most is None else least(s.most, 1)
    if known is not None and s.most is None:
        raise n.error("it has no trip count, and its condition stays true, so that it never ends")
    if known is not None or s.most == 0:
        return 0 if s.most is None else s.most
    if isinstance(s.most, Size):
        raise n.unsupported("its condition changes from step to step, and the number of its steps is open")
    places = {v.name: i for i, v in enumerate(before)}
    wanted = [condition]
    while True:
        part = drop_dead(Graph("condition", (), tuple(nodes), tuple(wanted)))
        read = [v for v in _captured(part) if v.name != number.name and v.name not in b.constants]
        if unknown := [v for v in read if v.name not in places or b.constant_of(s.state[places[v.name]]) is None]:
            raise n.unsupported(
                "whether it goes on is computed at run time, so the number of its steps is not known (it depends on "
                f"'{unknown[0].name}')"
            )
        more = [after[places[v.name]] for v in read]
        if all(v in wanted for v in more):
            break
        wanted += [v for v in more if v not in wanted]
    held = [places[v.name] for v in read]
    constants = {name: b.constants[name] for name in (v.name for v in _captured(part)) if name in b.constants}
    outputs = (condition, *(after[i] for i in held))
    names = tuple(f"condition {i}" for i in range(len(outputs)))
    graph = Graph("condition", (number, *(before[i] for i in held)), part.nodes, outputs, constants, names)
    from onnx.reference import ReferenceEvaluator  # here, since loading it takes long

    evaluator = ReferenceEvaluator(to_onnx(graph))
    values: list[Any] = [b.constant_of(s.state[i]) for i in held]
    step = 0
    while s.most is None or step < s.most:
        check("nodes", (step + 1) * max(len(part.nodes), 1), f"{n.describe()}, its condition computed step by step,")
        feeds: dict[str, Any] = {number.name: np.full(number.type.sizes, step, np.int64)}
        feeds |= {before[i].name: v for i, v in zip(held, values, strict=True)}
        going, *values = evaluator.run(None, feeds)
        step += 1
        if not np.asarray(going).reshape(-1)[0]:
            break
    return step


def _unrolled(s: _Steps, why: ConvcError) -> list[Value]:
    """The nodes of every step, one after another."""
    n = s.n
    if isinstance(s.most, Size):
        raise why
    check("nodes", s.most or 0, f"{n.describe()}, its steps unrolled, since its body cannot be compiled once ({why}),")
    state, step, going = list(s.state), 0, True
    stacks: list[list[Value]] = [[] for _ in s.stacks]
    while going and (s.most is None or step < s.most):
        made = s.run(state, s.element(step))
        if s.has_condition:
            going, made = _known(n, made[0]), made[1:]
        state = made[: len(state)]
        for stack, value in zip(stacks, made[len(state) :], strict=True):
            stack.append(value)
        step += 1
    if not step and stacks:
        raise n.unsupported(f"it takes no step, and the size of what it stacks is not known ({why})")
    results = [
        _stacked(n, stack[::-1] if backwards else stack, axis)
        for stack, (axis, backwards) in zip(stacks, s.stacks, strict=True)
    ]
    return [*state, *results]


def _declared(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of a body's number of the step, or of its condition: ``[]``, or ``[1]`` where the body says so."""
    return (1,) * min(len(info.type.tensor_type.shape.dim), 1)


def _each(n: ImportNode, name: str, count: int) -> Sequence[int]:
    """The values of an attribute that has one number for each of ``count`` tensors; zeros when it is left out."""
    given: Any = n.attr(name) or (0,) * count
    if len(given) != count:
        raise n.error(f"attribute '{name}' has {plural(len(given), 'number')}, not {count}")
    return tuple(given)


def _known(n: ImportNode, condition: Value) -> bool:
    """The condition for another step. Raises ``UnsupportedOpError`` when it is computed at run time."""
    array = n.builder.constant_of(condition)
    if array is None:
        raise n.not_constant(
            "whether it goes on is computed at run time, so the number of its steps is not known", condition
        )
    return bool(array.reshape(-1)[0])


def _without(shape: Sequence[Any], axis: int) -> tuple[Any, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _element(n: ImportNode, x: Value, axis: int, at: int) -> Value:
    """The element at position ``at`` along an axis, without that axis."""
    shape = x.type.sizes
    piece = n.emit(Slice((axis,), (at,), (at + 1,)), x) if shape[axis] > 1 else x
    made: Value = n.emit(Reshape(_without(shape, axis), True), piece)
    return made


def _stacked(n: ImportNode, parts: Sequence[Value], axis: int) -> Value:
    """The parts stacked along a new axis."""
    if not all(isinstance(v, Value) for v in parts):
        raise n.error("what it stacks is a sequence")
    shape = parts[0].type.sizes
    axis = axis_of(axis, len(shape) + 1)
    apart = [n.emit(Reshape((*shape[:axis], 1, *shape[axis:]), True), p) for p in parts]
    made: Value = n.emit(Concat(axis), *apart) if len(apart) > 1 else apart[0]
    return made


def _moved(n: ImportNode, x: Value, source: int, to: int) -> Value:
    """The value with one axis moved."""
    order = [a for a in range(x.type.rank) if a != source]
    order.insert(axis_of(to, x.type.rank), source)
    made: Value = x if order == sorted(order) else n.emit(Transpose(tuple(order)), x)
    return made


def _nothing(n: ImportNode, element: Value, axis: int) -> Value:
    """What is stacked when there is no step."""
    shape = list(element.type.sizes)
    shape.insert(axis_of(axis, len(shape) + 1), 0)
    return n.filled(shape, 0, element.type.dtype, "stacked")
