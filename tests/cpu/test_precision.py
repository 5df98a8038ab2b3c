"""Float16 and bfloat16 on CPUs: computed in float32, rounded at the edges, and 16 bits in the file."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from support.graphs import graph, ops, weights
from support.held_in import held_in
from support.machines import AVX2
from support.oracles import run_onnxruntime, run_reference
from support.small_models import MODELS, Sketch, attention, mobilenet, resnet, unet
from support.tolerances import TOLERANCES, assert_close

import convc
from convc.backends.cpu.passes.convert_precision import NARROW, convert_precision
from convc.backends.cpu.passes.narrow_constants import narrow_constants
from convc.backends.cpu.pipeline import pipeline
from convc.backends.group import Group
from convc.ir.graph import Graph, Node
from convc.ir.ops.cast import Cast
from convc.ir.text import print_graph
from convc.reader import as_graph
from convc.runtime.artifact import read_artifact

NUMPY = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
both = pytest.mark.parametrize("dtype", NARROW)


def kernels(model: onnx.ModelProto) -> list[list[Node]]:
    """The nodes of each kernel of a call, as they are compiled for a machine."""
    final = pipeline(AVX2.machine).run(as_graph(model))
    return [list(Group.of(n).body.nodes) for n in final.nodes if n.output.name not in final.at_load]


def computed(model: onnx.ModelProto) -> list[list[str]]:
    """The names of the ops of each kernel that do more than move and convert elements."""

    def computes(n: Node) -> bool:
        return n.flops > 0

    found = [[n.op.name for n in nodes if computes(n)] for nodes in kernels(model)]
    return [names for names in found if names]


def half(n: int, dtype: str = "f16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(NUMPY[dtype])


# -- what is computed, and in what ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("build", MODELS, ids=[b.__name__ for b in MODELS])
def test_a_network_in_16_bits_has_the_kernels_of_one_in_float32(build: object, dtype: str) -> None:
    """Beside those kernels it has conversions of the inputs; the outputs are rounded in the kernels that make them."""
    model = build(1, 32)  # type: ignore[operator]
    narrow = held_in(dtype, model)
    assert computed(narrow) == computed(model)
    made = kernels(narrow)
    casts = [n for nodes in made for n in nodes if isinstance(n.op, Cast)]
    edges = [len(model.graph.input), len(model.graph.output)]
    assert [sum(n.op.to == to for n in casts) for to in ("f32", dtype)] == edges
    held = {n.op.name for nodes in made for n in nodes for v in n.inputs if v.type.dtype in NARROW}
    assert held <= {"cast", "relayout"}


def dtypes(g: Graph) -> list[tuple[str, str]]:
    return [(n.op.name, n.output.type.dtype) for n in g.nodes]


def test_a_value_is_held_in_one_precision_whoever_reads_it() -> None:
    """The largest element equals the maximum also when it is moved before: neither is rounded."""
    text = (
        "%a: f16[4,8] = mul(%x, %x)\n%m: f16[4,1] = reduce_max(%a) {axes=[1]}\n"
        "%t: f16[8,4] = transpose(%a) {perm=[1,0]}\n"
        "%u: f16[4,8] = transpose(%t) {perm=[1,0]}\n"
        "%e: bool[4,8] = equal(%u, %m)\nreturn %e, %a"
    )
    made = convert_precision(graph(text, "%x: f16[4,8]"))
    assert dtypes(made) == [
        ("cast", "f32"), ("mul", "f32"), ("reduce_max", "f32"), ("transpose", "f32"), ("transpose", "f32"),
        ("equal", "bool"), ("cast", "f16"),
    ]  # fmt: skip
    e, a = convc.compile(graph(text, "%x: f16[4,8]"), threads=1)(half(32).reshape(4, 8))
    assert (e.sum(1) >= 1).all()
    np.testing.assert_array_equal(a, half(32).reshape(4, 8) ** 2)


def test_what_is_only_moved_stays_in_16_bits() -> None:
    """A table that is gathered from is not converted; what is gathered is, before it is moved on."""
    text = (
        "%g: f16[3,8] = gather(%t, %i)\n%r: f16[8,3] = transpose(%g) {perm=[1,0]}\n%s: f16[8,3] = relu(%r)\n"
        "%c: f16[8,6] = concat(%r, %s) {axis=1}\n%d: f16[6,8] = transpose(%c) {perm=[1,0]}\nreturn %d, %r"
    )
    g = graph(text, "%t: f16[100,8], %i: i64[3]")
    assert dtypes(convert_precision(g)) == [
        ("gather", "f16"), ("cast", "f32"), ("transpose", "f32"), ("relu", "f32"), ("concat", "f32"),
        ("transpose", "f32"), ("cast", "f16"), ("cast", "f16"),
    ]  # fmt: skip
    moved = graph("%y: f16[8,3] = transpose(%x) {perm=[1,0]}\nreturn %y", "%x: f16[3,8]")
    assert print_graph(convert_precision(moved)) == print_graph(moved)


def test_a_cast_to_float16_rounds_and_one_from_it_does_not() -> None:
    text = (
        '%h: f16[8] = cast(%x) {to="f16"}\n%w: f32[8] = cast(%h) {to="f32"}\n%d: f32[8] = sub(%x, %w)\n'
        '%s: f16[8] = mul(%h, %h)\n%e: f32[8] = cast(%s) {to="f32"}\nreturn %d, %e'
    )
    x = weights(8)
    rounded = x.astype(np.float16).astype(np.float32)
    d, e = convc.compile(graph(text, "%x: f32[8]"), threads=1)(x)
    np.testing.assert_array_equal(d, x - rounded)
    np.testing.assert_array_equal(e, rounded * rounded)


def test_bytes_become_float32_at_once() -> None:
    text = '%h: f16[8] = cast(%x) {to="f16"}\n%y: f16[8] = mul(%h, %h)\nreturn %y'
    assert dtypes(convert_precision(graph(text, "%x: u8[8]"))) == [("cast", "f32"), ("mul", "f32"), ("cast", "f16")]
    assert dtypes(convert_precision(graph(text, "%x: i32[8]")))[:2] == [("cast", "f16"), ("cast", "f32")]


def test_bits_are_those_of_the_rounded_number() -> None:
    text = '%a: f16[8] = mul(%x, %x)\n%b: i16[8] = bit_cast(%a) {to="i16"}\nreturn %b'
    x = half(8)
    np.testing.assert_array_equal(convc.compile(graph(text, "%x: f16[8]"), threads=1)(x), (x * x).view(np.int16))


def test_an_intermediate_result_beyond_the_range_of_float16_stays_finite() -> None:
    text = "%a: f16[4] = mul(%x, %x)\n%y: f16[4] = div(%a, %x)\nreturn %y, %a"
    x = np.array([300, -1000, 2, 60000], np.float16)
    y, a = convc.compile(graph(text, "%x: f16[4]"), threads=1)(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(a, [np.inf, np.inf, 4, np.inf])


@both
def test_sums_do_not_stop_where_a_number_of_16_bits_would(dtype: str) -> None:
    text = f"%y: {dtype}[1] = reduce_mean(%x) {{axes=[1], keepdims=false}}\nreturn %y"
    ones = np.ones((1, 5000), NUMPY[dtype])
    np.testing.assert_array_equal(convc.compile(graph(text, f"%x: {dtype}[1,5000]"), threads=1)(ones), ones[:, 0])


@pytest.mark.parametrize(
    ("made", "want"),
    [
        ("%y: bf16[3,4] = expand(%x) {shape=[3,4]}", [[1.5] * 4, [-2] * 4, [3] * 4]),
        ("%y: bf16[3,3] = pad(%x) {pads=[[0,0],[1,1]], value=0.5}", [[0.5, 1.5, 0.5], [0.5, -2, 0.5], [0.5, 3, 0.5]]),
        ("%y: bf16[3,1] = trilu(%x) {upper=false, k=-1}", [[0], [-2], [3]]),
    ],
    ids=["expand", "pad", "trilu"],
)
def test_bfloat16_is_moved_as_it_is(made: str, want: object) -> None:
    x = np.array([[1.5], [-2], [3]], NUMPY["bf16"])
    y = convc.compile(graph(made + "\nreturn %y", "%x: bf16[3,1]"), threads=1)(x)
    np.testing.assert_array_equal(y, np.array(want, NUMPY["bf16"]))


def test_what_has_layouts_already_is_left_alone() -> None:
    final = pipeline(AVX2.machine).run(as_graph(held_in("f16", resnet(1, 16))))
    assert convert_precision(final) is final


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [resnet, mobilenet, unet, attention], ids=lambda b: b.__name__)
def test_errors_in_float16_are_no_larger_than_those_of_onnxruntime(build: object) -> None:
    """Both against the same weights in float64."""
    model = held_in("f16", build(1, 16))  # type: ignore[operator]
    x = half(np.prod(shape := [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim])).reshape(shape)
    (truth,) = run_reference(held_in("f64", model), {"x": x.astype(np.float64)})
    (got,) = convc.compile(model, threads=1).run({"x": x}).values()
    (theirs,) = run_onnxruntime(model, {"x": x})
    assert_close(got, truth.astype(np.float16))
    ours, other = (float(np.abs(y.astype(np.float64) - truth).max()) for y in (got, theirs))
    unit = float(np.spacing(np.float16(np.abs(truth).max())))
    assert ours <= max(other, unit / 2) * 1.01


def test_a_network_in_bfloat16() -> None:
    model = held_in("bf16", resnet(1, 16))
    x = half(3 * 32 * 32, "bf16").reshape(1, 3, 32, 32)
    (truth,) = run_reference(held_in("f64", model), {"x": x.astype(np.float64)})
    (got,) = convc.compile(model, threads=1).run({"x": x}).values()
    np.testing.assert_allclose(got.astype(np.float64), truth, *TOLERANCES["bfloat16"][:1], atol=2**-9)


# -- the file ---------------------------------------------------------------------------------------------------------


def test_weights_are_held_in_16_bits_where_these_hold_them() -> None:
    text = "%y: f32[1,64] = matmul(%x, %a)\n%z: f32[1,64] = matmul(%y, %b)\n%s: f32[1,64] = add(%z, %c)\nreturn %s"
    a, b, c = weights(64, 64).astype(np.float16).astype(np.float32), weights(64, 64), np.ones((1, 64), np.float32)
    made = narrow_constants(graph(text, "%x: f32[1,64]", a=a, b=b, c=c))
    assert ops(made) == ["cast", "matmul", "matmul", "add"]
    assert sorted(k.type.dtype for k in made.constants.values()) == ["f16", "f32", "f32"]


@both
def test_the_artifact_of_a_network_in_16_bits_is_no_larger_than_its_weights(tmp_path: Path, dtype: str) -> None:
    s = Sketch("dense", (1, 512))
    model = held_in(dtype, s.finish(s.dense(s.node("Relu", s.dense("x", 512, 256)), 256, 64)))
    convc.compile(model, threads=1).save(tmp_path / "net.convc")
    (part,) = read_artifact(tmp_path / "net.convc")
    large = [w for w in part.weights.values() if w.size > 1000]
    assert {w.dtype for w in large} == {NUMPY[dtype]}
    assert sum(w.size for w in large) == 512 * 256 + 256 * 64
    x = half(512, dtype).reshape(1, 512)
    (want,) = run_reference(held_in("f64", model), {"x": x.astype(np.float64)})
    assert_close(convc.load(tmp_path / "net.convc")(x), want.astype(NUMPY[dtype]))
