"""A loop whose number of steps is a size, and whose body is a graph that is compiled once.

The operands are, in order, the initial *states*, the *scanned* tensors, and the values that the body *captures* from
around the loop. The inputs of the body are the states, one element of each scanned tensor, and the captured values. Its
outputs are the next states and one element of each *stacked* result. The results of the op are the final states and the
stacked results. Scanned and stacked tensors have the steps as their first axis. The number of a step is no special
case: the importer scans the numbers from zero.

Before a graph is compiled, ``passes/loops.py`` moves constants into the bodies, so that every pass improves a body as
it does a graph. It spells out loops of few steps. After the other passes, it moves out of the bodies what is the same
in every step, such as packed weights. A CPU runs a loop as one subroutine (``backends/cpu/loop.py``) which gives the
kernels of the body an address for each step. States alternate between two places, since a body may read a state after
it has written the next one. A GPU's list of launches has no loops, so there every loop is spelt out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..builder import Builder
from ..data_sizes import is_read
from ..errors import ShapeError
from ..graph import Graph
from ..limits import check
from ..onnx_io import ExportNode, export, exports, onnx_dtype
from ..op import Case, Op, f32, i64, sample
from ..sizes import Dim, Size, no_less, typical
from ..types import TensorType
from ._axes import Ints
from .binary import Add, Mul
from .transcendental import Tanh


@dataclass(frozen=True)
class Loop(Op):
    """``steps`` runs of ``body``, each on the states that the one before left; ONNX Scan-25, and Loop-25 where the
    number of steps is a size.

    The first ``states`` operands are states. ``scans`` has a number for each scanned operand, and ``stacks`` for each
    stacked result: 0 when the first step has the first element, 1 when it has the last.
    """

    name = "loop"
    on_gpu = False
    body: Graph = field(default_factory=lambda: Graph("empty", (), (), ()))
    steps: Dim = 1
    states: int = 0
    scans: Ints = ()
    stacks: Ints = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        taken, made = [v.type for v in self.body.inputs], [v.type for v in self.body.outputs]
        if not no_less(self.steps, 1):
            raise ShapeError("takes at least one step")
        check("steps", typical(self.trips), "a loop, with those inside it,")
        if not {*self.scans, *self.stacks} <= {0, 1}:
            raise ShapeError("a direction is 0 or 1")
        if len(taken) != len(types) or self.states < 0 or self.states + len(self.scans) > len(types):
            raise ShapeError(f"the body takes {len(taken)} values")
        if len(made) != self.states + len(self.stacks) or not made:
            raise ShapeError(f"the body gives {len(made)} values, not {self.states + len(self.stacks)}")
        for i, (t, wanted) in enumerate(zip(types, taken, strict=True)):
            scanned = self.states <= i < self.states + len(self.scans)
            if t != (self.stacked(wanted) if scanned else wanted):
                raise ShapeError(f"operand {i} is {t}, and the body takes {wanted}{' of each step' if scanned else ''}")
        for i in range(self.states):
            if made[i] != taken[i]:
                raise ShapeError(f"state {i} is {taken[i]} before a step and {made[i]} after it")
        if any(map(is_read, self.body.nodes)):
            raise ShapeError("the body makes tensors whose size follows from data")
        return (*made[: self.states], *(self.stacked(t) for t in made[self.states :]))

    def stacked(self, element: TensorType) -> TensorType:
        """The type of a tensor that holds an element for each step."""
        if element.layout is not None:
            raise ShapeError(f"an element of {element} has a layout")
        return element.with_shape((self.steps, *element.shape))

    @property
    def trips(self) -> Dim:
        """How many steps are taken, those of the loops inside the body included."""
        return self.steps * (1 + sum(n.op.trips for n in self.body.nodes if isinstance(n.op, Loop)))

    @property
    def captured(self) -> int:
        """The index of the first captured operand."""
        return self.states + len(self.scans)

    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return typical(self.steps) * sum(n.flops for n in self.body.nodes)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        b = Builder("body")
        state, x, w = (b.input(name, f32[2, 3]) for name in ("state", "x", "w"))
        next_state = b.emit(Tanh(), b.emit(Add(), b.emit(Mul(), state, w), x))
        body = b.finish([next_state, b.emit(Add(), next_state, x)])
        for steps, scan, stack in ((1, 0, 0), (5, 1, 0), (40, 0, 1)):
            yield sample(cls(body, steps, 1, (scan,), (stack,)), f32[2, 3], f32[steps, 2, 3], f32[2, 3])
        b = Builder("swap")
        one, other = b.input("one", i64[3]), b.input("other", i64[3])
        yield sample(cls(b.finish([other, one, one, other]), 15, 2, (), (0, 1)), i64[3], i64[3])
        b = Builder("first")
        x, w = b.input("x", f32[3]), b.input("w", f32[1])
        yield sample(cls(b.finish([w, b.emit(Add(), x, w)]), 11, 0, (0,), (0, 0)), f32[11, 3], f32[1])


@exports(Loop)
def _export_loop(op: Loop, n: ExportNode) -> None:
    """Write a Scan, whose body reads the captured values by their names.

    Tensors are reversed outside, since onnx's reference knows no direction.
    """
    names = {v.name: n.fresh(v.name) for v in op.body.inputs[: op.captured]}
    names |= {v.name: name for v, name in zip(op.body.inputs[op.captured :], n.inputs[op.captured :], strict=True)}
    names |= {name: n.constant(c.array, name) for name, c in op.body.constants.items()}
    inner = ExportNode([], [], [], [], n.fresh, measured=n.measured)
    for node in op.body.nodes:
        names |= {v.name: n.fresh(v.name) for v in node.outputs}
        e = ExportNode(
            [names[v.name] for v in node.inputs],
            [names[v.name] for v in node.outputs],
            [v.type for v in node.inputs],
            [v.type for v in node.outputs],
            n.fresh,
            measured=n.measured,
        )
        export(node.op, e)
        inner.nodes += e.nodes
        n.initializers += e.initializers
    made = [inner.node("Identity", [names[v.name]]) for v in op.body.outputs]  # each a new name, as Scan wants it
    taken = list(op.body.inputs[: op.captured])
    directions = (0,) * op.states + op.scans
    scanned = [_reversed(n, x) if d else x for x, d in zip(n.inputs, directions, strict=False)]
    given = [_info(names[v.name], v.type) for v in taken]
    if not op.scans:  # a Scan scans something
        given.append(_info(n.fresh("step"), i64[()]))
        ends = [n.reshape(n.size(end), ()) for end in (0, op.steps, 1)]
        scanned.append(
            n.node("Range", ends) if isinstance(op.steps, Size) else n.constant(np.arange(op.steps), "steps")
        )
    from onnx import helper

    outputs = [_info(name, v.type) for name, v in zip(made, op.body.outputs, strict=True)]
    turned = [(name, n.fresh(name)) for name, d in zip(n.outputs[op.states :], op.stacks, strict=True) if d]
    results = [dict(turned).get(name, name) for name in n.outputs]
    body = helper.make_graph(inner.nodes, op.body.name or "body", given, outputs)
    n.node("Scan", scanned, results, body=body, num_scan_inputs=len(scanned) - op.states)
    for name, before in turned:
        _reversed(n, before, [name])


def _reversed(n: ExportNode, x: str, outputs: Sequence[str] | None = None) -> str:
    """The tensor with its first axis reversed."""
    bounds = [n.ints([v], hint) for v, hint in ((-1, "starts"), (-1 << 63, "ends"), (0, "axes"), (-1, "steps"))]
    return n.node("Slice", [x, *bounds], outputs)


def _info(name: str, type: TensorType) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, onnx_dtype(type.dtype), list(type.stated))
