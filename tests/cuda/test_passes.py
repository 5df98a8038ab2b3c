"""The passes for GPUs: channels-last layouts, and float16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from support import small_models
from support.graphs import graph, ops, weights
from support.oracles import run_onnxruntime
from support.tolerances import GPU_NETWORKS, TOLERANCES, assert_close

import convc
from convc.backends.cuda.layouts import ChannelsLast
from convc.backends.cuda.passes.convert_precision import convert_precision
from convc.ir.graph import Graph
from convc.ir.ops.cast import Cast
from convc.ir.passes.assign_layouts import assign_layouts
from convc.ir.passes.pack_dense import pack_dense
from convc.ir.text import print_graph
from convc.ir.verify import verify
from convc.reader import as_graph

LAYOUTS = ChannelsLast()


def layouts_of(g: Graph, op: str) -> list[str]:
    """The layouts of the operands and the result of the only node of an op."""
    (node,) = (n for n in g.nodes if n.op.name == op)
    return [str(v.type.layout or "") for v in (*node.inputs, node.output)]


def test_data_is_converted_on_the_way_in_and_out_alone() -> None:
    text = (
        "%a: f32[1,32,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\n%b: f32[1,32,8,8] = relu(%a)\n"
        "%c: f32[1,32,4,4] = max_pool(%b) {kernel=[2,2], strides=[2,2]}\n"
        "%d: f32[1,32,4,4] = softmax(%c) {axis=1}\n%e: f32[1,32,4,4] = conv(%d, %w) {pads=[[1,1],[1,1]]}\nreturn %e"
    )
    placed = assign_layouts(graph(text, w=weights(32, 32, 3, 3)), LAYOUTS)
    verify(placed)
    data = [n for n in placed.nodes if n.op.name == "relayout" and n.inputs[0].name not in placed.constants]
    assert [str(n.output.type.layout) for n in data] == ["NHWC", "None"]
    assert layouts_of(placed, "softmax") == layouts_of(placed, "max_pool") == ["NHWC", "NHWC"]


@pytest.mark.parametrize(("shape", "layout"), [((6, 4, 3), "WIO"), ((6, 4, 3, 3), "HWIO"), ((6, 4, 1, 2, 3), "DHWIO")])
def test_every_convolution_is_channels_last(shape: tuple[int, ...], layout: str) -> None:
    """Small and grouped convolutions, of one to three dimensions, are held channels last."""
    spatial, kernel = ",".join("9" * (len(shape) - 2)), shape[2:]
    out = ",".join(str(9 - k + 1) for k in kernel)
    text = f"%y: f32[1,6,{out}] = conv(%x, %w) {{group=2}}\nreturn %y"
    placed = assign_layouts(graph(text, f"%x: f32[1,8,{spatial}]", w=weights(*shape)), LAYOUTS)
    data = "N" + layout[:-2] + "C"
    assert layouts_of(placed, "conv") == [data, layout, data]


def test_the_first_convolution_reads_an_image_as_it_is() -> None:
    text = "%y: f32[1,32,6,6] = conv(%x, %w)\nreturn %y"
    placed = assign_layouts(graph(text, "%x: f32[1,3,8,8]", w=weights(32, 3, 3, 3)), LAYOUTS)
    assert layouts_of(placed, "conv") == ["", "HWIO", "NHWC"]


def test_a_transposed_convolution_between_others() -> None:
    text = (
        "%a: f32[1,32,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\n"
        "%b: f32[1,16,16,16] = conv_transpose(%a, %v) {strides=[2,2]}\n%y: f32[1,16,16,16] = relu(%b)\nreturn %y"
    )
    placed = assign_layouts(graph(text, w=weights(32, 32, 3, 3), v=weights(32, 16, 2, 2)), LAYOUTS)
    assert layouts_of(placed, "conv_transpose") == ["NHWC", "HWAB", "NHWC"]


def test_a_gate_is_not_converted() -> None:
    text = (
        "%a: f32[1,32,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\n%g: f32[1,32,1,1] = global_average_pool(%a)\n"
        "%s: f32[1,32,1,1] = sigmoid(%g)\n%m: f32[1,32,8,8] = mul(%a, %s)\n%n: f32[1,32,8,8] = mul(%m, %k)\n"
        "%y: f32[1,32,8,8] = conv(%n, %w) {pads=[[1,1],[1,1]]}\nreturn %y"
    )
    placed = assign_layouts(graph(text, w=weights(32, 32, 3, 3), k=weights(1, 32, 1, 1)), LAYOUTS)
    assert ops(placed).count("relayout") == 3  # input, output, and the weight that both convolutions share


def test_dense_weights_have_their_outputs_innermost() -> None:
    text = "%y: f32[4,48] = gemm(%x, %w) {trans_b=true}\n%z: f32[4,48] = matmul(%x, %v)\nreturn %y, %z"
    packed = pack_dense(graph(text, "%x: f32[4,32]", w=weights(48, 32), v=weights(32, 48)), LAYOUTS)
    assert ops(packed) == ["relayout", "gemm", "matmul"]
    assert str(packed.nodes[0].output.type.layout) == "BA"


# -- float16 -----------------------------------------------------------------------------------------------------------


def dtypes(g: Graph) -> list[tuple[str, str]]:
    """Each node other than a cast, with the dtype of its result."""
    return [(n.op.name, n.output.type.dtype) for n in g.nodes if not isinstance(n.op, Cast)]


def test_constants_are_rounded_and_callers_see_their_own_types() -> None:
    text = "%a: f32[1,8,8,8] = conv(%x, %w)\n%y: f32[1,8,8,8] = relu(%a)\nreturn %a, %y"
    w = weights(8, 32, 1, 1)
    made = convert_precision(graph(text, w=w))
    assert dtypes(made) == [("conv", "f16"), ("relu", "f16")]
    assert [v.type.dtype for v in (*made.inputs, *made.outputs)] == ["f32"] * 3
    assert [n.inputs[0].name for n in made.nodes if isinstance(n.op, Cast)] == ["x", "a", "y"]
    (held,) = made.constants.values()
    np.testing.assert_array_equal(held.array, w.astype(np.float16))


def test_a_constant_too_large_keeps_its_op_in_float32() -> None:
    text = "%a: f32[1,32,8,8] = mul(%x, %k)\n%b: f32[1,32,8,8] = relu(%a)\n%y: f32[1,8,8,8] = conv(%b, %w)\nreturn %y"
    made = convert_precision(graph(text, w=weights(8, 32, 1, 1), k=np.full(1, 7e4, np.float32)))
    assert dtypes(made) == [("mul", "f32"), ("relu", "f32"), ("conv", "f16")]


def test_infinite_constants_are_representable() -> None:
    text = "%a: f32[1,32,8,8] = max(%x, %k)\nreturn %a"
    assert dtypes(convert_precision(graph(text, k=np.full(1, -np.inf, np.float32)))) == [("max", "f16")]


def test_a_softmax_spelt_out_is_computed_in_float32_up_to_the_product() -> None:
    text = (
        "%s: f32[32,8] = matmul(%x, %w)\n%e: f32[32,8] = exp(%s)\n%t: f32[32,1] = reduce_sum(%e) {axes=[1]}\n"
        "%p: f32[32,8] = div(%e, %t)\n%r: f32[8,32] = transpose(%p) {perm=[1,0]}\n"
        "%y: f32[8,8] = matmul(%r, %s)\nreturn %y"
    )
    made = convert_precision(graph(text, "%x: f32[32,16]", w=weights(16, 8)))
    assert [d for _, d in dtypes(made)] == ["f16", "f32", "f32", "f32", "f32", "f16"]


def test_what_is_no_float32_stays() -> None:
    text = '%i: i64[4] = cast(%x) {to="i64"}\n%d: f64[4] = cast(%x) {to="f64"}\n%r: f64[4] = relu(%d)\nreturn %i, %r'
    g = graph(text, "%x: f32[4]")
    assert print_graph(convert_precision(g)) == print_graph(g)


def test_sums_are_kept_in_float32() -> None:
    """Sums stay in float32. In float16 a sum of ones stops at 2048."""
    text = (
        "%y: f32[1,2,1,1] = global_average_pool(%x)\n"
        "%z: f32[1,2] = reduce_mean(%x) {axes=[2,3], keepdims=false}\nreturn %y, %z"
    )
    made = convert_precision(graph(text, "%x: f32[1,2,300,300]"))
    assert dtypes(made) == [("global_average_pool", "f16"), ("reduce_mean", "f16")]
    for y in convc.compile(made)(np.ones((1, 2, 300, 300), np.float32)):
        np.testing.assert_array_equal(y, np.ones_like(y))


def test_a_norm_spelt_out_does_not_overflow() -> None:
    text = (
        "%m: f32[4,1] = reduce_mean(%x) {axes=[1]}\n%d: f32[4,512] = sub(%x, %m)\n%s: f32[4,512] = mul(%d, %d)\n"
        "%v: f32[4,1] = reduce_mean(%s) {axes=[1]}\n%r: f32[4,1] = sqrt(%v)\n%y: f32[4,512] = div(%d, %r)\nreturn %y"
    )
    x = np.random.default_rng(0).normal(0, 1000, (4, 512)).astype(np.float32)
    y = convc.compile(convert_precision(graph(text, "%x: f32[4,512]")))(x)
    assert_close(y, (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True), "norm", TOLERANCES["float16"])


@pytest.mark.parametrize(
    "network", [small_models.attention, small_models.convnext, small_models.resnet, small_models.yolo]
)
def test_networks_in_float16_on_a_cpu(network: Callable[[int, int], onnx.ModelProto]) -> None:
    model = network(1, 8)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    made = convc.compile(convert_precision(as_graph(model))).run({"x": x})
    for got, want in zip(made.values(), run_onnxruntime(model, {"x": x}), strict=True):
        scale = np.abs(want).max()
        assert_close(got / scale, want / scale, model.graph.name, GPU_NETWORKS["fp16"])
