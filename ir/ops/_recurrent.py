"""The base class of recurrent layers: types, the loop over time, and the ONNX mapping.

The importer multiplies the whole sequence by the input weights in one matrix product, and emits one op per direction,
which computes the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..dtypes import dtype_names
from ..errors import ShapeError, plural
from ..graph import Value
from ..loops import Memory, block, loop, loop_nest, vector_loop, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode
from ..op import Op
from ..sizes import Dim, Sizes, same, same_shape
from ..types import TensorType
from ._accumulate import accumulator
from ._gates import GATES, Activations, read_activations, written_activations
from ._math import bounded
from .binary import Add
from .concat import Concat
from .matmul import MatMul
from .reshape import Reshape
from .slice import Slice
from .transpose import Transpose


@dataclass(frozen=True)
class Layer:
    """The tensors that a step reads and writes: the operands of ``Recurrent``, its results, and a buffer ``B G*H``."""

    hidden: Dim
    gates: Memory
    weight: Memory
    extra: Memory | None
    states: Sequence[Memory]
    output: Memory
    work: Memory


@dataclass(frozen=True)
class Recurrent(Op):
    """A recurrent layer in one direction, for T steps, batch B, G gates and a state of H elements.

    The operands are of one float dtype, except for the lengths. Gates ``T B G*H``: the inputs times the input weights,
    with biases added. The recurrence weight ``H G*H``. A vector of parameters of the kind of layer, if ``extra`` gives
    it a shape. Lengths ``B`` (int32), after which the outputs of a sequence are zero. One or more first states ``B H``.
    The results are the outputs ``T B H`` and the last states. Narrow floats are computed in float32.

    ``reverse`` processes each sequence from its end. ``clip``, unless it is 0, bounds the arguments of the gates'
    activations.
    """

    on_gpu = False
    gates: ClassVar[int]
    """The number of gates."""
    states: ClassVar[int] = 1
    functions: ClassVar[tuple[str, ...]]
    """The default activations."""
    activations: Activations = ()
    clip: float = 0.0
    reverse: bool = False

    def extra(self, hidden: Dim) -> Sizes:
        """The shape of the vector of parameters that the layer has beside the weights; empty if there is none."""
        return ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        gates, weight, *rest = types
        if gates.rank != 3 or weight.rank != 2 or not gates.is_float:
            raise ShapeError("takes gates of rank 3 and a recurrence weight of rank 2, floats")
        (steps, batch, width), hidden = gates.shape, weight.shape[0]
        extra = [self.extra(hidden)] if self.extra(hidden) else []
        wanted = [(hidden, self.gates * hidden), *extra, (batch,), *[(batch, hidden)] * self.states]
        fits = len(rest) == len(wanted) - 1 and same(width, self.gates * hidden)
        if not fits or not all(same_shape(t.shape, w) for t, w in zip((weight, *rest), wanted, strict=True)):
            raise ShapeError(
                f"gates {gates} want operands of shapes {wanted}, not {[list(t.shape) for t in types[1:]]}"
            )
        lengths = rest[len(extra)]
        if lengths.dtype != "i32" or {t.dtype for t in types if t is not lengths} != {gates.dtype}:
            raise ShapeError(
                f"takes lengths of int32, and all else of one dtype, not {dtype_names(*(t.dtype for t in types))}"
            )
        known = all(name in GATES for name, _, _ in self.activations)
        if len(self.activations or self.functions) != len(self.functions) or not known:
            raise ShapeError(f"takes {plural(len(self.functions), 'activation')} out of {', '.join(GATES)}")
        state = gates.with_shape((batch, hidden))
        return (gates.with_shape((steps, batch, hidden)), *[state] * self.states)

    def activate(self, k: TensorExpressions, place: int, x: Any) -> Any:
        """The activation at a place in the equations.

        The argument of the activation at place 2, of the state of an LSTM, is not clipped, as in ONNX Runtime.
        """
        name, alpha, beta = (self.activations or [(f, 0.0, 0.0) for f in self.functions])[place]
        if self.clip and place < 2:
            x = bounded(k, x, -self.clip, self.clip)
        return GATES[name].function(k, x, k.like(alpha, x), k.like(beta, x))

    def step(self, k: TensorExpressions, layer: Layer) -> Callable[[Any, Any], Any]:
        """The statement ``(t, b)`` that takes the states of sequence b over step t and writes its output."""
        raise NotImplementedError(self.name)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        wide = [accumulator(t) for t in outs]
        steps, batch, hidden = wide[0].shape
        room = wide[0].with_shape((batch, self.gates * hidden))
        extra = bool(self.extra(hidden))

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            gates, weight, *rest = (replace(m, dtype=wide[0].tvm_dtype) for m in ins)
            lengths, first = ins[2 + extra], rest[1 + extra :]
            output, *states, work = results
            step = self.step(k, Layer(hidden, gates, weight, rest[0] if extra else None, states, output, work))

            def sequence(b: Any) -> Any:
                zero = k.const(0, wide[0].tvm_dtype)
                length = k.tirx.max(k.tirx.min(lengths(b), steps), 0)

                def at(s: Any) -> Any:
                    t = k.select(s < length, length - 1 - s, s) if self.reverse else s
                    blank = vector_loop(k, hidden, lambda j: output.store(zero, s, b, j))
                    return when(k, s < length, step(t, b), blank)

                def start(j: Any) -> Any:
                    return block(k, *(s.store(f(b, j), b, j) for s, f in zip(states, first, strict=True)))

                return block(k, vector_loop(k, hidden, start), loop(k, steps, at))

            return loop(k, batch, sequence, parallel=batch != 1)

        made = loop_nest(k, [*wide, room], xs, body, self.name)[:-1]
        return [
            y.tensor if y.type == out else k.compute(out, lambda *i, y=y, out=out: y(*i).astype(out.tvm_dtype))
            for y, out in zip(made, outs, strict=True)
        ]

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return (2 * inputs[1].sizes[0] + 8) * inputs[0].numel


def load(k: TensorExpressions, layer: Layer, t: Any, b: Any, begin: Dim, end: Dim) -> Any:
    """``work[b, j] = gates[t, b, j]`` for j from ``begin`` up to ``end``."""
    return vector_loop(k, end - begin, lambda j: layer.work.store(layer.gates(t, b, begin + j), b, begin + j))


def multiply(k: TensorExpressions, layer: Layer, vector: Callable[[Any], Any], b: Any, begin: Dim, end: Dim) -> Any:
    """``work[b, j] += sum over i of vector(i) * weight[i, j]`` for j from ``begin`` up to ``end``.

    Four rows are done at a time, so that a sum is loaded and stored once for four products.
    """
    together = next(u for u in (4, 2, 1) if layer.hidden % u == 0)
    weight, work = layer.weight, layer.work

    def rows(i: Any) -> Any:
        def column(j: Any) -> Any:
            terms = [vector(i * together + u) * weight(i * together + u, begin + j) for u in range(together)]
            return work.store(sum(terms[1:], terms[0]) + work(b, begin + j), b, begin + j)

        return vector_loop(k, end - begin, column)

    return loop(k, layer.hidden // together, rows)


# -- ONNX -------------------------------------------------------------------------------------------------------------


Vectors = Callable[[ImportNode, "Value | None", int, int], "tuple[Value | None, list[Value]]"]
"""``vectors(n, bias, d, hidden)`` gives the vector that is added to the gates, and the extra parameters, for direction
d.

