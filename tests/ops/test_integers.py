"""Products of 8-bit integers by byte instructions and by floats, and QDQ models.

The products agree with ONNX Runtime's in every bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import models
from support.compiling import compiled
from support.oracles import run_onnxruntime, run_reference

import convc
from convc.backends.cpu.machine import Machine
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.profile import assembly
from convc.backends.cpu.target import Target, host_target, parse_target
from convc.backends.group import Group
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import Op
from convc.ir.ops.binary import Add, Mul, Sub
from convc.ir.ops.conv_bytes import ConvBytes
from convc.ir.types import type_of

DOTS = Machine(lanes=16, registers=32, cache_bytes=1 << 20, dot4=True)
NO_DOTS = Machine(lanes=8, registers=16, cache_bytes=1 << 20)
X86 = "x86_64-unknown-linux-gnu"
can_run = pytest.mark.skipif(not host_target().machine.dot4, reason="this processor adds no products of bytes")


def qlinear(
    channels: int, outputs: int, kernel: int, size: int, *, zero: int = 0, w_zero: int = 0, w_dtype: Any = np.int8,
    largest: int = 127, bias: bool = True, group: int = 1, **geometry: Any,
) -> onnx.ModelProto:  # fmt: skip
    """A model of one QLinearConv of uint8 data."""
    rng = np.random.default_rng(channels + outputs)
    low = -largest if w_dtype is np.int8 else 0
    w = rng.integers(low, largest + 1, (outputs, channels // group, kernel, kernel)).astype(w_dtype)
    held = {
        "xs": np.float32(0.02), "xz": np.uint8(zero), "w": w, "wz": np.full(outputs, w_zero, w_dtype),
        "ws": rng.uniform(0.001, 0.003, outputs).astype(np.float32), "ys": np.float32(0.01 * channels**0.5 * kernel),
        "yz": np.uint8(100), "b": rng.integers(-(1 << 18), 1 << 18, outputs).astype(np.int32),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if bias else [])]
    node = helper.make_node("QLinearConv", names, ["y"], group=group, **geometry)
    return model([node], {"x": (TensorProto.UINT8, [2, channels, size, size])}, held)


def model(nodes: Any, inputs: dict[str, Any], held: dict[str, Any]) -> onnx.ModelProto:
    return models.model(nodes, inputs, "y", held, opset=18, ir_version=10)


def data(m: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values of the whole range, in which its ends are frequent."""
    made = {}
    for i in m.graph.input:
        shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        info = np.iinfo(dtype)
        x = np.random.default_rng(seed).integers(info.min - 40, info.max + 41, shape)
        made[i.name] = np.clip(x, info.min, info.max).astype(dtype)
    return made


CONVS = {
    "3x3": {"channels": 32, "outputs": 32, "kernel": 3, "size": 9, "pads": [1, 1, 1, 1]},
    "padded with another zero": {"channels": 16, "outputs": 20, "kernel": 3, "size": 7, "zero": 113,
                                 "pads": [2, 0, 1, 1]},
    "1x1, strided": {"channels": 64, "outputs": 24, "kernel": 1, "size": 8, "strides": [2, 2]},
    "an image": {"channels": 3, "outputs": 16, "kernel": 7, "size": 20, "zero": 128, "strides": [2, 2],
                 "pads": [3] * 4},
    "one channel": {"channels": 1, "outputs": 8, "kernel": 3, "size": 6, "zero": 255},
    "channels that fill no block": {"channels": 21, "outputs": 5, "kernel": 3, "size": 6, "zero": 7, "pads": [1] * 4},
    "half blocks": {"channels": 24, "outputs": 24, "kernel": 3, "size": 6},
    "dilated": {"channels": 16, "outputs": 16, "kernel": 3, "size": 9, "dilations": [2, 2], "bias": False},
    "unsigned weights": {"channels": 16, "outputs": 16, "kernel": 3, "size": 6, "w_dtype": np.uint8, "w_zero": 128,
                         "largest": 255},
    "weights of nine bits": {"channels": 16, "outputs": 16, "kernel": 3, "size": 6, "w_dtype": np.uint8, "w_zero": 3,
                             "largest": 255},
    "more than float32 counts": {"channels": 256, "outputs": 8, "kernel": 3, "size": 5, "zero": 3},
    "three times as much": {"channels": 512, "outputs": 8, "kernel": 3, "size": 4},
    "groups": {"channels": 32, "outputs": 32, "kernel": 3, "size": 6, "group": 2, "zero": 9, "pads": [1] * 4},
    "depthwise": {"channels": 32, "outputs": 32, "kernel": 3, "size": 6, "group": 32, "zero": 9, "pads": [1] * 4},
}  # fmt: skip


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("what", CONVS)
def test_every_bit(what: str, target: str) -> None:
    m = qlinear(**CONVS[what])
    given = data(m)
    got = compiled(m, target, 2)(*given.values())
    np.testing.assert_array_equal(got, run_onnxruntime(m, given)[0])


