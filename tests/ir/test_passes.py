"""Passes, tested from text to text: what each rewrites, and what it leaves alone.

Every stage can be compiled again.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.graphs import graph, ops, weights
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc import nn
from convc.backends.cpu.layouts import Blocks
from convc.backends.cpu.machine import Machine
from convc.backends.cpu.passes.choose_algorithms import choose_algorithms
from convc.ir.builder import Builder
from convc.ir.graph import Constant, Graph, Value
from convc.ir.op import f32
from convc.ir.ops.binary import Mul, Sub
from convc.ir.ops.reduce import ReduceMean
from convc.ir.passes.assign_layouts import assign_layouts
from convc.ir.passes.fold_constants import fold_constants
from convc.ir.passes.fold_scale import fold_scale
from convc.ir.passes.fuse import fuse
from convc.ir.passes.materialize import materialize_outputs
from convc.ir.passes.move_channels import move_channels
from convc.ir.passes.pack_dense import pack_dense
from convc.ir.passes.recognise_activations import recognise_activations
from convc.ir.passes.recognise_variance import recognise_variance
from convc.ir.passes.share import share
from convc.ir.rewrite import Report
from convc.ir.text import print_graph
from convc.ir.verify import verify

BLOCKS = Blocks(16, 8)
MACHINE = Machine(lanes=8, registers=16, cache_bytes=512 * 1024)


CONV = "%y: f32[1,16,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}"


def test_fold_constants() -> None:
    g = graph("%c: f32[3] = add(%a, %b)\n%y: f32[3] = mul(%x, %c)\nreturn %y", "%x: f32[3]", a=weights(3), b=weights(3))
    folded = fold_constants(g)
    assert ops(folded) == ["mul"]
    np.testing.assert_array_equal(folded.constants["c_1"].array, weights(3) + weights(3))


def test_fold_constants_leaves_large_results_to_load_time() -> None:
    text = "%t: f32[1,2000,2000] = expand(%a) {shape=[1,2000,2000]}\n%y: f32[1,2000,2000] = mul(%x, %t)\nreturn %y"
    assert ops(fold_constants(graph(text, "%x: f32[1,2000,2000]", a=weights(1, 1, 1)))) == ["expand", "mul"]


def test_fold_scale_and_shift_into_a_convolution() -> None:
    text = CONV + "\n%s: f32[1,16,8,8] = mul(%y, %m)\n%z: f32[1,16,8,8] = add(%s, %a)\nreturn %z"
    w, m, a = weights(16, 32, 3, 3), weights(16, 1, 1), weights(1, 16, 1, 1)
    folded = fold_scale(graph(text, w=w, m=m, a=a))
    assert ops(folded) == ["conv"]
    _, weight, bias = folded.nodes[0].inputs
    np.testing.assert_allclose(folded.constants[weight.name].array, w * m[..., None], rtol=1e-6)
    np.testing.assert_array_equal(folded.constants[bias.name].array, a.reshape(-1))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (CONV + "\n%z: f32[1,16,8,8] = mul(%y, %m)\nreturn %y, %z", "the convolution's result is used elsewhere"),
        (CONV + "\n%z: f32[1,16,8,8] = mul(%y, %q)\nreturn %z", "the factor differs along the width"),
        (CONV + "\n%z: f32[1,16,8,8] = mul(%y, %y)\nreturn %z", "the factor is computed"),
    ],
)
def test_fold_scale_does_not_fire(text: str, why: str) -> None:
    g = graph(text, w=weights(16, 32, 3, 3), m=weights(16, 1, 1), q=weights(1, 1, 1, 8))
    assert ops(fold_scale(g)) == ["conv", "mul"], why


@pytest.mark.parametrize("factor", [np.inf, np.nan, 3e38, 1e-43])
def test_fold_scale_keeps_the_digits_of_weights(factor: float) -> None:
    """Weights that would overflow, or become so small that they lose digits, are left as they are."""
    m = np.ones((16, 1, 1), np.float32)
    m[3] = factor
    text = CONV + "\n%z: f32[1,16,8,8] = mul(%y, %m)\nreturn %z"
    assert ops(fold_scale(graph(text, w=100 * weights(16, 32, 3, 3), m=m))) == ["conv", "mul"]


def test_rules_say_why_they_do_not_fire() -> None:
    report = Report()
    text = CONV + "\n%z: f32[1,16,8,8] = mul(%y, %q)\nreturn %z"
    fold_scale(graph(text, w=weights(16, 32, 3, 3), q=weights(1, 1, 1, 8)), report)
    assert str(report) == "ScaleIntoConv at 'z': 'q' of shape [1, 1, 1, 8] is not one value an output channel"


def test_batch_norm_of_constants_vanishes_into_the_convolution() -> None:
    text = CONV + "\n%z: f32[1,16,8,8] = batch_norm(%y, %s, %b, %m, %v)\nreturn %z"
    vectors = {n: np.abs(weights(16)) + 0.5 for n in ("s", "b", "m", "v")}
    assert ops(fold_scale(graph(text, w=weights(16, 32, 3, 3), **vectors))) == ["conv"]


def scalars(text: str) -> Graph:
    """A graph of ``%x: f32[4]`` from statements ``result = op(operands)``, in which numbers stand for constants."""
    found: dict[str, np.ndarray] = {}

    def constant(m: re.Match[str]) -> str:
        found[f"c{len(found)}"] = np.array(float(m[0]), np.float32)
        return f"%c{len(found) - 1}"

    lines = []
    for line in text.split("; "):
        result, call = line.split(" = ")
        call, _, attrs = call.partition(" {")
        name, operands = call.split("(")
        operands = re.sub(r"(?<![%\w])-?\d[\d.]*", constant, operands)
        lines.append(f"%{result}: f32[4] = {name}({operands}" + (" {" + attrs if attrs else ""))
    return graph("\n".join(lines) + f"\nreturn %{result}", "%x: f32[4], %q: f32[4]", **found)


TANH = (
    "c = pow(%x, 3.0); d = mul(%c, 0.044715); e = add(%x, %d); f = mul(%e, {slope}); t = tanh(%f); o = add(1.0, %t); "
)
ACTIVATIONS = [
    ("s = sigmoid(%x); y = mul(%x, %s)", ["silu"]),
    ("s = sigmoid(%x); y = mul(%s, %x)", ["silu"]),
    ("a = mul(%x, %q); s = sigmoid(%a); y = mul(%a, %s)", ["mul", "silu"]),
    ("a = mul(1.702, %x); s = sigmoid(%a); y = mul(%x, %s)", ["silu"]),
    ("s = hard_sigmoid(%x) {alpha=0.16666667163372040}; y = mul(%x, %s)", ["hard_swish"]),
    ("a = add(%x, 3.0); s = clip(%a) {low=0.0, high=6.0}; p = mul(%x, %s); y = div(%p, 6.0)", ["hard_swish"]),
    ("a = add(3.0, %x); s = clip(%a) {low=0.0, high=6.0}; p = div(%s, 6.0); y = mul(%p, %x)", ["hard_swish"]),
    ("a = div(%x, 1.41421356); t = erf(%a); o = add(%t, 1.0); p = mul(%x, %o); y = mul(%p, 0.5)", ["gelu"]),
    ("h = mul(%x, 0.5); a = mul(%x, 0.70710678); t = erf(%a); o = add(1.0, %t); y = mul(%h, %o)", ["gelu"]),
    (TANH.format(slope="0.79788456") + "h = mul(0.5, %x); y = mul(%h, %o)", ["gelu"]),
    # expressions that only look like activations
    ("s = sigmoid(%x); y = mul(%q, %s)", ["sigmoid", "mul"]),
    ("a = add(%x, 1.0); s = sigmoid(%a); y = mul(%x, %s)", ["add", "sigmoid", "mul"]),
    ("s = sigmoid(%x); y = div(%x, %s)", ["sigmoid", "div"]),
    ("s = sigmoid(%x); p = mul(%x, %s); y = add(%p, %s)", ["sigmoid", "mul", "add"]),
    ("s = hard_sigmoid(%x) {alpha=0.2}; y = mul(%x, %s)", ["hard_sigmoid", "mul"]),
    ("s = hard_sigmoid(%x) {alpha=0.16666667, beta=0.4}; y = mul(%x, %s)", ["hard_sigmoid", "mul"]),
    ("a = add(%x, 3.0); s = clip(%a) {low=0.0, high=6.0}; y = mul(%x, %s)", ["add", "clip", "mul"]),
    ("a = add(%x, 3.0); s = clip(%a) {low=0.0}; p = mul(%x, %s); y = div(%p, 6.0)", ["add", "clip", "mul", "div"]),
    ("a = div(%x, 1.4); t = erf(%a); o = add(%t, 1.0); p = mul(%x, %o); y = mul(%p, 0.5)",
     ["div", "erf", "add", "mul", "mul"]),
    ("a = div(%x, 1.41421356); t = erf(%a); o = add(%t, 1.0); y = mul(%x, %o)", ["div", "erf", "add", "mul"]),
    ("a = div(%q, 1.41421356); t = erf(%a); o = add(%t, 1.0); p = mul(%x, %o); y = mul(%p, 0.5)",
     ["div", "erf", "add", "mul", "mul"]),
    (TANH.format(slope="0.8") + "h = mul(0.5, %x); y = mul(%h, %o)",
     ["pow", "mul", "add", "mul", "tanh", "add", "mul", "mul"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), ACTIVATIONS)
def test_recognise_activations(text: str, want: list[str]) -> None:
    g = scalars(text)
    made = recognise_activations(g)
    verify(made)
    assert ops(made) == want
    x = np.array([-3.5, -0.3, 0.7, 2], np.float32)
    (exact,) = run_onnxruntime(convc.to_onnx(g), {"x": x, "q": x + 1})
    assert_close(np.asarray(convc.compile(made)(x, x + 1)), exact, text)


def test_recognise_activations_says_why_not() -> None:
    report = Report()
    recognise_activations(scalars("a = add(%x, 1.0); s = sigmoid(%a); y = mul(%x, %s)"), report)
    assert str(report) == "SiluOfSigmoid at 'y': the sigmoid is not one of 'x'"
    report = Report()
    recognise_activations(scalars("s = sigmoid(%x); p = mul(%x, %s); y = add(%p, %s)"), report)
    assert str(report) == "SiluOfSigmoid at 'p': 's' is used outside the match"


MEANS = "e = reduce_mean(%s) {axes=[]}; m = reduce_mean(%x) {axes=[]}; p = "
VARIANCES = [
    ("s = mul(%x, %x); " + MEANS + "mul(%m, %m); y = sub(%e, %p)", True),
    ("s = pow(%x, 2.0); " + MEANS + "pow(%m, 2.0); y = sub(%e, %p)", True),
    ("s = mul(%q, %q); " + MEANS + "mul(%m, %m); y = sub(%e, %p)", False),
    ("s = mul(%x, %q); " + MEANS + "mul(%m, %m); y = sub(%e, %p)", False),
    ("s = pow(%x, 3.0); " + MEANS + "mul(%m, %m); y = sub(%e, %p)", False),
    ("s = mul(%x, %x); " + MEANS + "mul(%m, %e); y = sub(%e, %p)", False),
    ("s = mul(%x, %x); " + MEANS + "mul(%m, %m); y = sub(%p, %e)", False),
]


@pytest.mark.parametrize(("text", "fires"), VARIANCES)
def test_recognise_variance(text: str, fires: bool) -> None:
    g = scalars(text)
    made = recognise_variance(g)
    verify(made)
    assert (ops(made) == ["reduce_mean", "sub", "mul", "reduce_mean"]) == fires
    x = np.array([-3.5, -0.3, 0.7, 2], np.float32)
    (exact,) = run_onnxruntime(convc.to_onnx(g), {"x": x, "q": x + 1})
    assert_close(np.asarray(convc.compile(made)(x, x + 1)), exact, text)


@pytest.mark.parametrize("keepdims", [True, False])
def test_a_variance_far_from_zero_keeps_its_digits(keepdims: bool) -> None:
    b = Builder("variance")
    x = b.input("x", f32[2, 3, 641])
    mean = ReduceMean((2,), keepdims=keepdims)
    whole, part = b.emit(mean, b.emit(Mul(), x, x)), b.emit(mean, x)
    g = b.finish([b.emit(Sub(), whole, b.emit(Mul(), part, part))])
    data = (4096 + np.random.default_rng(0).standard_normal((2, 3, 641))).astype(np.float32)
    want = data.astype(np.float64).var(2, keepdims=keepdims).astype(np.float32)
    assert_close(convc.compile(g)(data), want)


def test_share_keeps_equal_nodes_and_constants_once() -> None:
    text = (
        "%p: f32[3] = tanh(%x)\n%q: f32[3] = tanh(%x)\n"
        "%r: f32[3] = add(%p, %a)\n%s: f32[3] = add(%q, %b)\nreturn %r, %s"
    )
    shared = share(graph(text, "%x: f32[3]", a=weights(3), b=weights(3)))
    assert ops(shared) == ["tanh", "add"]
    assert len(shared.constants) == 1
    assert shared.output_names == ("r", "s")


def test_constants_that_share_the_start_of_their_digest_are_not_one() -> None:
    a, b = (Constant(f32[2], np.full(2, v, np.float32), "0" * 12) for v in (1, 2))
    assert a.sha == b.sha
    assert a != b
    absent, same, other = (Constant(f32[2], None, sha) for sha in ("0" * 12, "0" * 12, "1" * 12))
    assert absent == same
    assert hash(absent) == hash(same)
    assert absent not in (a, b, other)
    g = Graph("g", (), (), (Value("a", f32[2]), Value("b", f32[2])), {"a": a, "b": b})
    assert len(share(g).constants) == 2


SHUFFLE = """%j: f32[1,64,8,8] = concat(%x, %z)
%r: f32[1,2,32,8,8] = reshape(%j) {shape=[1,2,32,8,8]}
%t: f32[1,32,2,8,8] = transpose(%r) {perm=[0,2,1,3,4]}
%s: f32[1,64,8,8] = reshape(%t) {shape=[1,64,8,8]}
"""
TWO = "%x: f32[1,32,8,8], %z: f32[1,32,8,8]"


def test_a_convolution_reads_shuffled_channels_where_they_are() -> None:
    text = SHUFFLE + "%h: f32[1,32,8,8] = slice(%s) {axes=[1], starts=[32], ends=[64]}\n"
    w = weights(16, 32, 1, 1)
    moved = move_channels(graph(text + "%y: f32[1,16,8,8] = conv(%h, %w)\nreturn %y", TWO, w=w))
    verify(moved)
    assert ops(moved) == ["select_channels", "conv"]
    assert moved.nodes[0].op.channels == (*range(16, 32), *range(48, 64))  # type: ignore[attr-defined]
    permuted = moved.constants[moved.nodes[1].inputs[1].name].array
    np.testing.assert_array_equal(permuted, np.concatenate([w[:, 0::2], w[:, 1::2]], axis=1))


def test_a_whole_shuffle_before_a_convolution_is_a_concat() -> None:
    moved = move_channels(graph(SHUFFLE + "%y: f32[1,16,8,8] = conv(%s, %w)\nreturn %y", TWO, w=weights(16, 64, 1, 1)))
    assert ops(moved) == ["concat", "conv"]


def test_depthwise_convolutions_pass_the_order_of_channels_on() -> None:
    text = (
        SHUFFLE + "%d: f32[1,64,8,8] = conv(%s, %v) {pads=[[1,1],[1,1]], group=64}\n%p: f32[1,64,8,8] = relu(%d)\n"
        "%y: f32[1,16,8,8] = conv(%p, %w)\nreturn %y"
    )
    moved = move_channels(graph(text, TWO, v=weights(64, 1, 3, 3), w=weights(16, 64, 1, 1)))
    verify(moved)
    assert ops(moved) == ["concat", "conv", "relu", "conv"]


def test_a_shuffle_that_something_else_reads_is_one_op() -> None:
    moved = move_channels(graph(SHUFFLE + "%y: f32[1,64,8,8] = add(%s, %s)\nreturn %y, %r", TWO))
    verify(moved)
    assert sorted(ops(moved)) == ["add", "concat", "reshape", "select_channels"]


@pytest.mark.parametrize(
    "text",
    [
        "%t: f32[1,8,8,32] = transpose(%x) {perm=[0,2,3,1]}\n"
        "%y: f32[1,8,32,8] = transpose(%t) {perm=[0,1,3,2]}\nreturn %y",
        "%t: f32[1,32,64] = reshape(%x) {shape=[1,32,64]}\n%y: f32[1,64,32] = reshape(%t) {shape=[1,64,32]}\nreturn %y",
        "%y: f32[1,32,3,8] = slice(%x) {axes=[2], starts=[1], ends=[4]}\nreturn %y",
        "%y: f32[1,9,8,8] = slice(%x) {axes=[1], starts=[1], ends=[10]}\nreturn %y",
    ],
)
def test_what_moves_more_or_less_than_channels_stays(text: str) -> None:
    g = graph(text)
    assert print_graph(move_channels(g)) == print_graph(g)


def test_an_order_of_channels_in_many_pieces_stays_with_its_ops() -> None:
    order = np.random.default_rng(0).permutation(256).tolist()
    text = (
        f"%i: i64[256] = const {order}\n%a: f32[1,256,8,8] = relu(%x)\n%g: f32[1,256,8,8] = gather(%a, %i) {{axis=1}}\n"
        "%h: f32[1,256,8,8] = gather(%g, %i) {axis=1}\n%y: f32[1,256,8,8] = add(%h, %x)\nreturn %y"
    )
    assert ops(move_channels(graph(text, "%x: f32[1,256,8,8]"))) == ["relu", "gather", "gather", "add"]


def test_transposes_read_blocked_data() -> None:
    text = (
        "%a: f32[1,32,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\n"
        "%y: f32[1,8,8,32] = transpose(%a) {perm=[0,2,3,1]}\nreturn %y"
    )
    placed = assign_layouts(graph(text, w=weights(32, 32, 3, 3)), BLOCKS)
    assert str(placed.nodes[-1].inputs[0].type.layout) == "NCHW16c"
    assert placed.nodes[-1].op.name == "transpose"


def test_layouts_convert_once_between_convolutions() -> None:
    text = (
        "%a: f32[1,32,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\n%b: f32[1,32,8,8] = relu(%a)\n"
        "%c: f32[1,32,8,8] = conv(%b, %w) {pads=[[1,1],[1,1]]}\nreturn %c"
    )
    placed = assign_layouts(graph(text, w=weights(32, 32, 3, 3)), BLOCKS)
    verify(placed)
    data = [n for n in placed.nodes if n.op.name == "relayout" and n.inputs[0].name not in placed.constants]
    assert [str(n.output.type.layout) for n in data] == ["NCHW16c", "None"]
    assert [str(n.output.type.layout) for n in placed.nodes if n.op.name in ("conv", "relu")] == ["NCHW16c"] * 3


def test_layouts_let_the_first_convolution_read_an_image() -> None:
    text = "%y: f32[1,32,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\nreturn %y"
    placed = assign_layouts(graph(text, "%x: f32[1,3,8,8]", w=weights(32, 3, 3, 3)), BLOCKS)
    conv = next(n for n in placed.nodes if n.op.name == "conv")
    assert [v.type.layout and str(v.type.layout) for v in (*conv.inputs, conv.output)] == [None, "OIHW16o", "NCHW16c"]


def test_layouts_leave_a_graph_without_convolutions_alone() -> None:
    g = graph("%y: f32[1,32,8,8] = relu(%x)\nreturn %y")
    assert print_graph(assign_layouts(g, BLOCKS)) == print_graph(g)


@pytest.mark.parametrize(
    ("channels", "size", "stride", "op"),
    [(64, 56, 1, "winograd_conv"), (64, 56, 2, "conv"), (512, 7, 1, "winograd_conv"), (2048, 4, 1, "conv")],
)
def test_algorithms_weigh_arithmetic_against_weights(channels: int, size: int, stride: int, op: str) -> None:
    out = size // stride
    attrs = f"strides=[{stride},{stride}], pads=[[1,1],[1,1]]"
    text = f"%y: f32[1,{channels},{out},{out}] = conv(%x, %w) {{{attrs}}}\nreturn %y"
    g = graph(text, f"%x: f32[1,{channels},{size},{size}]", w=np.zeros((channels, channels, 3, 3), np.float32))
    assert op in ops(choose_algorithms(assign_layouts(g, BLOCKS), MACHINE))


def test_pack_dense_packs_constant_matrices_only() -> None:
    text = "%y: f32[4,48] = matmul(%x, %w)\n%z: f32[4,4] = matmul(%x, %v)\nreturn %y, %z"
    packed = pack_dense(graph(text, "%x: f32[4,32], %v: f32[32,4]", w=weights(32, 48)), BLOCKS)
    assert ops(packed) == ["relayout", "matmul", "matmul"]
    assert str(packed.nodes[0].output.type.layout) == "BA16b"


def test_outputs_are_made_by_a_node_each() -> None:
    made = materialize_outputs(graph('%y: f32[1,32,8,8] = relu(%x)\nreturn %x, %y, "again"=%y'))
    assert ops(made) == ["relu", "identity", "identity"]
    assert made.output_names == ("x", "y", "again")


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        (CONV + "\n%z: f32[1,16,8,8] = relu(%y)\nreturn %z", ["conv+relu"]),
        (CONV + "\n%s: f32[1,16,8,8] = sigmoid(%y)\n%z: f32[1,16,8,8] = mul(%y, %s)\nreturn %z", ["conv+sigmoid+mul"]),
        (CONV + "\n%z: f32[1,16,8,8] = relu(%y)\nreturn %z, %y", ["conv", "relu"]),
        (CONV + "\n%z: f32[16,8,8] = reshape(%y) {shape=[16,8,8]}\nreturn %z", ["conv", "reshape"]),
        ("%a: f32[1,8,8,32] = transpose(%x) {perm=[0,2,3,1]}\n"
         "%b: f32[64,32] = reshape(%a) {shape=[64,32]}\n%z: f32[64,32] = relu(%b)\nreturn %z",
         ["transpose+reshape+relu"]),
        ("%a: f32[1,8,8,32] = transpose(%x) {perm=[0,2,3,1]}\n"
         "%b: f32[1,8,8,32] = layer_norm(%a, %scale)\n%z: f32[1,32,8,8] = transpose(%b) {perm=[0,3,1,2]}\nreturn %z",
         ["transpose+layer_norm+transpose"]),
        ("%a: f32[1,8,8,32] = transpose(%x) {perm=[0,2,3,1]}\n"
         "%b: f32[1,8,8,32] = layer_norm(%a, %scale)\nreturn %b, %a",
         ["transpose", "layer_norm"]),
        ("%a: f32[1,8,8,32] = transpose(%x) {perm=[0,2,3,1]}\n"
         "%z: f32[3,8,8,32] = expand(%a) {shape=[3,8,8,32]}\nreturn %z",
         ["transpose+expand"]),
        ("%a: f32[1,32,8,8] = tanh(%x)\n%z: f32[3,32,8,8] = expand(%a) {shape=[3,32,8,8]}\nreturn %z",
         ["tanh", "expand"]),
        (CONV + "\n%u: f32[1,16,8,8] = conv(%x, %w) {pads=[[1,1],[1,1]]}\n%z: f32[1,16,8,8] = add(%y, %u)\nreturn %z",
         ["conv", "conv+add"]),
    ],
)  # fmt: skip
def test_fuse(text: str, groups: list[str]) -> None:
    fused = fuse(graph(text, w=weights(16, 32, 3, 3), scale=weights(32)))
    verify(fused)
    assert sorted(ops(fused)) == sorted(groups)


@pytest.mark.parametrize(
    ("reader", "groups"),
    [
        ("%y: f32[1,16,8,8] = conv(%j, %w)\nreturn %y", ["concat+conv"]),
        ("%y: f32[1,16,8,8] = conv(%j, %w)\n%u: f32[1,16,4,4] = conv(%j, %w) {strides=[2,2]}\nreturn %y, %u",
         ["concat+conv"] * 2),
        ("%y: f32[1,16,8,8] = conv(%j, %w)\n%p: f32[1,40,7,7] = max_pool(%j) {kernel=[2,2]}\nreturn %y, %p",
         ["concat"]),
        ("%y: f32[1,16,10,10] = conv(%j, %w) {pads=[[1,1],[1,1]]}\nreturn %y", ["concat"]),
        ("%y: f32[1,16,8,8] = conv(%j, %w)\nreturn %y, %j", ["concat"]),
    ],
)  # fmt: skip
def test_convolutions_of_single_pixels_read_through_a_concat(reader: str, groups: list[str]) -> None:
    text = "%a: f32[1,20,8,8] = conv(%x, %v)\n%b: f32[1,20,8,8] = conv(%z, %v)\n%j: f32[1,40,8,8] = concat(%a, %b)\n"
    g = graph(text + reader, TWO, v=weights(20, 32, 1, 1), w=weights(16, 40, 1, 1))
    fused = fuse(assign_layouts(g, BLOCKS))
    verify(fused)
    assert [o for o in ops(fused) if "concat" in o] == groups


def test_every_stage_compiles_to_the_same_answer(tmp_path: Path) -> None:
    """A stage that --dump-dir writes, with its constants beside it, is a model like any other."""
    net = nn.Sequential(nn.Conv2D(20, 3, padding="same", activation="tanh"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(5))
    x = weights(1, 3, 8, 8)
    want = convc.compile(net, shapes={"x": x.shape}, dump_dir=tmp_path)(x)
    (exact,) = run_onnxruntime(convc.to_onnx(net.to_graph({"x": x.shape})), {"x": x})
    assert_close(want, exact, "compiled")
    stages = sorted(tmp_path.glob("*.txt"))
    assert len(stages) >= 8
    for stage in stages:
        assert re.match(r"\d\d_\w+\.txt", stage.name)
        assert_close(convc.compile(stage)(x), want, stage.name)


def test_nothing_that_follows_from_open_sizes_is_computed_at_load() -> None:
    g = graph(
        """%s: i64[1] = known_sizes() {values=["h"], shape=[1]}
        %t: i64[1] = add(%s, %s)
        %k: f32[2,4] = const fill(1.0, 0)
        %e: f32["n",2,4] = expand(%k) {shape=["n",2,4]}
        %c: f32[2,4] = slice(%k) {axes=[0], starts=["h" - "h"//1], ends=[2]}
        %r: f32[2,4] = relu(%k)
        %a: f32["n",2,4] = add(%x, %e)
        %b: f32["n",2,4] = add(%a, %r)
        return %b, %t, %c""",
        '%x: f32["n",2,4], %y: f32["h"]',
    )
    assert g.at_load == {"r"}
