"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Value
from ..loops import block, vector_loop
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f16, f32, sample
from ..sizes import Dim, Sizes
from ._recurrent import Layer, Recurrent, export_recurrent, import_recurrent, load, multiply, part, summed_biases


@dataclass(frozen=True)
class LSTM(Recurrent):
    """``c' = f c + i g`` and ``h' = o h(c')``; ONNX LSTM-22. See ``Recurrent`` for the operands.

    The gates are in the order i, o, f, g. The extra vector ``3*H`` holds the peepholes of i, o and f. The states are h
    and c. ``input_forget`` makes ``f = 1 - i``.
    """

    name = "lstm"
    gates = 4
    states = 2
    functions = ("Sigmoid", "Tanh", "Tanh")
    input_forget: bool = False

    def extra(self, hidden: Dim) -> Sizes:
        return (3 * hidden,)

    def step(self, k: TensorExpressions, layer: Layer) -> Callable[[Any, Any], Any]:
        size, work, peephole = layer.hidden, layer.work, layer.extra
        h, c = layer.states
        assert peephole is not None

        def at(t: Any, b: Any) -> Any:
            def cell(j: Any) -> Any:
                i = self.activate(k, 0, work(b, j) + peephole(j) * c(b, j))
                f = self.activate(k, 0, work(b, 2 * size + j) + peephole(2 * size + j) * c(b, j))
                kept = k.like(1, i) - work(b, j) if self.input_forget else f
                g = self.activate(k, 1, work(b, 3 * size + j))
                new = c.store(kept * c(b, j) + work(b, j) * g, b, j)
                return block(k, work.store(i, b, j), new)

            def output(j: Any) -> Any:
                o = self.activate(k, 0, work(b, size + j) + peephole(size + j) * c(b, j))
                new = h.store(o * self.activate(k, 2, c(b, j)), b, j)
                return block(k, new, layer.output.store(h(b, j), t, b, j))

            return block(
                k,
                load(k, layer, t, b, 0, 4 * size),
                multiply(k, layer, lambda i: h(b, i), b, 0, 4 * size),
                vector_loop(k, size, cell),
                vector_loop(k, size, output),
            )

        return at

    @classmethod
    def cases(cls) -> Iterator[Case]:
        whole, none = np.array([5, 5, 5], np.int32), np.zeros(9, np.float32)
        lone = {
            "oracle": "onnxruntime",
            "note": "the reference knows no lengths, clip, coupled gates or other activations",
        }
        yield sample(cls(), f32[5, 3, 12], f32[3, 12], none, whole, f32[3, 3], f32[3, 3])
        yield sample(cls(), f32[5, 3, 64], f32[16, 64], f32[48], whole, f32[3, 16], f32[3, 16])
        yield sample(cls(reverse=True), f32[5, 1, 32], f32[8, 32], f32[24], whole[:1], f32[1, 8], f32[1, 8])
        short = np.array([5, 2, 1], np.int32)
        for reverse in (False, True):
            yield sample(cls(reverse=reverse), f32[5, 3, 16], f32[4, 16], f32[12], short, f32[3, 4], f32[3, 4], **lone)
        few = (f32[4, 2, 8], f32[2, 8], np.zeros(6, np.float32), np.array([4, 4], np.int32), f32[2, 2], f32[2, 2])
        yield sample(cls(clip=0.5), *few, **lone)
        yield sample(cls((("HardSigmoid", 0.3, 0.4), ("Relu", 0.0, 0.0), ("LeakyRelu", 0.2, 0.0))), *few, **lone)
        yield sample(cls((("Sigmoid", 0.0, 0.0), ("ScaledTanh", 0.5, 2.0), ("Softsign", 0.0, 0.0))), *few, **lone)
        narrow = {"oracle": "reference", "note": "ONNX Runtime has no LSTM in float16"}
        yield sample(
            cls(),
            f16[3, 1, 8],
            f16[2, 8],
            np.zeros(6, np.float16),
            np.array([3], np.int32),
            f16[1, 2],
            f16[1, 2],
            **narrow,
        )


@imports("LSTM")
def _import_lstm(n: ImportNode) -> Any:
    return import_recurrent(LSTM, n, _vectors, input_forget=bool(n.attr("input_forget", 0)))


@exports(LSTM)
def _export_lstm(op: LSTM, n: ExportNode) -> None:
    export_recurrent(op, n, "LSTM", _written, input_forget=op.input_forget or None)


def _vectors(n: ImportNode, bias: Value | None, d: int, hidden: int) -> tuple[Value | None, list[Value]]:
    given = n.optional(7)
    peephole = part(n, given, d) if given else n.filled((3 * hidden,), 0, n.input(0).type.dtype, "peephole")
    return None if bias is None else summed_biases(n, bias), [peephole]


def _written(n: ExportNode, extra: str, hidden: int) -> tuple[str, str]:
    return "", n.node("Unsqueeze", [extra, n.ints([0], "axis")])
