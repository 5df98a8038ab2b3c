"""The plain recurrent layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..loops import block, vector_loop
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, exports, onnx_op
from ..op import Case, f32, sample
from ._recurrent import Layer, Recurrent, export_recurrent, import_recurrent, load, multiply


@onnx_op("RNN", read=import_recurrent)
class RNN(Recurrent):
    """``h' = f(gate + h R)``; ONNX RNN-22. See ``Recurrent`` for the operands; there is no extra vector."""

    name = "rnn"
    gates = 1
    functions = ("Tanh",)

    def step(self, k: TensorExpressions, layer: Layer) -> Callable[[Any, Any], Any]:
        (h,), work = layer.states, layer.work

        def at(t: Any, b: Any) -> Any:
            def output(j: Any) -> Any:
                new = h.store(self.activate(k, 0, work(b, j)), b, j)
                return block(k, new, layer.output.store(h(b, j), t, b, j))

            return block(
                k,
                load(k, layer, t, b, 0, layer.hidden),
                multiply(k, layer, lambda i: h(b, i), b, 0, layer.hidden),
                vector_loop(k, layer.hidden, output),
            )

        return at

    @classmethod
    def cases(cls) -> Iterator[Case]:
        whole = np.array([4, 4], np.int32)
        lone = {"oracle": "onnxruntime", "note": "the reference knows no lengths and few activations"}
        yield sample(cls(), f32[4, 2, 8], f32[8, 8], whole, f32[2, 8])
        yield sample(cls(reverse=True), f32[4, 2, 3], f32[3, 3], whole, f32[2, 3])
        yield sample(cls(reverse=True), f32[4, 2, 3], f32[3, 3], np.array([3, 1], np.int32), f32[2, 3], **lone)
        yield sample(cls(clip=0.5), f32[4, 2, 3], f32[3, 3], whole, f32[2, 3], **lone)
        for name, alpha, beta in (("Relu", 0.0, 0.0), ("Affine", 0.5, 0.25), ("ThresholdedRelu", 0.5, 0.0)):
            yield sample(cls(((name, alpha, beta),)), f32[4, 2, 3], f32[3, 3], whole, f32[2, 3], **lone)


@exports(RNN)
def _export_rnn(op: RNN, n: ExportNode) -> None:
    export_recurrent(op, n, "RNN")
