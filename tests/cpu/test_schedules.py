"""Schedule rules.

Each rule fires where it should, agrees with ONNX Runtime, and gives the same bits on any number of threads.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper
from support import models
from support.compiling import compiled as compiled_for
from support.convolutions import Config, convolution, feeds_of
from support.machines import (
    AVX2,
    AVX512,
    AVX512_TWICE,
    MACHINES,
    on_machines,
    rules_on,
    run_on,
    skip_unless_it_runs,
)
from support.oracles import Feeds, run_onnxruntime
from support.tolerances import WINOGRAD, assert_close

from convc import nn
from convc.backends.cpu.build import build
from convc.backends.cpu.codegen import schedule
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import X86_LEVELS, Target, host_target, parse_target
from convc.backends.cpu.variants import scheduled_as
from convc.backends.group import Group
from convc.ir.builder import Builder
from convc.ir.op import REGISTRY, f32
from convc.ir.ops.binary import Mul
from convc.ir.ops.clip import Clip
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.unary import Relu
from convc.ir.types import TensorType
from convc.reader import as_graph

HALF_BLOCKS = {AVX2: "direct_conv", AVX512: "direct_conv", AVX512_TWICE: "grouped_conv"}
"""The rule for 40 channels in groups of eight, by machine.

Where vectors of eight reach the full rate, the channels are held in blocks of eight, each of which is a group. On
other machines a group is half a block.
"""
# the expected rule, or the one on each machine
CONVOLUTIONS: list[tuple[Config, str | dict[Target, str]]] = [
    ((3, 24, 3, 2, 33, 1, 1, 1), "direct_conv"),  # an image, which is read row-major
    ((1, 20, 5, 1, 28, 0, 1, 1), "direct_conv"),
    ((64, 40, 1, 1, 13, 0, 1, 1), "direct_conv"),
    ((24, 58, 1, 1, 29, 0, 1, 1), "direct_conv"),
    ((58, 24, 1, 1, 29, 0, 1, 1), "direct_conv"),
    ((120, 40, 1, 1, 28, 0, 1, 1), "direct_conv"),  # channels fill no block, and pixels no tile
    ((32, 32, 3, 2, 35, 0, 1, 1), "direct_conv"),
    ((32, 48, 3, 1, 17, 2, 2, 1), "direct_conv"),
    ((16, 16, 5, 2, 9, 2, 1, 1), "direct_conv"),
    ((64, 128, 3, 1, 14, 1, 1, 2), "direct_conv"),  # whole blocks a group
    ((48, 48, 3, 1, 7, 1, 1, 6), "grouped_conv"),  # eight channels a group
    ((40, 40, 3, 1, 7, 1, 1, 5), HALF_BLOCKS),
    ((12, 12, 3, 2, 9, 1, 1, 6), "grouped_conv"),
    ((48, 48, (3, 5), 1, 9, (1, 2), 1, 12), "grouped_conv"),
    ((64, 64, 3, 1, 56, 1, 1, 1), "winograd"),
    ((80, 96, 3, 1, 35, 1, 1, 1), "winograd"),  # tiles extend beyond the edge
    ((32, 48, 3, 1, 13, 0, 1, 1), "winograd"),
    ((256, 256, 3, 1, 14, 1, 1, 1), "winograd"),  # channels are shared out among threads
    ((48, 64, 5, 1, 19, 2, 1, 1), "winograd"),
    ((64, 48, (1, 7), 1, 17, (0, 3), 1, 1), "winograd"),
    ((48, 64, (7, 1), 1, 17, (3, 0), 1, 1), "winograd"),
    ((64, 80, (3, 1), 1, 8, (1, 0), 1, 1), "winograd"),
    ((24, 40, 3, 1, 30, 1, 1, 1), "winograd"),  # half blocks
    ((20, 50, 5, 1, 12, 0, 1, 1), "winograd"),
    ((3, 64, 7, 2, 64, 3, 1, 1), "winograd"),  # the phases of an image
    ((3, 48, 11, 4, 67, 2, 1, 1), "winograd"),
    ((512, 512, 3, 1, 7, 1, 1, 1), "winograd"),  # tiles of another size along each axis
    ((58, 58, 3, 1, 28, 1, 1, 58), "depthwise_conv"),
    ((96, 96, 3, 2, 57, 1, 1, 96), "depthwise_conv"),
    ((40, 40, 5, 1, 14, 2, 1, 40), "depthwise_conv"),
    ((32, 32, 7, 1, 11, 3, 1, 32), "depthwise_conv"),
    ((32, 32, 3, 1, 15, 2, 2, 32), "depthwise_conv"),
    ((16, 16, 3, 1, 16, 1, 1, 16), "depthwise_conv"),  # one block, cut into bands for two threads
    ((16, 16, 3, 2, 30, 0, 1, 16), "depthwise_conv"),  # no padding, but a last tile that extends beyond the edge
    ((16, 16, 5, 1, 3, 2, 1, 16), "depthwise_conv"),  # windows wider than the plane
    ((16, 16, 9, 3, 11, 4, 1, 16), "depthwise_conv"),
]
EPILOGUES = ["", "Relu", "Tanh", "residual"]


def name_of(config: Config) -> str:
    return "x".join(map(str, config))


CONFIGS = [config for config, _ in CONVOLUTIONS]
every_convolution = pytest.mark.parametrize("config", CONFIGS, ids=name_of)
WINOGRADS = [config for config, rule in CONVOLUTIONS if rule == "winograd"]


def check(config: Config, epilogue: str, got: np.ndarray, model: onnx.ModelProto, feeds: Feeds) -> None:
    tolerance = WINOGRAD if config in WINOGRADS else None
    assert_close(got, run_onnxruntime(model, feeds)[0], f"{config} {epilogue}", tolerance)


@on_machines
@pytest.mark.parametrize(("config", "rule"), CONVOLUTIONS, ids=map(name_of, CONFIGS))
def test_rule_of_a_convolution(config: Config, rule: str | dict[Target, str], machine: Target) -> None:
    wanted = rule if isinstance(rule, str) else rule[machine]
    for n, epilogue in enumerate(EPILOGUES):
        assert wanted in rules_on(machine, convolution(config, epilogue, bias=n % 2 == 1)).values(), epilogue


@every_convolution
def test_convolution(config: Config) -> None:
    """Each convolution, followed by each epilogue, is right on this processor, whichever rule schedules it."""
    for n, epilogue in enumerate(EPILOGUES):
        model = convolution(config, epilogue, bias=n % 2 == 1)
        feeds = feeds_of(model)
        got = on_threads(config, 2) if epilogue == "Relu" else compiled_for(model, threads=2).run(feeds)["y"]
        check(config, epilogue, got, model, feeds)


@on_machines
@every_convolution
def test_convolution_on_a_machine(config: Config, machine: Target) -> None:
    """Each convolution is right on each machine, with one epilogue.

    The machine of this processor's kind is left to ``test_convolution``.
    """
    here = host_target(2)
    if here.machine == machine.machine or here.machine == replace(machine.machine, dot4=True):
        pytest.skip(f"test_convolution compiles for {here.mcpu}, of the same numbers as {machine.mcpu}")
    n = CONFIGS.index(config) % len(EPILOGUES)
    model = convolution(config, EPILOGUES[n], bias=n % 2 == 1)
    feeds = feeds_of(model)
    check(config, EPILOGUES[n], run_on(machine, model, feeds)[0], model, feeds)


@pytest.mark.parametrize("config", WINOGRADS, ids=name_of)
def test_strict_precision_uses_no_winograd(config: Config) -> None:
    model = convolution(config, "Relu", bias=True)
    feeds = feeds_of(model)
    compiled = compiled_for(model, precision="strict")
    assert "winograd" not in {k.rule for k in compiled.kernels}
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], str(config))


@functools.cache
def on_threads(config: Config, threads: int) -> np.ndarray:
    """The output of a convolution with bias and Relu on this processor, by the number of threads."""
    model = convolution(config, "Relu", bias=True)
    return compiled_for(model, threads=threads).run(feeds_of(model))["y"]


@every_convolution
def test_same_bits_on_any_number_of_threads(config: Config) -> None:
    np.testing.assert_array_equal(on_threads(config, 1), on_threads(config, 2))


# operator, size, attributes
POOLINGS: list[tuple[str, int, dict[str, object]]] = [
    ("MaxPool", 28, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", 29, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    ("MaxPool", 30, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", 17, {"kernel_shape": [3, 3], "pads": [1] * 4}),
    ("MaxPool", 13, {"kernel_shape": [9, 9], "pads": [4] * 4}),
    ("MaxPool", 15, {"kernel_shape": [3, 2], "strides": [1, 3], "pads": [2, 0, 1, 1], "dilations": [2, 1]}),
    ("AveragePool", 17, {"kernel_shape": [3, 3], "pads": [1] * 4}),
    ("AveragePool", 35, {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
    ("AveragePool", 14, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", 14, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", 6, {"kernel_shape": [6, 6]}),
]


@pytest.mark.parametrize(("kind", "size", "attrs"), POOLINGS, ids=[f"{i}-{p[0]}" for i, p in enumerate(POOLINGS)])
@pytest.mark.parametrize("channels", [16, 40])
def test_pool(kind: str, size: int, attrs: dict[str, object], channels: int) -> None:
    """A pooling of blocked data, which only a convolution before it produces."""
    w = (np.random.default_rng(0).standard_normal((channels, 32, 3, 3)) / 17).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node(kind, ["c"], ["p"], **attrs),
        helper.make_node("Sigmoid", ["p"], ["y"]),
    ]
    model = models.model(nodes, {"x": [2, 32, size, size]}, {"y": ["n", "c", "h", "w"]}, {"w": w}, opset=19)
    feeds = feeds_of(model)
    one, two = (compiled_for(model, threads=t) for t in (1, 2))
    for machine in MACHINES.values():
        assert "pool" in rules_on(machine, model).values(), machine.mcpu
    assert_close(one.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{kind} {attrs}")
    np.testing.assert_array_equal(one.run(feeds)["y"], two.run(feeds)["y"])


@pytest.mark.parametrize("rows", [1, 7, 16, 49, 197])
@pytest.mark.parametrize(("inner", "columns"), [(30, 10), (100, 97), (64, 500), (256, 128)])
def test_dense(rows: int, inner: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    w = (rng.standard_normal((columns, inner)) / np.sqrt(inner)).astype(np.float32)
    b = rng.standard_normal(columns).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1), helper.make_node("Tanh", ["g"], ["y"])]
    model = models.model(nodes, {"x": [rows, inner]}, {"y": [rows, columns]}, {"w": w, "b": b}, opset=17)
    feeds = feeds_of(model)
    compiled = compiled_for(model, threads=2)
    for machine in MACHINES.values():
        assert [rule for rule in rules_on(machine, model).values() if rule != "fallback"] == ["dense"], machine.mcpu
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{rows} {inner} {columns}")


def model_of(nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], **weights: np.ndarray) -> onnx.ModelProto:
    """A model of some statements that returns ``y``."""
    return models.model(nodes, inputs, {"y": (np.float32, None)}, weights, opset=17)


def normal(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sizes", [(32, 16), (32, 20), (20, 7, 33)], ids=str)
def test_convolution_of_joined_channels(sizes: tuple[int, ...], stride: int) -> None:
    """Blocks of channels come from several operands, and one block comes from several of them."""
    parts = [f"p{i}" for i in range(len(sizes))]
    nodes = [helper.make_node("Conv", ["x", f"w{p}"], [p]) for p in parts]
    nodes += [
        helper.make_node("Concat", parts, ["j"], axis=1),
        helper.make_node("Conv", ["j", "w"], ["c"], strides=[stride] * 2),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    weights = {f"w{p}": normal(size, 16, 1, 1) for p, size in zip(parts, sizes, strict=True)}
    model = model_of(nodes, {"x": [2, 16, 9, 13]}, w=normal(24, sum(sizes), 1, 1), **weights)
    compiled = compiled_for(model, threads=2)
    for machine in MACHINES.values():
        assert rules_on(machine, model)["concat_conv_relu"] == "direct_conv", machine.mcpu
    feeds = feeds_of(model)
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{sizes} {stride}")


@pytest.mark.parametrize(("channels", "groups"), [(36, 2), (30, 3), (64, 2)])
def test_select_channels(channels: int, groups: int) -> None:
    """Channels are shuffled, and the next op reads them in that order."""
    split = np.array([2, groups, channels // groups, 7, 9])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "split"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["c", "whole"], ["d"]),
        helper.make_node("Add", ["a", "d"], ["e"]),
        helper.make_node("Conv", ["e", "v"], ["y"], pads=[1] * 4),
    ]
    w, v, whole = normal(channels, 16, 1, 1), normal(16, channels, 3, 3), np.array([2, channels, 7, 9])
    model = model_of(nodes, {"x": [2, 16, 7, 9]}, w=w, v=v, split=split, whole=whole)
    compiled = compiled_for(model, threads=2)
    for machine in MACHINES.values():
        assert rules_on(machine, model)["select_channels_add"] == "select_channels", machine.mcpu
    feeds = feeds_of(model)
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{channels} {groups}")


@pytest.mark.parametrize("after", ["", "Tanh", "Transpose"])
@pytest.mark.parametrize("shape", [(49, 96), (2, 7, 24), (1, 197, 64), (2, 8, 5, 16)], ids=str)
def test_layer_norm(shape: tuple[int, ...], after: str) -> None:
    nodes = [helper.make_node("LayerNormalization", ["x", "s", "b"], ["n" if after else "y"], axis=-1)]
    if after:
        attrs = {"perm": [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]} if after == "Transpose" else {}
        nodes.append(helper.make_node(after, ["n"], ["y"], **attrs))
    model = model_of(nodes, {"x": list(shape)}, s=normal(shape[-1]), b=normal(shape[-1]))
    compiled = compiled_for(model, threads=2)
    for machine in MACHINES.values():
        assert list(rules_on(machine, model).values()) == ["layer_norm"], machine.mcpu
    feeds = feeds_of(model)
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{shape} {after}")


@pytest.mark.parametrize("channels", [16, 40, 96])
def test_layer_norm_of_blocked_channels(channels: int) -> None:
    """One kernel normalises over channels that lie last, between convolutions: it reads blocks and writes blocks."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", ["b", "s"], ["n"], axis=-1),
        helper.make_node("Transpose", ["n"], ["d"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]
    w, v, s = normal(channels, 16, 1, 1), normal(16, channels, 1, 1), normal(channels)
    model = model_of(nodes, {"x": [2, 16, 6, 14]}, w=w, v=v, s=s)
    compiled = compiled_for(model, threads=2)
    for machine in MACHINES.values():
        assert rules_on(machine, model)["transpose_layer_norm_transpose_relayout"] == "layer_norm", machine.mcpu
    feeds = feeds_of(model)
    assert_close(compiled.run(feeds)["y"], run_onnxruntime(model, feeds)[0], str(channels))


@pytest.mark.parametrize("level", X86_LEVELS)
def test_older_processors(level: str) -> None:
    """The same networks are right on machines with narrower vectors and fewer registers."""
    skip_unless_it_runs(parse_target(level))
    for config in ((64, 64, 3, 1, 28, 1, 1, 1), (24, 58, 1, 1, 29, 0, 1, 1), (58, 58, 3, 1, 28, 1, 1, 58)):
        model = convolution(config, "Tanh", bias=True)
        feeds = feeds_of(model)
        assert_close(compiled_for(model, level).run(feeds)["y"], run_onnxruntime(model, feeds)[0], f"{level} {config}")


@pytest.mark.parametrize(("size", "shared"), [(8, False), (64, True)])
def test_only_kernels_worth_it_are_shared_out(size: int, shared: bool) -> None:
    b = Builder("relu")
    graph = b.finish([b.emit(Relu(), b.input("x", f32[1, 64, size, size]))])
    for machine in MACHINES.values():
        func, _ = schedule(Group.of(graph.nodes[0]), machine)
        assert ("T.parallel" in func.script()) == shared, machine.mcpu


@pytest.mark.parametrize(("size", "threads"), [(8, 1), (64, 2)])
def test_small_networks_run_on_the_calling_thread(size: int, threads: int) -> None:
    graph = as_graph(nn.Conv2D(64, kernel_size=3), {"x": (1, 64, size, size)})
    for machine in MACHINES.values():
        built = build(pipeline(machine.machine).run(graph), machine)
        assert built.plan.parallel == (threads == 2), machine.mcpu


def test_a_part_of_a_loop_knows_its_range() -> None:
    """TVM failed to simplify the indices of this relayout when it took them for unbounded."""
    b = Builder("parts")
    rng = np.random.default_rng(0)
    x = b.input("x", TensorType("f64", (1, 12, 31, 31)))
    three = b.emit(Concat(axis=1), x, x, x)
    weight = b.constant(rng.standard_normal((16, 36, 3, 3)))
    graph = b.finish([b.emit(Conv(strides=(2, 2), dilations=(2, 2), pads=((0, 0), (0, 0))), three, weight)])
    data = rng.standard_normal((1, 12, 31, 31))
    shared, alone = (compiled_for(graph, threads=threads)(data) for threads in (2, 1))
    np.testing.assert_array_equal(shared, alone)


def test_copies_of_a_large_expression_are_not_inlined() -> None:
    """TVM took minutes to simplify 40 selections in each copy that Clip makes of its operand."""
    b = Builder("copies")
    x = b.input("x", TensorType("f64", (1, 31, 14)))
    y = b.emit(Mul(), x, b.constant(np.array(1.5)))
    many = b.emit(Concat(axis=1), y, x, x, y)
    more = b.emit(Concat(axis=1), many, many, many, y)
    graph = b.finish([b.emit(REGISTRY["acos"](), b.emit(Clip(low=-0.875, high=0.875), more))])
    data = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 31, 14))
    parts = [1.5 * data, data, data, 1.5 * data]
    want = np.arccos(np.clip(np.concatenate([*parts * 3, 1.5 * data], 1), -0.875, 0.875))
    assert_close(compiled_for(graph)(data), want)


