"""Groups that compute element by element, with fewer axes.

Neighbouring axes that all operands have, or that none has, are one axis: ``float32[n, 64, h, w]`` plus a bias of
``float32[1, 64, 1, 1]`` is computed as ``float32[n, 64, h*w]``. Kernels of open sizes then run along one long axis,
with few ends to take care of, and networks share them whatever their ranks.
"""

from __future__ import annotations

from dataclasses import replace

from convc.ir.assumptions import Assumptions
from convc.ir.builder import infer_types
from convc.ir.graph import Constant, Graph, Node, Value
from convc.ir.ops._elementwise import Elementwise
from convc.ir.sizes import Sizes, product
from convc.ir.types import TensorType


def coalesced(body: Graph) -> Graph:
    """A body with open sizes that computes element by element, with neighbouring axes made one; else the body itself.

    Operands in a memory layout become row-major ones of the same elements.
    """
    types = [v.type for v in body.inputs]
    if all(t.is_static for t in types) or not all(map(_by_element, body.nodes)):
        return body
    layouts = {t.layout for t in types if not t.is_single}
    if len(layouts) > 1 or any(_may_be_padded(t) for t in types):
        return body
    rank = max(len(t.extents) for t in types)
    shapes = [(*(1,) * (rank - len(t.extents)), *t.extents) for t in types]
    if any(len({d for d in sizes if d != 1}) > 1 for sizes in zip(*shapes, strict=True)):
        return body
    return _retyped(body, [_joined(shape, _alike(shapes)) for shape in shapes])


def _by_element(node: Node) -> bool:
    """Whether a node computes element by element, with nothing that depends on the place of an axis."""
    if isinstance(node.op, Elementwise):
        return True
    return node.op.elementwise and len(node.inputs) > 1 and all(v.type.is_single for v in node.inputs[1:])


def _may_be_padded(t: TensorType) -> bool:
    if t.layout is None:
        return False
    return any(t.shape[axis] % t.layout.block(axis) != 0 for axis in range(t.rank))


def _alike(shapes: list[Sizes]) -> list[list[int]]:
    """The axes of more than one element, in groups of neighbours that each shape has whole or not at all."""
    groups: list[list[int]] = []
    for axis in range(len(shapes[0])):
        if all(s[axis] == 1 for s in shapes):
            continue
        if groups and all((s[axis] == 1) == (s[groups[-1][-1]] == 1) for s in shapes):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _joined(shape: Sizes, groups: list[list[int]]) -> Sizes:
    return () if all(d == 1 for d in shape) else tuple(product(shape[a] for a in group) for group in groups)


def _retyped(body: Graph, shapes: list[Sizes]) -> Graph:
    """The body for row-major operands of these shapes."""
    values = {v.name: Value(v.name, TensorType(v.type.dtype, s)) for v, s in zip(body.inputs, shapes, strict=True)}
    constants = {name: Constant.of(c.array.reshape(())) for name, c in body.constants.items()}
    values |= {name: Value(name, c.type) for name, c in constants.items()}
    nodes = []
    for n in body.nodes:
        inputs = tuple(values[v.name] for v in n.inputs)
        with Assumptions().noted(""):
            types = infer_types(n.op, inputs)
        nodes.append(Node(n.op, inputs, tuple(Value(v.name, t) for v, t in zip(n.outputs, types, strict=True))))
        values |= {v.name: v for v in nodes[-1].outputs}
    inputs, outputs = (tuple(values[v.name] for v in some) for some in (body.inputs, body.outputs))
    return replace(body, inputs=inputs, nodes=tuple(nodes), outputs=outputs, constants=constants, assumptions={})