``bias`` holds the biases of that direction, ``hidden`` is the size of the state.
"""


def summed(n: ImportNode, bias: Value | None, d: int, hidden: int) -> tuple[Value | None, list[Value]]:
    """The ``Vectors`` of a layer without extra parameters: the sum of both biases is added to the gates."""
    return None if bias is None else summed_biases(n, bias), []


DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Whether each layer of a direction goes backwards."""


def import_recurrent(op: type[Recurrent], n: ImportNode, vectors: Vectors = summed, **attributes: Any) -> Any:
    """Read a recurrent layer as one op per direction. ``attributes`` are the fields that its kind of layer adds."""
    x, w, r, bias, lengths = n.input(0), n.input(1), n.input(2), n.optional(3), n.optional(4)
    batch_first = bool(n.attr("layout", 0))
    if {x.type.rank, w.type.rank, r.type.rank} != {3}:
        raise n.error(f"data {x.type} and weights {w.type} and {r.type} must have three axes each")
    if batch_first:
        x = n.emit(Transpose((1, 0, 2)), x)
    direction = n.attr("direction", "forward")
    if direction not in DIRECTIONS:
        raise n.error(f"unknown direction {direction!r}; it must be {', '.join(DIRECTIONS)}")
    reverse = DIRECTIONS[direction]
    (steps, batch, _), hidden = x.type.shape, r.type.sizes[-1]
    if w.type.sizes[:2] != (len(reverse), op.gates * hidden) or n.attr("hidden_size", hidden) != hidden:
        raise n.error(
            f"weights {w.type} and {r.type} do not fit {plural(len(reverse), 'direction')} of "
            f"{plural(op.gates, 'gate')}"
        )
    if lengths is None:
        lengths = n.filled((batch,), steps, "i32", "lengths")
    states = [n.optional(5 + i) for i in range(op.states)]
    made = []
    for d, activations in enumerate(read_activations(n, op.functions, len(reverse))):
        added, extra = vectors(n, part(n, bias, d) if bias else None, d, hidden)
        gates = _products(n, x, part(n, w, d), added)
        first = [_first(n, s, d, batch_first) or n.filled((batch, hidden), 0, x.type.dtype, "state") for s in states]
        layer = op(activations, n.attr("clip", 0.0), reverse[d], **attributes)
        made.append(n.emit(layer, gates, n.emit(Transpose((1, 0)), part(n, r, d)), *extra, lengths, *first))
    return [_joined(n, list(parts), i > 0, batch_first) for i, parts in enumerate(zip(*made, strict=True))]