def nodes_of(m: onnx.ModelProto, machine: Machine) -> list[Any]:
    final = pipeline(machine).run(convc.load_onnx(m))
    return [n.op for kernel in final.nodes for n in kernel.op.body.nodes]  # type: ignore[attr-defined]


def test_how_each_is_computed() -> None:
    """Products are computed by bytes where there is an instruction, and else by floats.

    Floats are split into as many parts as keep sums exact.
    """

    def convs(what: str, machine: Machine) -> list[str]:
        return [op.name for op in nodes_of(qlinear(**CONVS[what]), machine) if "conv" in op.name]

    assert convs("3x3", DOTS) == convs("an image", DOTS) == ["conv_bytes"]
    assert convs("unsigned weights", DOTS) == ["conv_bytes"]
    assert convs("weights of nine bits", DOTS) == convs("groups", DOTS) == ["conv"]
    assert convs("3x3", NO_DOTS) == ["conv"]
    assert convs("more than float32 counts", NO_DOTS) == ["conv"] * 2
    assert convs("three times as much", NO_DOTS) == ["conv"] * 3


def test_floats_stay_exact_at_the_limit() -> None:
    """The largest possible products, on either side, are computed in enough parts to stay exact."""
    for channels in (57, 58, 130):
        w = np.full((4, channels, 3, 3), 127, np.int8)
        w[1], w[2, ::2] = -128, -128
        node = helper.make_node("ConvInteger", ["x", "w"], ["y"])
        m = model([node], {"x": (TensorProto.UINT8, [1, channels, 4, 4])}, {"w": w})
        for fill in (0, 1, 254, 255):
            x = np.full((1, channels, 4, 4), fill, np.uint8)
            got = convc.compile(m, target="x86-64-v3")(x)
            np.testing.assert_array_equal(got, run_onnxruntime(m, {"x": x})[0])


@pytest.mark.parametrize("first", [80, 1])
def test_channels_whose_sums_no_float_holds_are_not_lost(first: int) -> None:
    """The first channels could be summed as floats, the last ones cannot: the convolution stays one of integers."""
    w = np.full((16, 48, 7, 7), 127, np.int8)
    w[:, : 32 if first == 80 else 16] = first
    m = model([helper.make_node("ConvInteger", ["x", "w"], ["y"])], {"x": (TensorProto.UINT8, [1, 48, 9, 9])}, {"w": w})
    given = data(m)
    np.testing.assert_array_equal(convc.compile(m, target="x86-64-v3")(*given.values()), run_reference(m, given)[0])


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_signed_data(target: str) -> None:
    w = np.random.default_rng(1).integers(-128, 128, (16, 16, 3, 3)).astype(np.int8)
    node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], pads=[1, 1, 1, 1])
    zeros = {"xz": np.int8(-100), "wz": np.int8(0)}
    m = model([node], {"x": (TensorProto.INT8, [1, 16, 6, 6])}, {"w": w} | zeros)
    given = data(m)
    np.testing.assert_array_equal(convc.compile(m, target=target)(*given.values()), run_reference(m, given)[0])