def test_layers_of_all_sizes_share_a_kernel() -> None:
    """Batch, plane and channels are no part of a kernel, though all of them are known."""
    b = Builder("net")
    x = b.input("x", f32[2, 32, 28, 28])
    for channels, outputs in ((32, 64), (64, 24), (24, 48), (48, 96)):
        w = b.constant(normal(outputs, channels, 1, 1), f"w{outputs}")
        x = b.emit(Relu(), b.emit(Conv(), x, w))
    final = pipeline(host_target(1).machine).run(b.finish([x], ["y"]))
    groups = [scheduled_as(n, host_target(1)) for n in final.nodes if n.output.type.shape[1] % 16 == 0]
    convolutions = [g.key for g in groups if g.anchor.op.name == "conv"]
    assert len(convolutions) == 3
    assert len(set(convolutions)) == 1


SIZES = [
    ((3, 24, 7, 9), (32, 3, 3), 2),
    ((2, 200, 5, 31), (48, 1, 1), 1),
    ((1, 1040, 6, 4), (32, 1, 1), 1),
    ((5, 130, 3, 50), (160, 3, 3), 1),
    ((1, 32, 4, 1), (32, 1, 1), 1),
]


@pytest.mark.parametrize("other", ["result", "batch of one", "pixel", "column", "data"])
@pytest.mark.parametrize(("data", "weight", "stride"), SIZES, ids=str)
def test_convolution_of_any_size_and_what_its_results_are_multiplied_by(
    data: tuple[int, ...], weight: tuple[int, ...], stride: int, other: str
) -> None:
    n, c, high, wide = data
    o, kh, kw = weight
    if other == "data":
        o = c = 16 * max(c // 16, 1)
        stride = 1
    high_out, wide_out = (-(-d // stride) for d in (high, wide))
    shapes = {"result": [n, o, high_out, wide_out], "batch of one": [1, o, high_out, wide_out]}
    shapes |= {"pixel": [n, o, 1, 1], "column": [n, o, high_out, 1]}
    inputs = {"x": [n, c, high, wide]} | ({"r": shapes[other]} if other in shapes else {})
    pads = [kh // 2, kw // 2] * 2
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"], strides=[stride] * 2, pads=pads),
        helper.make_node("Sigmoid", ["r" if other in shapes else "a"], ["s"]),
        helper.make_node("Mul", ["b", "s"], ["m"]),
        helper.make_node("Conv", ["m", "v"], ["y"]),
    ]
    model = model_of(nodes, inputs, w=normal(o, c, kh, kw), v=normal(16, o, 1, 1))
    feeds = feeds_of(model)
    wanted = run_onnxruntime(model, feeds)[0]
    for threads in (1, 2):
        assert_close(compiled_for(model, threads=threads).run(feeds)["y"], wanted, f"{data} {weight} {other}")
