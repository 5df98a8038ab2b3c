"""Schedule rules on open sizes: one kernel gives what a kernel of each size gives, and what ONNX Runtime gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from emulator.check import assert_padding_is_zero, logical, physical, plain, random_inputs
from support import small_models
from support.open_kernels import OpenKernel
from support.open_sizes import opened
from support.oracles import run_onnxruntime
from support.tolerances import WINOGRAD, assert_close

from convc.backends.cpu.codegen import schedule
from convc.backends.cpu.lower import generate, lower
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import host_target
from convc.backends.kernels import distinct
from convc.ir.assumptions import Assumptions
from convc.ir.builder import Builder, infer_types
from convc.ir.graph import Graph, Node, Value
from convc.ir.layout import Layout
from convc.ir.op import Op, f32
from convc.ir.ops.average_pool import AveragePool
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.fused import Fused
from convc.ir.ops.gemm import Gemm
from convc.ir.ops.layer_norm import LayerNorm
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.max_pool import MaxPool
from convc.ir.ops.relayout import Relayout
from convc.ir.ops.select_channels import SelectChannels
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.winograd_conv import WinogradConv, WinogradWeight
from convc.ir.sizes import Dim, at, named
from convc.ir.types import TensorType
from convc.onnx.export import to_onnx
from convc.reader import reader

Operands = Sequence[tuple[Sequence[Dim], str | None]]
"""The shape and the layout of each operand."""

ONE, EIGHT = named("n", typical=1), named("n", typical=8)
TOKENS = named("t", typical=50)


def node_of(op: Op, operands: Operands, **sizes: int) -> Node:
    """A node of these operands, with some of their sizes put in."""
    inputs = [
        Value(f"x{i}", TensorType("f32", tuple(at(d, sizes) for d in shape), Layout(layout) if layout else None))
        for i, (shape, layout) in enumerate(operands)
    ]
    with Assumptions().noted(""):
        types = infer_types(op, tuple(inputs))
    return Node(op, tuple(inputs), tuple(Value(f"y{i}", t) for i, t in enumerate(types)))


def check(rule: str, op: Op, operands: Operands, *sizes: dict[str, int], exact: bool = True) -> None:
    """Compile a node once, by this rule, and compare its result at each of the sizes.

    With ``exact``, the results must have the bits of those of a kernel of that size.
    """
    kernel = OpenKernel(node_of(op, operands))
    assert kernel.rule == rule
    for values in sizes:
        node = node_of(op, operands, **values)
        graph = Graph("g", node.inputs, (node,), node.outputs)
        feeds = random_inputs(graph)
        arrays = [physical(x, v.type) for x, v in zip(feeds, node.inputs, strict=True)]
        (got,) = kernel(values, arrays)
        if exact:
            (same,) = OpenKernel(node)({}, arrays)
            np.testing.assert_array_equal(got, same, err_msg=f"{op.name} at {values}")
        (want,) = run_onnxruntime(to_onnx(plain(graph)), {v.name: x for v, x in zip(node.inputs, feeds, strict=True)})
        assert_close(logical(got, node.output.type), want, f"{op.name} at {values}")
        assert_padding_is_zero(got, node.output.type, f"{op.name} at {values}")


@pytest.mark.parametrize(
    ("op", "operands", "sizes"),
    [
        pytest.param(MatMul(), [((ONE, 256), None), ((256, 100), "BA32b")], [1, 3, 8], id="one row"),
        pytest.param(MatMul(), [((EIGHT, 256), None), ((256, 100), "BA32b")], [8, 9, 23], id="rows"),
        pytest.param(MatMul(), [((EIGHT, 2048), None), ((2048, 64), "BA32b")], [8, 11], id="sums in chunks"),
        pytest.param(MatMul(), [((ONE, 17, 256), None), ((256, 96), "BA32b")], [1, 3], id="batch"),
        pytest.param(MatMul(), [((ONE * 49, 64), None), ((64, 64), "BA32b")], [1, 2], id="rows of windows"),
        pytest.param(
            Gemm(trans_b=True), [((ONE, 256), None), ((100, 256), "AB32a"), ((100,), None)], [1, 5], id="bias"
        ),
    ],
)
def test_dense(op: Op, operands: Operands, sizes: Sequence[int]) -> None:
    check("dense", op, operands, *({"n": n} for n in sizes))


def test_dense_of_open_batch_and_rows() -> None:
    operands = [((ONE, TOKENS, 64), None), ((64, 96), "BA32b")]
    check("dense", MatMul(), operands, {"n": 1, "t": 50}, {"n": 3, "t": 31})


def plane(size: int) -> tuple[Dim, Dim]:
    """A height and a width that are open, of this typical size."""
    return named("h", typical=size), named("w", typical=size)


@pytest.mark.parametrize(
    ("tile", "kernel", "pads", "by_channel", "typical", "sizes"),
    [
        pytest.param((4, 4), (3, 3), ((1, 1), (1, 1)), False, 56, [(1, 56, 56), (2, 9, 59)], id="by rows"),
        pytest.param((4, 4), (3, 3), ((1, 1), (1, 1)), False, 28, [(2, 28, 39)], id="two blocks"),
        pytest.param((5, 4), (3, 3), ((1, 1), (0, 2)), False, 56, [(1, 61, 103)], id="uneven pads"),
        pytest.param((1, 4), (1, 5), ((0, 0), (2, 2)), False, 56, [(2, 3, 57)], id="one axis"),
        pytest.param((4, 4), (3, 3), ((1, 1), (1, 1)), True, 56, [(2, 13, 53)], id="by channel"),
    ],
)
def test_winograd(
    tile: tuple[int, int],
    kernel: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    by_channel: bool,
    typical: int,
    sizes: Sequence[tuple[int, int, int]],
) -> None:
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((56, 32, *kernel)) / 16).astype(np.float32)
    transform = node_of(WinogradWeight(tile, block=16, inner=16, by_channel=by_channel), [(w.shape, None)])
    (u,) = OpenKernel(transform)({}, [w])
    weight = (transform.output.type.shape, str(transform.output.type.layout))
    op = WinogradConv(tile, kernel, (1, 1), pads)
    operands: Operands = [((ONE, 32, *plane(typical)), "NCHW16c"), weight, ((56,), "A16a")]
    made = OpenKernel(node_of(op, operands))
    assert made.rule == "winograd"
    for n, h, wide in sizes:
        values = {"n": n, "h": h, "w": wide}
        node = node_of(op, operands, **values)
        x, b = (rng.standard_normal(s).astype(np.float32) for s in ((n, 32, h, wide), (56,)))
        arrays = [physical(x, node.inputs[0].type), u, physical(b, node.inputs[2].type)]
        (got,) = made(values, arrays)
        (same,) = OpenKernel(node)({}, arrays)
        np.testing.assert_array_equal(got, same)
        conv = node_of(Conv(pads=pads), [(x.shape, None), (w.shape, None), (b.shape, None)])
        graph = to_onnx(Graph("g", conv.inputs, (conv,), conv.outputs))
        (want,) = run_onnxruntime(graph, {"x0": x, "x1": w, "x2": b})
        assert_close(logical(got, node.output.type), want, f"at {values}", WINOGRAD)
        assert_padding_is_zero(got, node.output.type, f"at {values}")


DEPTHWISE = "OIHW16o"
"""The layout of a depthwise weight."""


@pytest.mark.parametrize(
    ("op", "typical", "sizes"),
    [
        pytest.param(Conv(pads=((1, 1), (1, 1)), group=20), 28, [(1, 28, 28), (2, 9, 15)], id="conv"),
        pytest.param(Conv(pads=((1, 1), (1, 1)), strides=(2, 2), group=20), 28, [(1, 28, 28), (2, 9, 27)], id="stride"),
        pytest.param(Conv(pads=((0, 3), (2, 1)), group=20), 14, [(1, 14, 14), (1, 2, 29)], id="uneven pads"),
        pytest.param(Conv(pads=((2, 2), (4, 2)), dilations=(2, 3), group=20), 14, [(1, 9, 17)], id="dilation"),
        pytest.param(Conv(pads=((1, 1), (1, 1)), group=20), 3, [(1, 3, 3), (2, 8, 10)], id="rows in a tile"),
        pytest.param(MaxPool((3, 3), (2, 2), ((1, 1), (1, 1))), 56, [(1, 56, 56), (1, 9, 37)], id="max"),
        pytest.param(MaxPool((3, 3), (2, 2), ceil_mode=True), 56, [(1, 56, 56), (1, 9, 37)], id="max, ceil"),
        pytest.param(AveragePool((3, 3), (1, 1), ((1, 1), (1, 1))), 28, [(1, 28, 28), (2, 9, 15)], id="average"),
        pytest.param(AveragePool((2, 2), (2, 2)), 28, [(1, 28, 28), (2, 9, 31)], id="average, no pads"),
    ],
)
def test_windows(op: Conv | MaxPool | AveragePool, typical: int, sizes: Sequence[tuple[int, int, int]]) -> None:
    operands: Operands = [((ONE, 20, *plane(typical)), "NCHW16c")]
    if isinstance(op, Conv):
        operands = [*operands, ((20, 1, 3, 3), DEPTHWISE)]
    rule = "depthwise_conv" if isinstance(op, Conv) else "pool"
    check(rule, op, operands, *({"n": n, "h": h, "w": w} for n, h, w in sizes))


def test_window_of_many_taps() -> None:
    """Taps are not unrolled here, so each of them is tested."""
    op = Conv(pads=((3, 3), (3, 3)), group=16)
    operands: Operands = [((ONE, 16, *plane(14)), "NCHW16c"), ((16, 1, 7, 7), DEPTHWISE)]
    check("depthwise_conv", op, operands, {"n": 1, "h": 14, "w": 14}, {"n": 2, "h": 3, "w": 17})


def test_few_taps_are_tested() -> None:
    """Of a row of pixels, the first and the last can read beyond the border, and the middle row of taps cannot."""
    op = Conv(pads=((1, 1), (1, 1)), group=16)
    kernel = OpenKernel(node_of(op, [((ONE, 16, *plane(56)), "NCHW16c"), ((16, 1, 3, 3), DEPTHWISE)]))
    body = next(str(f) for g, f in kernel.lowered.functions.items() if g.name_hint == "convc_kernel_body")
    assert body.count("if_then_else") == 6  # the first and the last pixel of three rows of taps
    assert body.count("\n            if ") == 2  # the upper and the lower row


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        pytest.param((ONE, TOKENS), [{"n": 1, "t": 50}, {"n": 2, "t": 13}], id="rows"),
        pytest.param((ONE, 17), [{"n": 1}, {"n": 3}], id="batch"),
        pytest.param((ONE, *plane(14)), [{"n": 2, "h": 3, "w": 9}], id="planes"),
    ],
)
def test_layer_norm(rows: Sequence[Dim], sizes: Sequence[dict[str, int]]) -> None:
    check("layer_norm", LayerNorm(), [((*rows, 96), None), ((96,), None), ((96,), None)], *sizes)


@pytest.mark.parametrize("back", [False, True])
def test_layer_norm_of_blocked_planes(back: bool) -> None:
    """Rows are gathered from planes in blocks of channels, and with ``back``, written to such planes again."""

    def fused(data: TensorType) -> Node:
        b = Builder("g")
        x, scale, offset = b.input("x0", data), b.input("x1", f32[32]), b.input("x2", f32[32])
        y = b.emit(LayerNorm(), b.emit(Transpose((0, 2, 3, 1)), b.emit(Relayout(""), x)), scale, offset)
        y = b.emit(Relayout("NCHW16c"), b.emit(Transpose((0, 3, 1, 2)), y)) if back else y
        body = b.finish([y])
        return Node(Fused(body), tuple(body.inputs), tuple(body.outputs))

    data = TensorType("f32", (ONE, 32, *plane(14)), Layout("NCHW16c"))
    with Assumptions().noted(""):
        kernel = OpenKernel(fused(data))
    assert kernel.rule == "layer_norm"
    values = {"n": 2, "h": 3, "w": 19}
    node = fused(data.with_shape([at(d, values) for d in data.shape]))
    rng = np.random.default_rng(0)
    x, scale, offset = (rng.standard_normal(s).astype(np.float32) for s in ((2, 32, 3, 19), (32,), (32,)))
    arrays = [physical(x, node.inputs[0].type), scale, offset]
    (got,) = kernel(values, arrays)
    np.testing.assert_array_equal(got, OpenKernel(node)({}, arrays)[0])
    rows = x.transpose(0, 2, 3, 1).astype(np.float64)
    want = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5) * scale + offset
    want = want.transpose(0, 3, 1, 2) if back else want
    assert_close(logical(got, node.output.type), want.astype(np.float32), f"back: {back}")


@pytest.mark.parametrize(
    ("op", "channels"),
    [
        pytest.param(Concat(1), (20, 24, 30), id="concat"),
        pytest.param(SelectChannels(tuple(i // 2 + 20 * (i % 2) for i in range(40))), (20, 20), id="shuffle"),
    ],
)
def test_select_channels(op: Op, channels: Sequence[int]) -> None:
    operands: Operands = [((ONE, c, *plane(14)), "NCHW16c") for c in channels]
    check("select_channels", op, operands, {"n": 1, "h": 14, "w": 14}, {"n": 3, "h": 2, "w": 1})


def test_parts_of_parallel_loops_know_all_extents() -> None:
    """The shapes of tensors name extents that no index of a channel shuffle does."""
    s = small_models.Sketch("shuffle", (1, 32, 12, 12))
    x = s.concat(s.conv("x", 58), s.conv("x", 58))
    x = s.reshape(s.node("Transpose", s.reshape(x, 1, 2, 58, 12, 12), perm=[0, 2, 1, 3, 4]), 1, 116, 12, 12)
    model = opened(s.unchecked(s.conv(s.node("Relu", x, channels=116), 32)), ("n", 32, "h", "w"))
    graph = reader(model).whole()
    assert graph is not None
    machine = host_target()
    for d in distinct(pipeline(machine.machine).run(graph)):
        func, _ = schedule(d.group, machine, shared=True)
        generate(lower(func, "convc_kernel", machine), machine)
