"""Gated recurrent units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Value
from ..loops import block, vector_loop
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f32, f64, sample
from ..sizes import Dim, Sizes
from ._recurrent import Layer, Recurrent, export_recurrent, import_recurrent, load, multiply, stretch
from .binary import Add
from .concat import Concat


@dataclass(frozen=True)
class GRU(Recurrent):
    """``h' = (1 - z) g + z h``; ONNX GRU-22. See ``Recurrent`` for the operands.

    The gates are in the order z, r, g. The extra vector ``H`` is the recurrence bias of g, whose recurrence reads
    ``r h``; with ``linear_before_reset`` it reads h, and r multiplies its product and bias, as in PyTorch.
    """

    name = "gru"
    gates = 3
    functions = ("Sigmoid", "Tanh")
    linear_before_reset: bool = False

    def extra(self, hidden: Dim) -> Sizes:
        return (hidden,)

    def step(self, k: TensorExpressions, layer: Layer) -> Callable[[Any, Any], Any]:
        size, work, bias = layer.hidden, layer.work, layer.extra
        (h,) = layer.states
        assert bias is not None

        def at(t: Any, b: Any) -> Any:
            def r(j: Any) -> Any:
                return self.activate(k, 0, work(b, size + j))

            def update(j: Any) -> Any:
                inner = work(b, 2 * size + j)
                if self.linear_before_reset:
                    inner = layer.gates(t, b, 2 * size + j) + r(j) * (inner + bias(j))
                z, g = work(b, j), work(b, 2 * size + j)
                new = (k.like(1, z) - z) * g + z * h(b, j)
                return block(
                    k,
                    work.store(self.activate(k, 0, work(b, j)), b, j),
                    work.store(self.activate(k, 1, inner), b, 2 * size + j),
                    h.store(new, b, j),
                    layer.output.store(h(b, j), t, b, j),
                )

            def biased(j: Any) -> Any:
                return work.store(layer.gates(t, b, 2 * size + j) + bias(j), b, 2 * size + j)

            gated = [load(k, layer, t, b, 0, 2 * size), multiply(k, layer, lambda i: h(b, i), b, 0, 2 * size)]
            if self.linear_before_reset:
                zero = vector_loop(k, size, lambda j: work.store(k.like(0, h(b, 0)), b, 2 * size + j))
                inside = [zero, multiply(k, layer, lambda i: h(b, i), b, 2 * size, 3 * size)]
            else:
                inside = [
                    vector_loop(k, size, lambda j: work.store(r(j) * h(b, j), b, size + j)),
                    vector_loop(k, size, biased),
                    multiply(k, layer, lambda i: work(b, size + i), b, 2 * size, 3 * size),
                ]
            return block(k, *gated, *inside, vector_loop(k, size, update))

        return at

    @classmethod
    def cases(cls) -> Iterator[Case]:
        whole, short = np.array([4, 4], np.int32), np.array([1, 4], np.int32)
        lone = {"oracle": "onnxruntime", "note": "the reference knows no lengths, clip or other activations"}
        for linear in (False, True):
            yield sample(cls(linear_before_reset=linear), f32[4, 2, 9], f32[3, 9], f32[3], whole, f32[2, 3])
            yield sample(
                cls(linear_before_reset=linear), f32[4, 2, 48], f32[16, 48], f32[16], short, f32[2, 16], **lone
            )
        yield sample(cls(reverse=True), f32[4, 2, 24], f32[8, 24], f32[8], whole, f32[2, 8])
        yield sample(cls(clip=0.5), f32[4, 2, 6], f32[2, 6], f32[2], whole, f32[2, 2], **lone)
        acts = (("Softplus", 0.0, 0.0), ("Elu", 0.7, 0.0))
        yield sample(cls(acts), f32[4, 2, 6], f32[2, 6], f32[2], whole, f32[2, 2], **lone)
        wide = {"oracle": "reference", "note": "ONNX Runtime has no GRU in float64"}
        yield sample(cls(), f64[2, 1, 6], f64[2, 6], f64[2], np.array([2], np.int32), f64[1, 2], **wide)


@imports("GRU")
def _import_gru(n: ImportNode) -> Any:
    return import_recurrent(GRU, n, _vectors, linear_before_reset=bool(n.attr("linear_before_reset", 0)))


@exports(GRU)
def _export_gru(op: GRU, n: ExportNode) -> None:
    export_recurrent(op, n, "GRU", _written, linear_before_reset=int(op.linear_before_reset))


def _vectors(n: ImportNode, bias: Value | None, d: int, hidden: int) -> tuple[Value | None, list[Value]]:
    if bias is None:
        return None, [n.filled((hidden,), 0, n.input(0).type.dtype, "bias")]
    both = n.emit(Add(), stretch(n, bias, 0, 2 * hidden), stretch(n, bias, 3 * hidden, 5 * hidden))
    added = n.emit(Concat(0), both, stretch(n, bias, 2 * hidden, 3 * hidden))
    return added, [stretch(n, bias, 5 * hidden, 6 * hidden)]


def _written(n: ExportNode, extra: str, hidden: int) -> tuple[str, str]:
    zeros = n.constant(np.zeros(5 * hidden, n.input_types[0].numpy_dtype), "zeros")
    return n.node("Unsqueeze", [n.node("Concat", [zeros, extra], axis=0), n.ints([0], "axis")]), ""
