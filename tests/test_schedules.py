"""Schedule rules: that each fires where it should, gives what ONNX Runtime gives, and the same bits on any number of threads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from oracles import run_onnxruntime
from tolerances import assert_close

import convc
from convc.backends.build import schedule
from convc.backends.group import Group
from convc.backends.target import X86_LEVELS, host_target, parse_target
from convc.ir.builder import Builder
from convc.ir.op import f32
from convc.ir.ops.unary import Relu

# channels in, out, kernel, stride, size, pad, dilation, groups; the rule expected
CONVOLUTIONS = [
    ((3, 24, 3, 2, 33, 1, 1, 1), "direct_conv"),  # an image, read as it is
    ((1, 20, 5, 1, 28, 0, 1, 1), "direct_conv"),
    ((64, 40, 1, 1, 13, 0, 1, 1), "direct_conv"),
    ((24, 58, 1, 1, 29, 0, 1, 1), "direct_conv"),  # neither channels fill their blocks, nor pixels a tile
    ((32, 32, 3, 2, 35, 0, 1, 1), "direct_conv"),
    ((32, 48, 3, 1, 17, 2, 2, 1), "direct_conv"),
    ((16, 16, 5, 1, 9, 2, 1, 1), "direct_conv"),
    ((64, 128, 3, 1, 14, 1, 1, 2), "direct_conv"),  # whole blocks a group
    ((40, 40, 3, 1, 7, 1, 1, 5), "direct_conv"),  # eight channels a group
    ((12, 12, 3, 2, 9, 1, 1, 6), "direct_conv"),
    ((64, 64, 3, 1, 56, 1, 1, 1), "winograd"),
    ((80, 96, 3, 1, 35, 1, 1, 1), "winograd"),  # tiles hang over the edge
    ((32, 48, 3, 1, 13, 0, 1, 1), "winograd"),
    ((256, 256, 3, 1, 14, 1, 1, 1), "winograd"),  # work shared out by channels
    ((58, 58, 3, 1, 28, 1, 1, 58), "depthwise_conv"),
    ((96, 96, 3, 2, 57, 1, 1, 96), "depthwise_conv"),
    ((40, 40, 5, 1, 14, 2, 1, 40), "depthwise_conv"),
    ((32, 32, 7, 1, 11, 3, 1, 32), "depthwise_conv"),
    ((32, 32, 3, 1, 15, 2, 2, 32), "depthwise_conv"),
]
EPILOGUES = ["", "Relu", "Tanh", "residual"]


def convolution(config: tuple[int, ...], epilogue: str, bias: bool) -> onnx.ModelProto:
    i, o, k, s, size, pad, dilation, group = config
    rng = np.random.default_rng(sum(config))
    w = (rng.standard_normal((o, i // group, k, k)) / np.sqrt(i // group * k * k)).astype(np.float32)
    initializers = [numpy_helper.from_array(w, "w")]
    if bias:
        initializers.append(numpy_helper.from_array(rng.standard_normal(o).astype(np.float32), "b"))
    inputs = [helper.make_tensor_value_info("x", 1, [2, i, size, size])]
    attrs = {"strides": [s, s], "pads": [pad] * 4, "dilations": [dilation] * 2, "group": group}
    nodes = [helper.make_node("Conv", ["x", "w", *["b"] * bias], ["c" if epilogue else "y"], name="conv", **attrs)]
    if epilogue == "residual":
        out = (size + 2 * pad - dilation * (k - 1) - 1) // s + 1
        inputs.append(helper.make_tensor_value_info("r", 1, [2, o, out, out]))
        nodes += [helper.make_node("Add", ["c", "r"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    elif epilogue:
        nodes.append(helper.make_node(epilogue, ["c"], ["y"]))
    outputs = [helper.make_tensor_value_info("y", 1, ["n", "c", "h", "w"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}


@pytest.mark.parametrize(
    ("config", "rule"), CONVOLUTIONS, ids=lambda c: "x".join(map(str, c)) if isinstance(c, tuple) else c
)
def test_convolution(config: tuple[int, ...], rule: str) -> None:
    for n, epilogue in enumerate(EPILOGUES):
        model = convolution(config, epilogue, bias=n % 2 == 1)
        feeds = feeds_of(model)
        compiled = convc.compile(model, threads=2)
        assert rule in {k.rule for k in compiled.kernels}
        assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{config} {epilogue}")


@pytest.mark.parametrize("config", [c for c, rule in CONVOLUTIONS if rule == "winograd"])
def test_strict_precision_uses_no_winograd(config: tuple[int, ...]) -> None:
    model = convolution(config, "Relu", bias=True)
    feeds = feeds_of(model)
    compiled = convc.compile(model, precision="strict")
    assert "winograd" not in {k.rule for k in compiled.kernels}
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], str(config))


@pytest.mark.parametrize("config", [c for c, _ in CONVOLUTIONS])
def test_same_bits_on_any_number_of_threads(config: tuple[int, ...]) -> None:
    model = convolution(config, "Relu", bias=True)
    feeds = feeds_of(model)
    one, two = (convc.compile(model, threads=t).run(feeds)["y"] for t in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("rows", [1, 7, 16, 49, 197])
@pytest.mark.parametrize(("inner", "columns"), [(30, 10), (100, 97), (64, 500), (256, 128)])
def test_dense(rows: int, inner: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    w = (rng.standard_normal((columns, inner)) / np.sqrt(inner)).astype(np.float32)
    b = rng.standard_normal(columns).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1), helper.make_node("Tanh", ["g"], ["y"])]
    shapes = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [rows, inner]), ("y", [rows, columns]))]
    graph = helper.make_graph(
        nodes, "g", shapes[:1], shapes[1:], [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = feeds_of(model)
    compiled = convc.compile(model, threads=2)
    assert [k.rule for k in compiled.kernels if k.rule != "fallback"] == ["dense"]
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{rows} {inner} {columns}")


@pytest.mark.parametrize("level", X86_LEVELS)
def test_older_processors(level: str) -> None:
    """The same networks for narrower vectors and fewer registers."""
    if not host_target().triple.startswith("x86_64"):
        pytest.skip("levels of x86-64")
    try:
        parse_target(level)
    except convc.CompileError as e:
        pytest.skip(str(e))
    for config in ((64, 64, 3, 1, 28, 1, 1, 1), (24, 58, 1, 1, 29, 0, 1, 1), (58, 58, 3, 1, 28, 1, 1, 58)):
        model = convolution(config, "Tanh", bias=True)
        feeds = feeds_of(model)
        assert_close(
            convc.compile(model, target=level).run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{level} {config}"
        )


@pytest.mark.parametrize(("size", "shared"), [(8, False), (64, True)])
def test_only_kernels_worth_it_are_shared_out(size: int, shared: bool) -> None:
    b = Builder("relu")
    graph = b.finish([b.emit(Relu(), b.input("x", f32[1, 64, size, size]))])
    func, _ = schedule(Group.of(graph.nodes[0]), host_target())
    assert ("T.parallel" in func.script()) == shared