@pytest.mark.parametrize("columns", [8, 300])
def test_matrix_products(columns: int) -> None:
    """Matrix products are computed as floats where sums are exact, and else as integers."""
    w = np.random.default_rng(1).integers(-128, 128, (columns, 12)).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w", "xz"], ["y"])
    m = model([node], {"x": (TensorProto.UINT8, [7, columns])}, {"w": w, "xz": np.uint8(11)})
    given = data(m)
    np.testing.assert_array_equal(convc.compile(m)(*given.values()), run_onnxruntime(m, given)[0])


def qdq(**other: Any) -> onnx.ModelProto:
    """A convolution of dequantized operands whose result is quantized, as quantizers write it."""
    rng = np.random.default_rng(3)
    w = rng.integers(-127, 128, (16, 8, 3, 3)).astype(np.int8)
    held = {
        "xs": np.float32(0.05), "xz": np.uint8(120), "w": w, "ws": rng.uniform(0.001, 0.01, 16).astype(np.float32),
        "wz": np.zeros(16, np.int8), "b": rng.standard_normal(16).astype(np.float32), "ys": np.float32(0.07),
        "yz": np.uint8(9),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "ys", "yz"], ["y"]),
    ]
    return model(nodes, {"x": (TensorProto.UINT8, [1, 8, 9, 9])}, held | other)


def test_dequantized_operands() -> None:
    """Dequantized operands are multiplied as bytes where that is fast.

    Results may differ by one near a tie, since floats round.
    """
    ops = [op.name for op in nodes_of(qdq(), DOTS)]
    assert "conv_bytes" in ops
    assert "dequantize" not in ops
    assert "winograd_conv" in [op.name for op in nodes_of(qdq(), NO_DOTS)]
    for m in (qdq(), qdq(ws=np.float32(0.004), wz=np.int8(5)), qdq(xz=np.uint8(0))):
        given = data(m)
        got, want = convc.compile(m)(*given.values()).astype(int), run_onnxruntime(m, given, optimized=False)[0]
        assert np.abs(got - want).max() <= 1
        assert (got != want).mean() < 0.01


def kernel(m: onnx.ModelProto, target: Target) -> str:
    """The assembly of the convolution of bytes."""
    final: Graph = pipeline(target.machine).run(convc.load_onnx(m))
    (node,) = [n for n in final.nodes if any(isinstance(k.op, ConvBytes) for k in n.op.body.nodes)]  # type: ignore[attr-defined]
    return assembly(Group.of(node), target)[0]


def test_four_products_an_instruction() -> None:
    """The innermost loop loads four bytes for each instruction, and keeps the sums in registers."""
    code = kernel(qlinear(64, 64, 3, 14, pads=[1] * 4), Target("znver4", X86)).splitlines()
    code = [line for line in code if not line.startswith(".L")]
    products = [i for i, line in enumerate(code) if "vpdpbusd" in line]
    loop = [line.split()[0] for line in code[products[0] - 4 : products[13]]]
    assert len(products) >= 14
    assert set(loop) <= {"vpdpbusd", "vpbroadcastd", "vmovdqu64", "vmovdqa64", "addq", "leaq", "movq", ".p2align"}, loop


def test_levels_of_x86_have_no_such_instruction() -> None:
    assert not parse_target("x86-64-v4").machine.dot4


@can_run
def test_rounding_is_vectorised() -> None:
    code = kernel(qlinear(64, 64, 1, 14), host_target())
    assert "vrndscaleps" in code
    assert "roundss" not in code.replace("vrndscaless", "")


def microsoft(op: str, operands: list[tuple[int, ...]], *, first: bool = False, **attrs: Any) -> onnx.ModelProto:
    """A model of one of ONNX Runtime's own operators, each of whose operands has a scale and a zero point."""
    names, held = [], {"ys": np.float32(0.03), "yz": np.uint8(117)}
    for i in range(len(operands)):
        held |= {f"s{i}": np.float32(0.02 * (i + 1)), f"z{i}": np.uint8(100 + 20 * i)}
        names += [f"x{i}", f"s{i}", f"z{i}"]
    names = ["ys", "yz", *names] if first else [*names, "ys", "yz"]
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", **attrs)
    m = model([node], {f"x{i}": (TensorProto.UINT8, shape) for i, shape in enumerate(operands)}, held)
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return m


