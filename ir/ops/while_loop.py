"""A loop whose number of steps or whose sizes data decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..data_sizes import defined
from ..errors import ShapeError, UnsupportedOpError
from ..graph import Graph, Node
from ..onnx_io import ExportNode, export, exports, onnx_dtype
from ..op import Op
from ..sizes import Named, Size, Sizes, at, names, same_shape
from ..types import TensorType

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class While(Op):
    """Runs of ``body``, each on the states that the one before left, while a condition holds; ONNX Loop-25.

    The operands are the largest number of steps, int64, the condition for the first one, bool, the initial states, of
    which there are ``states``, and values that the body captures. The inputs of the body are the number of the step,
    int64, the states, and the captured values. Its outputs are the condition for another step, the states after this
    one, and elements. The results are the last states, and the elements of all steps stacked along a new first axis.

    ``inner`` names the sizes of states that may change, as the body takes them. ``sizes`` are these sizes after the
    last step, and then the number of steps. No code is made of the node itself: the runtime runs the code of the body
    (``convc/runtime/cpu/steps.py``).
    """

    name = "while"
    on_gpu = False
    between_segments = True
    body: Graph = field(default_factory=lambda: Graph("empty", (), (), ()))
    states: int = 0
    inner: Sizes = ()
    sizes: Sizes = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        taken, made = [v.type for v in self.body.inputs], [v.type for v in self.body.outputs]
        if types[0].dtype != "i64" or types[1].dtype != "bool" or not all(t.is_single for t in types[:2]):
            raise ShapeError("takes a number of steps, int64, and a condition, bool")
        if len(taken) != len(types) - 1 or len(made) < 1 + self.states or len(self.sizes) != len(self.inner) + 1:
            raise ShapeError(f"the body takes {len(taken)} values and gives {len(made)}")
        if not all(isinstance(s, Size) and isinstance(s.atom, Named) for s in (*self.inner, *self.sizes)):
            raise ShapeError(f"defines sizes by their names, not {list(self.sizes)}")
        changing = {str(size) for size in self.inner}
        for i, (t, wanted) in enumerate(zip(types[2:], taken[1:], strict=True)):
            shape = [d if str(w) in changing else w for d, w in zip(t.shape, wanted.shape, strict=True)]
            if t.dtype != wanted.dtype or not same_shape(t.shape, shape):
                raise ShapeError(f"operand {i + 2} is {t}, and the body takes {wanted}")
        for i, (t, wanted) in enumerate(zip(made[1:], taken[1 : 1 + self.states], strict=False)):
            shape = [d if str(w) in changing else w for d, w in zip(t.shape, wanted.shape, strict=True)]
            if t.dtype != wanted.dtype or tuple(shape) != t.shape:
                raise ShapeError(f"state {i} is {wanted} before a step and {t} after it")
        local = changing | {n.name for node in self.body.nodes for n in defined(node)}
        if any(n.name in local for t in made[1 + self.states :] for d in t.shape for n in names(d)):
            raise ShapeError("what is stacked differs in shape from step to step")
        last = {str(size): after for size, after in zip(self.inner, self.sizes, strict=False)}
        states = [t.with_shape([at(d, last) for d in t.shape]) for t in taken[1 : 1 + self.states]]
        return (*states, *(t.with_shape((self.sizes[-1], *t.shape)) for t in made[1 + self.states :]))

    def defines(self) -> Sizes:
        return self.sizes

    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)

    def stacked(self, element: TensorType) -> TensorType:
        """The type of a tensor that holds an element for each step."""
        return element.with_shape((self.sizes[-1], *element.shape))


@exports(While)
def _export_while(op: While, n: ExportNode) -> None:
    """Write a Loop, whose body reads the captured values by their names."""
    from onnx import helper

    body, first = op.body, 1 + op.states
    names = {v.name: n.fresh(v.name) for v in body.inputs[:first]}
    names |= {v.name: name for v, name in zip(body.inputs[first:], n.inputs[1 + first :], strict=True)}
    names |= {name: n.constant(c.array, name) for name, c in body.constants.items()}
    read = {size.name: (node, i) for node in body.nodes for i, size in enumerate(defined(node))}

    def measured(size: str, e: ExportNode) -> str:
        for v in body.inputs[1:first]:
            if size in (stated := list(v.type.stated)):
                axis = stated.index(size)
                return e.node("Shape", [names[v.name]], start=axis, end=axis + 1)
        return read_size(e, names, *read[size]) if size in read else n.measured(size, e)

    inner = ExportNode([], [], [], [], n.fresh, measured=measured)
    for node in body.nodes:
        names |= {v.name: n.fresh(v.name) for v in node.outputs}
        reads, writes = ([names[v.name] for v in some] for some in (node.inputs, node.outputs))
        read_types, written = ([v.type for v in some] for some in (node.inputs, node.outputs))
        constants = [body.constant_of(v) for v in node.inputs]
        e = ExportNode(reads, writes, read_types, written, n.fresh, constants, measured)
        export(node.op, e)
        inner.nodes += e.nodes
        n.initializers += e.initializers

    def info(name: str, type: TensorType) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx_dtype(type.dtype), list(type.stated))

    made = [inner.node("Identity", [names[v.name]]) for v in body.outputs]
    given = [info(names[v.name], v.type) for v in body.inputs[:first]]
    given.insert(1, info(n.fresh("going"), TensorType("bool", ())))
    outputs = [info(name, v.type) for name, v in zip(made, body.outputs, strict=True)]
    graph = helper.make_graph(inner.nodes, body.name or "body", given, outputs)
    n.node("Loop", n.inputs[: 1 + first], n.outputs, body=graph)


def read_size(e: ExportNode, names: Mapping[str, str], node: Node, index: int) -> str:
    """Write nodes that give a size that a node defines, as int64[1], and return the name of the result."""
    if isinstance(node.op, While):
        for v in node.outputs:
            if str(node.op.sizes[index]) in (stated := list(v.type.stated)):
                axis = stated.index(str(node.op.sizes[index]))
                return e.node("Shape", [names[v.name]], start=axis, end=axis + 1)
        raise UnsupportedOpError(f"size {node.op.sizes[index]} is that of no result of '{node.output.name}'")
    flat = e.node("Reshape", [names[node.output.name], e.ints([-1], "flat")])
    return e.node("Gather", [flat, e.ints([index], "which")]) if len(node.op.defines()) > 1 else flat
