"""Convolutions of dequantized operands, as models with ``QuantizeLinear`` and ``DequantizeLinear`` (QDQ) write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from convc.ir.builder import Builder
from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.binary import Add, Mul
from convc.ir.ops.cast import Cast
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_integer import ConvInteger
from convc.ir.ops.quantize import Dequantize
from convc.ir.ops.reshape import Reshape
from convc.ir.rewrite import Match, Report, apply_rules

from ..machine import Machine


def quantized_convs(graph: Graph, machine: Machine, report: Report | None = None) -> Graph:
    """Apply the rule where the processor multiplies bytes faster than floats."""
    return apply_rules(graph, (DequantizedConv(),), report) if machine.dot4 else graph


class DequantizedConv:
    """``conv(dequantize(x, s), dequantize(w, t), b) => cast(conv_integer(x, w)) * (s * t) + b``.

    w and the zero points must be constant. The sum is then exact instead of rounded at every step.
    """

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        if not isinstance(node.op, Conv) or node.op.exact or node.output.type.dtype != "f32":
            return None
        made_by = [graph.producers.get(v.name) for v in node.inputs[:2]]
        data, weight = (n if n is not None and isinstance(n.op, Dequantize) else None for n in made_by)
        if data is None or weight is None:
            return None
        if node.op.group != 1 or node.output.type.rank != 4:
            return "only images in one group are multiplied as bytes"
        if graph.constant_of(weight.inputs[0]) is None or not all(_is_known(graph, n) for n in (data, weight)):
            return "its weight or a zero point is computed"
        if not data.inputs[1].type.is_single or not _is_by_output(weight):
            return "its data has several scales, or its weight one for each input channel"
        return Match(node, data=(data, weight))

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        conv, (data, weight) = match.root, match.data
        op = conv.op
        assert isinstance(op, Conv)
        (x, s, x_zero), (w, t, w_zero) = (_operands(b, n, env) for n in (data, weight))
        total = b.emit(ConvInteger(op.strides, op.pads, op.dilations), x, w, x_zero, w_zero)
        scale = b.emit(Mul(), b.emit(Reshape(()), s), t if t.type.is_single else b.emit(Reshape((-1, 1, 1)), t))
        y = b.emit(Mul(), b.emit(Cast("f32"), total), scale)
        for bias in conv.inputs[2:]:
            y = b.emit(Add(), y, b.emit(Reshape((-1, 1, 1)), env(bias)))
        return [y]


def _is_known(graph: Graph, dequantize: Node) -> bool:
    """Whether a dequantized tensor has 8 bits and a constant zero point."""
    zeros = dequantize.inputs[2:]
    return dequantize.inputs[0].type.dtype in ("i8", "u8") and all(graph.constant_of(v) is not None for v in zeros)


def _is_by_output(dequantize: Node) -> bool:
    """Whether a weight has a single scale, or one per output."""
    op, (w, scale, *_) = dequantize.op, dequantize.inputs
    assert isinstance(op, Dequantize)
    return scale.type.is_single or (not op.block_size and op.axis % w.type.rank == 0)


def _operands(b: Builder, dequantize: Node, env: Callable[[Value], Value]) -> tuple[Value, Value, Value]:
    """The data, scale and zero point; the latter is zero where it was left out."""
    x, scale, *zero = map(env, dequantize.inputs)
    none = np.zeros((), x.type.numpy_dtype)
    return x, scale, zero[0] if zero else b.constant(none, "zero")