SHAPE = (2, 12, 5, 6)
MICROSOFT = {
    "add": microsoft("QLinearAdd", [SHAPE, SHAPE]),
    "mul": microsoft("QLinearMul", [SHAPE, (12, 1, 1)]),
    "sigmoid": microsoft("QLinearSigmoid", [SHAPE]),
    "leaky relu": microsoft("QLinearLeakyRelu", [SHAPE], alpha=0.2),
    "global pool": microsoft("QLinearGlobalAveragePool", [SHAPE]),
    "average pool": microsoft("QLinearAveragePool", [SHAPE], kernel_shape=[3, 2], strides=[2, 1]),
    "softmax": microsoft("QLinearSoftmax", [(4, 9)], axis=-1, opset=13),
    "concat": microsoft("QLinearConcat", [SHAPE, SHAPE], first=True, axis=1),
}


@pytest.mark.parametrize("what", MICROSOFT)
def test_operators_of_onnx_runtime(what: str) -> None:
    m = MICROSOFT[what]
    given = data(m)
    got, want = convc.compile(m)(*given.values()).astype(int), run_onnxruntime(m, given)[0]
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1
    assert (got != want).mean() < 0.02


@pytest.mark.parametrize("quantized", [True, False])
def test_matrix_product_of_onnx_runtime(quantized: bool) -> None:
    rng = np.random.default_rng(0)
    held = {
        "xs": np.float32(0.02), "xz": np.uint8(99), "w": rng.integers(-127, 128, (5, 16)).astype(np.int8),
        "wz": np.zeros(5, np.int8),
        "ws": rng.uniform(0.001, 0.01, 5).astype(np.float32), "b": rng.integers(-999, 999, 5).astype(np.int32),
        "ys": np.float32(0.1), "yz": np.uint8(128),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "b", *(["ys", "yz"] if quantized else [])]
    node = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=1)
    m = model([node], {"x": (TensorProto.UINT8, [3, 16])}, held)
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    given = data(m)
    got, want = convc.compile(m)(*given.values()), run_onnxruntime(m, given)[0]
    np.testing.assert_allclose(got.astype(np.float32), want, atol=1 if quantized else 1e-5)


SCALE = {"s": np.float32(0.037), "z": np.uint8(90)}


def again(*nodes: onnx.NodeProto, last: tuple[str, str] = ("s", "z"), **held: Any) -> onnx.ModelProto:
    """A model that dequantizes a tensor, computes ``m`` from it by some nodes, and quantizes ``m``."""
    before = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"])
    after = helper.make_node("QuantizeLinear", ["m", *last], ["y"])
    return model([before, *nodes, after], {"x": (TensorProto.UINT8, [1, 8, 6, 4])}, SCALE | held)


def node(op: str, inputs: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), ["m"], **attrs)


