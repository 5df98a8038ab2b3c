"""Batch normalization for inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Value
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import same
from ..types import TensorType
from ._accumulate import accumulator
from .binary import Add, Mul, Sub
from .cast import Cast
from .reduce import ReduceMean
from .reshape import Reshape


@onnx_op("BatchNormalization")
@dataclass(frozen=True)
class BatchNorm(Op):
    """``(x - mean[c]) / sqrt(var[c] + epsilon) * scale[c] + b[c]``; ONNX BatchNormalization-15.

    Operands x, scale, b, mean, var: data ``N C ...`` in any layout and four vectors ``C`` of any float dtype; data of
    rank 1 has one channel. Graphs seldom hold this op: for constant vectors of more than 16 bits the importer emits a
    multiplication and an addition. With ``training_mode=1`` the op reads statistics that other ops compute.
    """

    name = "batch_norm"
    injective = True
    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> TensorType:
        x, *params = types
        if len(params) != 4 or not all(t.is_float for t in types) or not x.rank:
            raise ShapeError("takes data, scale, b, mean and var, all float")
        channels = x.shape[1] if x.rank > 1 else 1
        if any(t.rank != 1 or not same(t.shape[0], channels) for t in params):
            raise ShapeError(f"scale, b, mean and var must have shape [{channels}]")
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x = xs[0]
        dtype = accumulator(x.type).tvm_dtype

        def element(*i: Any) -> Any:
            c = i[1] if len(i) > 1 else 0
            scale, b, mean, var = (p(c).astype(dtype) for p in xs[1:])
            normal = (x(*i).astype(dtype) - mean) / k.tirx.sqrt(var + k.const(self.epsilon, dtype))
            return (normal * scale + b).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "batch_norm", guard=True)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 6 * inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == inputs[0].rank

    def scale_and_shift(
        self, scale: np.ndarray, b: np.ndarray, mean: np.ndarray, var: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The vectors factor and offset, in float64, for which the op is ``x * factor + offset``."""
        with np.errstate(all="ignore"):
            factor = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + self.epsilon)
            return factor, b - mean * factor

    @classmethod
    def cases(cls) -> Iterator[Case]:
        vectors = [np.array(v, np.float32) for v in ([0.5, -1, 2], [1, 0, -2], [0.25, 3, -1], [0.5, 2, 1e-6])]
        yield sample(cls(), f32[2, 3, 5, 4], *vectors)
        yield sample(cls(1e-2), f32[2, 3], *vectors)
        yield sample(cls(), f32[2, 3, 4], *vectors)
        yield sample(cls(), f32[1, 3, 2, 2, 3], *vectors)
        small = {"low": 0.5, "high": 2.0}
        yield sample(cls(), f16[1, 3, 4, 4], *[f16[3]] * 4, **small)
        yield sample(cls(), f64[1, 3, 4, 4], *[f64[3]] * 4, **small)
        yield sample(cls(), f32[5], *[f32[1]] * 4, **small, oracle="reference", note="ONNX Runtime refuses rank 1")


@imports("BatchNormalization")
def _import_batch_norm(n: ImportNode) -> Any:
    training = bool(n.attr("training_mode", 0)) or (n.opset < 7 and not n.attr("is_test", 0))
    if training and n.opset >= 14:
        return _of_batch(n)
    if training or any(n.proto.output[1:]):
        raise n.unsupported("before opset 14 it is not supported in training mode; export the model for inference")
    x, *params = (n.input(i) for i in range(5))
    known = [n.builder.constant_of(p) for p in params]
    arrays = [a.astype(np.float64) for a in known if a is not None]
    whole = n.opset < 9 and not n.attr("spatial", 1)
    # scale and shift in 16 bits would be rounded, which costs more digits than the op itself
    if len(arrays) < 4 or (x.type.dtype in ("f16", "bf16") and not whole):
        if whole:
            raise n.unsupported("spatial=0 with scale, b, mean or var computed at run time")
        return n.emit(BatchNorm(n.attr("epsilon", 1e-5)), x, *params)
    shape = x.type.shape[1:] if whole else x.type.shape[1:2] or (1,)
    if any(len(a.shape) != len(shape) or not all(map(same, a.shape, shape)) for a in arrays):
        raise n.error(f"scale, b, mean and var must have shape {list(shape)}")
    scale, b, mean, var = (a if whole else a.reshape(-1, *(1,) * max(x.type.rank - 2, 0)) for a in arrays)
    factor, offset = BatchNorm(n.attr("epsilon", 1e-5)).scale_and_shift(scale, b, mean, var)
    constants = [n.constant(a.astype(x.type.numpy_dtype), hint) for a, hint in ((factor, "scale"), (offset, "shift"))]
    return n.emit(Add(), n.emit(Mul(), x, constants[0]), constants[1])


def _of_batch(n: ImportNode) -> list[Value]:
    """Import a node with ``training_mode=1``: normalize by the statistics of the batch, and give the running statistics
    after it.
    """
    x, scale, b, *running = (n.input(i) for i in range(5))
    momentum = n.attr("momentum", 0.9)
    axes = tuple(a for a in range(x.type.rank) if a != 1)
    # the mean in two parts, as in ``moments``
    rounded = n.emit(ReduceMean(axes), x)
    near = n.emit(Sub(), x, rounded)
    rest = n.emit(ReduceMean(axes), near)
    centred = n.emit(Sub(), near, rest)
    var = n.emit(ReduceMean(axes), n.emit(Mul(), centred, centred))
    mean, rest, var = (n.emit(Reshape((-1,)), v) for v in (n.emit(Add(), rounded, rest), rest, var))
    outputs = [n.emit(BatchNorm(n.attr("epsilon", 1e-5)), near, scale, b, rest, var)]
    for old, new in zip(running, (mean, var), strict=True):
        met = new if new.type.dtype == old.type.dtype else n.emit(Cast(old.type.dtype), new)
        kept, added = n.emit(Mul(), old, n.scalar(momentum, old)), n.emit(Mul(), met, n.scalar(1 - momentum, old))
        outputs.append(n.emit(Add(), kept, added))
    return outputs