Written = Callable[[ExportNode, str, int], "tuple[str, str]"]
"""``written(n, extra, hidden)`` writes the extra parameters as the inputs B and P of the node, and gives their names.

A name is empty for an input that is left out.
"""


def export_recurrent(op: Recurrent, n: ExportNode, operator: str, written: Written | None = None, **attrs: Any) -> None:
    """Write an ONNX layer of the op's direction whose input weights are the identity."""
    gates = n.input_types[0]
    width = gates.sizes[-1]
    hidden = width // op.gates
    extra = written is not None
    one = n.ints([0], "axis")
    identity = n.constant(np.eye(width, dtype=gates.numpy_dtype)[None], "identity")
    weight = n.node("Unsqueeze", [n.node("Transpose", [n.inputs[1]], perm=[1, 0]), one])
    bias, peephole = written(n, n.inputs[2], hidden) if written else ("", "")
    first = [n.node("Unsqueeze", [s, one]) for s in n.inputs[3 + extra :]]
    inputs = [n.inputs[0], identity, weight, bias, n.inputs[2 + extra], *first, *([peephole] if peephole else [])]
    layered = [n.fresh(f"{o}_layer") for o in n.outputs]
    n.node(
        operator, inputs, layered, hidden_size=hidden, direction="reverse" if op.reverse else "forward",
        clip=op.clip or None, **(written_activations(op.activations) if op.activations else {}), **attrs,
    )  # fmt: skip
    for name, layer, t in zip(n.outputs, layered, n.output_types, strict=True):
        n.reshape(layer, t.shape, [name])


def part(n: ImportNode, v: Value, d: int) -> Value:
    """The element at position d of the first axis."""
    piece = n.emit(Slice((0,), (d,), (d + 1,)), v) if v.type.shape[0] != 1 else v
    made: Value = n.emit(Reshape(v.type.shape[1:], True), piece)
    return made


def stretch(n: ImportNode, v: Value, begin: int, end: int) -> Value:
    """The elements of a vector from ``begin`` to ``end - 1``."""
    made: Value = n.emit(Slice((0,), (begin,), (end,)), v)
    return made


def summed_biases(n: ImportNode, bias: Value) -> Value:
    """The sum of the input biases and the recurrence biases, the two halves of a vector."""
    half = bias.type.sizes[0] // 2
    made: Value = n.emit(Add(), stretch(n, bias, 0, half), stretch(n, bias, half, 2 * half))
    return made


def _products(n: ImportNode, x: Value, w: Value, added: Value | None) -> Value:
    """The inputs of all steps times the input weights, ``T B G*H``."""
    steps, batch, size = x.type.shape
    flat = n.emit(MatMul(), n.emit(Reshape((steps * batch, size)), x), n.emit(Transpose((1, 0)), w))
    if added is not None:
        flat = n.emit(Add(), flat, added)
    made: Value = n.emit(Reshape((steps, batch, flat.type.shape[-1])), flat)
    return made


def _first(n: ImportNode, state: Value | None, d: int, batch_first: bool) -> Value | None:
    """The first state of a direction, when it is given."""
    if state is None:
        return None
    return part(n, n.emit(Transpose((1, 0, 2)), state) if batch_first else state, d)


def _joined(n: ImportNode, parts: list[Value], is_state: bool, batch_first: bool) -> Value:
    """The results of all directions, with ONNX's axes: outputs ``T D B H`` and states ``D B H``, or B first."""
    axis = 0 if is_state else 1
    apart = [n.emit(Reshape((*p.type.shape[:axis], 1, *p.type.shape[axis:])), p) for p in parts]
    joined: Value = n.emit(Concat(axis), *apart) if len(apart) > 1 else apart[0]
    if not batch_first:
        return joined
    turned: Value = n.emit(Transpose((1, 0, 2) if is_state else (2, 0, 1, 3)), joined)
    return turned