OTHER = {"t": np.float32(0.05), "u": np.uint8(3)}
MOVED = {
    "nothing": (again(node("Identity", "f")), set()),
    "reshape": (again(node("Reshape", "f shape"), shape=np.array([2, 4, 24])), {"reshape"}),
    "transpose": (again(node("Transpose", "f", perm=[0, 2, 3, 1])), {"transpose"}),
    "max pool": (again(node("MaxPool", "f", kernel_shape=[3, 3], pads=[1, 1, 1, 1])), {"max_pool"}),
    "by another scale": (
        again(node("Transpose", "f", perm=[0, 2, 3, 1]), last=("t", "u"), **OTHER),
        {"dequantize", "transpose", "quantize"},
    ),
    "arithmetic": (again(node("Relu", "f")), {"dequantize", "relu", "quantize"}),
    "joined with another scale": (
        again(
            helper.make_node("DequantizeLinear", ["x", "t", "u"], ["g"]), node("Concat", "f g", axis=1), **OTHER
        ),
        {"concat", "dequantize", "quantize"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MOVED)
def test_what_is_moved_stays_quantized(what: str) -> None:
    m, ops = MOVED[what]
    assert {op.name for op in nodes_of(m, DOTS)} == (ops or {"identity"})
    x = np.arange(192, dtype=np.uint8).reshape(1, 8, 6, 4) + np.uint8(64)
    np.testing.assert_array_equal(convc.compile(m)(x), run_onnxruntime(m, {"x": x}, optimized=False)[0])


@pytest.mark.parametrize("scale", [0.037, 1e-3, 0.1, 3.0, 1e-20, 1e20])
def test_every_integer_comes_back(scale: float) -> None:
    """Quantizing undoes dequantizing for every 8-bit number and zero point, also with ONNX Runtime's rounding."""
    x = np.arange(256, dtype=np.uint8)
    for zero in (0, 1, 128, 255):
        f = (x.astype(np.int32) - zero).astype(np.float32) * np.float32(scale)
        np.testing.assert_array_equal(np.rint(f / np.float32(scale)) + zero, x)


def quantize(scale: float, zero: int, count: int) -> onnx.ModelProto:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    return model([node], {"x": (TensorProto.FLOAT, [count])}, {"s": np.float32(scale), "z": np.uint8(zero)})


@pytest.mark.parametrize("target", ["native", "x86-64-v2", "x86-64-v3"])
def test_division_by_a_constant_scale_is_rounded_once(target: str) -> None:
    """Division by a constant scale rounds like division at every tie and beside it, for scales of any mantissa."""
    rng = np.random.default_rng(0)
    scales = [
        1.0,
        0.5,
        0.1,
        1 / 3,
        3e-5,
        7e11,
        2.0**-59,
        *rng.uniform(0.5, 1, 12),
        np.nextafter(np.float32(2), np.float32(0)),
    ]
    for scale in map(np.float32, scales):
        ties = ((np.arange(-300, 300) + 0.5) * np.float64(scale)).astype(np.float32)
        beside = [ties]
        for _ in range(3):
            beside += [np.nextafter(beside[-1], np.float32(np.inf)), np.nextafter(beside[0], np.float32(-np.inf))]
        extremes = np.array([np.inf, -np.inf, 3e38, -3e38, 0, -0.0, 1e-40], np.float32)
        x = np.concatenate([*beside, rng.normal(0, 200, 5000).astype(np.float32) * scale, extremes])
        for zero in (0, 131):
            got = convc.compile(quantize(scale, zero, len(x)), target=target)(x)
            with np.errstate(over="ignore"):
                want = np.clip(np.rint(x / scale) + np.float32(zero), 0, 255)
            np.testing.assert_array_equal(got, want.astype(np.uint8))


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize(("images", "channels"), [(1, 0), (0, 4)])
def test_nothing_to_sum(target: str, images: int, channels: int) -> None:
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"])
    m = model(
        [node], {"x": (TensorProto.UINT8, [images, channels, 5, 5])}, {"w": np.ones((4, channels, 3, 3), np.int8)}
    )
    got = convc.compile(m, target=target)(np.zeros((images, channels, 5, 5), np.uint8))
    np.testing.assert_array_equal(got, np.zeros((images, 4, 3, 3), np.int32))


WIDE = {np.int32: 1 << 31, np.int64: 1 << 63, np.uint32: 1 << 32, np.uint64: 1 << 64}
"""The wide integers, with the number of values above zero."""


@pytest.mark.parametrize("second", [Add, Sub, Mul], ids=lambda op: op.name)
@pytest.mark.parametrize("first", [Add, Sub, Mul], ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", WIDE, ids=lambda d: d.__name__)
def test_overflow_wraps_around(dtype: type[np.integer], first: type[Op], second: type[Op]) -> None:
    """TVM and LLVM must not compute with the constants as if no result left the dtype."""
    functions: dict[type[Op], Callable[..., np.ndarray]] = {Add: np.add, Sub: np.subtract, Mul: np.multiply}
    x = np.array([1, 2, 3, 5, 8, 13, 21], dtype)
    b = Builder("wraps")
    outputs, wants = [], []
    value = b.input("x", type_of(x))
    for factor in (WIDE[dtype] - 1, WIDE[dtype] // 2 + 3, 100_000):
        c = np.array(factor, dtype)
        y = b.emit(second(), b.emit(first(), value, b.constant(c)), b.constant(c))
        outputs.append(y)
        with np.errstate(over="ignore"):
            wants.append(functions[second](functions[first](x, c), c))
    got = convc.compile(b.finish(outputs), cache=False)(x)
    for made, want in zip(got, wants, strict=True):
        np.testing.assert_array_equal(made, want)


def powers(x: np.ndarray) -> np.ndarray:
    return x * x * x


FUNCTIONS: dict[str, tuple[list[str], dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "Neg": (["x"], {}, np.negative),
    "Abs": (["x"], {}, np.abs),
    "Pow": (["x", "three"], {}, powers),
    "Div": (["x", "minus"], {}, np.negative),
    "CumSum": (["x", "axis"], {"exclusive": 0}, lambda x: np.cumsum(x, 1, dtype=x.dtype)),
    "ReduceSum": (["x", "axes"], {}, lambda x: x.sum(1, keepdims=True, dtype=x.dtype)),
    "ReduceProd": (["x", "axes"], {}, lambda x: x.prod(1, keepdims=True, dtype=x.dtype)),
    "ReduceSumSquare": (["x", "axes"], {}, lambda x: (x * x).sum(1, keepdims=True, dtype=x.dtype)),
    "ReduceL1": (["x", "axes"], {}, lambda x: np.abs(x).sum(1, keepdims=True, dtype=x.dtype)),
    "MatMul": (["x", "square"], {}, lambda x: x @ np.array([[3, 1], [5, 7]], x.dtype)),
    "Gemm": (["x", "square", "x"], {}, lambda x: x @ np.array([[3, 1], [5, 7]], x.dtype) + x),
    "Einsum": (["x", "square"], {"equation": "ij,jk->ik"}, lambda x: x @ np.array([[3, 1], [5, 7]], x.dtype)),
    "ScatterElements": (["x", "here", "x"], {"axis": 1, "reduction": "mul"}, lambda x: x * x),
    "ScatterND": (["x", "rows", "x"], {"reduction": "add"}, lambda x: x + x),
}


@pytest.mark.parametrize("dtype", [np.int32, np.int64], ids=lambda d: d.__name__)
def test_what_an_op_computes_wraps_around(dtype: type[np.integer]) -> None:
    """Another op that reads it must not take it for larger than the dtype holds, or for positive."""
    info = np.iinfo(dtype)
    low, high, half = info.min, info.max, info.max // 2 + 1
    x = np.array([[1, 2], [low, high], [low, low], [high, 1], [high, high], [half, half], [123_456, -99_999]], dtype)
    held = {
        "three": np.array(3, dtype), "minus": np.array(-1, dtype), "zero": np.array(0, dtype),
        "axis": np.array(1), "axes": np.array([1]), "square": np.array([[3, 1], [5, 7]], dtype),
        "here": np.tile(np.arange(2), (len(x), 1)), "rows": np.arange(len(x))[:, None],
    }  # fmt: skip
    nodes, outputs, wants = [], [], []
    for op, (inputs, attributes, function) in FUNCTIONS.items():
        with np.errstate(over="ignore"):
            y = function(x)
        for name, second, operands, want in (
            ("positive", "Greater", ["zero"], y > 0),
            ("larger", "Greater", ["larger"], y > x),
            ("wide", "Cast", [], y.astype(np.int64)),
        ):
            to = {"to": TensorProto.INT64} if second == "Cast" else {}
            own = [name if i == "x" else i for i in inputs]  # so that no two nodes are one, which would be stored
            nodes.append(helper.make_node(op, own, [f"{op} {name} y"], **attributes))
            nodes.append(helper.make_node(second, [f"{op} {name} y", *operands], [f"{op} {name}"], **to))
            outputs.append(f"{op} {name}")
            wants.append(want)
    given = dict.fromkeys(["positive", "larger", "wide"], x)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    m = models.model(
        nodes, dict.fromkeys(given, (kind, list(x.shape))), dict.fromkeys(outputs), held, opset=18, ir_version=10
    )
    made = convc.compile(m, threads=1, cache=False).run(given)
    wrong = [name for name, want in zip(outputs, wants, strict=True) if not np.array_equal(made[name], want)]
    assert wrong == []
