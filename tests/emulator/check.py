"""Checks of one group: a rule schedules it, it runs in emulation, and its outputs are compared with ONNX Runtime's."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from support.oracles import run_onnxruntime, values
from support.tolerances import TF32, assert_close

from convc.backends.cuda.gpu import Gpu
from convc.backends.cuda.launch import DeviceCode
from convc.backends.cuda.lower import lower
from convc.backends.cuda.rules import Rule
from convc.backends.group import Group
from convc.backends.kernels import ask
from convc.ir.builder import Builder
from convc.ir.graph import Graph, Value
from convc.ir.ops.cast import Cast
from convc.ir.ops.relayout import Relayout
from convc.ir.types import TensorType
from convc.onnx.export import to_onnx

from .run import run

HIGHEST = 2.0
"""Inputs lie between -``HIGHEST`` and ``HIGHEST``. Weights are scaled so that sums of products do too."""


def check(
    graph: Graph | Group, rule: Rule, gpu: Gpu, *, tolerance: tuple[float, float] | None = None, low: float = -HIGHEST
) -> DeviceCode:
    """Lower a group by ``rule``, run it, and compare every output; returns the code.

    ``graph`` has the nodes that become one kernel. ``low`` and ``tolerance`` are as in ``check_code``.
    """
    group = graph if isinstance(graph, Group) else Group(graph)
    code = code_of(group, rule, gpu)
    check_code(group, code, f"{group.name} by {rule.__name__} for {gpu.name}", tolerance, low)
    return code


def check_code(
    group: Group,
    code: DeviceCode,
    what: str,
    tolerance: tuple[float, float] | None = None,
    low: float = -HIGHEST,
) -> None:
    """Run the code of a group, and compare every output with ONNX Runtime's.

    ``low`` is the least value of the inputs, for ops of a limited domain. Without ``tolerance``, the tolerance is that
    of TF32 where tensor cores round float32 factors, and else that of the dtype.
    """
    inputs = random_inputs(group.body, low)
    arguments = [physical(x, v.type) for x, v in zip(inputs, group.body.inputs, strict=True)]
    outputs = [_poison(v.type) for v in group.body.outputs]
    run(code, [*arguments, *outputs])
    if tolerance is None and ".tf32" in code.source:
        tolerance = TF32
    for v, got, want in zip(group.body.outputs, outputs, reference(group.body, inputs), strict=True):
        assert_close(logical(got, v.type), want.astype(v.type.numpy_dtype), f"{what}: {v}", tolerance)
        assert_padding_is_zero(got, v.type, what)


def _poison(t: TensorType) -> np.ndarray:
    """The initial bytes of an output: 0xFF, which is NaN in every floating-point type."""
    size = math.prod(t.physical_shape)
    return np.full(size * t.numpy_dtype.itemsize, 0xFF, np.uint8).view(t.numpy_dtype).reshape(t.physical_shape)


def code_of(group: Group, rule: Rule, gpu: Gpu) -> DeviceCode:
    """The code that a rule makes of a group. The rule must take the group."""
    func, _ = ask([rule], group, gpu)
    return lower(func, gpu, "k")


def random_inputs(graph: Graph, low: float = -HIGHEST) -> list[np.ndarray]:
    """Random inputs of a graph, the same on every run. Those of weights are smaller the more of them are summed."""
    rng = np.random.default_rng(zlib.crc32(str([str(v) for v in graph.inputs]).encode()))
    weights = {n.inputs[1].name for n in graph.nodes if n.op.name in ("conv", "conv_transpose", "matmul", "gemm")}
    made = []
    for v in graph.inputs:
        x = values(v.type, rng, low, HIGHEST)
        scale = math.sqrt(x.size / max(x.shape[0], 1)) if v.name in weights else 1.0
        made.append((x / scale).astype(x.dtype) if v.type.is_float else x)
    return made


def reference(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph by ONNX Runtime. Floats of 16 bits are computed in float32."""
    model = to_onnx(plain(graph))
    feeds = {v.name: x.astype(wide(v.type).numpy_dtype) for v, x in zip(graph.inputs, inputs, strict=True)}
    return run_onnxruntime(model, feeds)


def wide(t: TensorType) -> TensorType:
    """The type without its layout, with float32 for floats of 16 bits."""
    return TensorType("f32" if t.dtype in ("f16", "bf16") else t.dtype, t.shape)


def plain(graph: Graph) -> Graph:
    """The same function of row-major tensors, with float32 for floats of 16 bits."""
    b = Builder(graph.name)
    env: dict[str, Value] = {v.name: b.input(v.name, wide(v.type)) for v in graph.inputs}
    for name, c in graph.constants.items():
        env[name] = b.constant(c.array.astype(wide(c.type).numpy_dtype), name)
    for node in graph.nodes:
        inputs = [env[v.name] for v in node.inputs]
        op = node.op
        if isinstance(op, Cast):
            op = Cast(wide(node.output.type).dtype)
        if isinstance(op, Relayout) or (isinstance(op, Cast) and op.to == inputs[0].type.dtype):
            made = inputs[:1]
        else:
            emitted = b.emit(op, *inputs, names=[v.name for v in node.outputs])
            made = list(emitted) if isinstance(emitted, tuple) else [emitted]
        env |= {v.name: m for v, m in zip(node.outputs, made, strict=True)}
    return b.finish([env[v.name] for v in graph.outputs])


def physical(x: np.ndarray, t: TensorType) -> np.ndarray:
    """A tensor as it lies in memory, with zeros as layout padding."""
    out = np.zeros(t.physical_shape, x.dtype)
    out[_places(t)] = x
    return out


def logical(x: np.ndarray, t: TensorType) -> np.ndarray:
    """The tensor whose elements lie in memory in this layout."""
    return np.asarray(x[_places(t)])


def _places(t: TensorType) -> tuple[np.ndarray, ...]:
    """The position of each element of a tensor in memory, as a numpy index."""
    index = np.indices(t.sizes)
    return tuple(t.layout.physical_index(list(index)) if t.layout else index)


def assert_padding_is_zero(x: np.ndarray, t: TensorType, what: str) -> None:
    """Raise an error unless the layout padding is zero."""
    if t.layout is not None and t.layout.is_padded(t.sizes):
        np.testing.assert_array_equal(physical(logical(x, t), t), x, err_msg=f"{what}: padding that is not zero")
