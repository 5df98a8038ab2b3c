"""Loop and Scan as loops that stay loops, compared with ONNX Runtime and onnx's reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, parser
from support import models
from support.compare import check
from support.compiling import compiled
from support.malformed import raises
from support.oracles import run_onnxruntime, run_reference
from support.tolerances import assert_close

import convc
from convc import LimitError, Limits, ModelFileError
from convc.ir.ops.loop import Loop
from convc.ir.text import parse_graph, print_graph

RNG = np.random.default_rng(0)


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX's text form. ``@steps`` in it stands for a body's declarations of its number and condition."""
    text = text.replace("@steps", "int64 i, bool go")
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    onnx.checker.check_model(made, full_check=True)
    return made


def counted(steps: int) -> onnx.ModelProto:
    return model(f"""g (float[3] x, float[3] w) => (float[3] last, float[{steps},3] all) {{
      n = Constant <value_int = {steps}> ()
      last, all = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] t, float[3] u)
        {{ go2 = Identity(go) f = Cast<to = 1>(i) sw = Mul(s, w) t = Tanh(sw) u = Add(t, f) }}> (n, , x) }}""")


def drawn(made: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random values for the inputs of a model."""
    feeds = {}
    for i in made.graph.input:
        dtype = helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
        low, high = (-1.0, 1.0) if dtype.kind == "f" else (0.0, 2.0)
        feeds[i.name] = RNG.uniform(low, high, shape).astype(dtype)
    return feeds


LOOPS: dict[str, str] = {
    "states that swap": """g (float[3] x, float[3] y) => (float[3] a, float[3] b, float[9,3] c) {
      n = Constant <value_int = 9> ()
      a, b, c = Loop <body = b (@steps, float[3] s, float[3] t) => (bool go2, float[3] t2, float[3] s2, float[3] s3)
        { go2 = Identity(go) t2 = Identity(t) s2 = Identity(s) s3 = Identity(s) }> (n, , x, y) }""",
    "states that read each other": """g (float[3] x, float[3] y) => (float[3] a, float[3] b) {
      n = Constant <value_int = 8> ()
      a, b = Loop <body = b (@steps, float[3] s, float[3] t) => (bool go2, float[3] p, float[3] q)
        { go2 = Identity(go) p = Sub(s, t) q = Tanh(s) }> (n, , x, y) }""",
    "a state that is stacked, twice": """g (float[3] x, float[3] w) => (float[3] a, float[7,3] b, float[7,3] c) {
      n = Constant <value_int = 7> ()
      a, b, c = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] p, float[3] p2, float[3] p3)
        { go2 = Identity(go) p = Sub(s, w) p2 = Identity(p) p3 = Identity(p) }> (n, , x) }""",
    "one initial value for two states": """g (float[3] x) => (float[3] a, float[3] b) {
      n = Constant <value_int = 6> ()
      a, b = Loop <body = b (@steps, float[3] s, float[3] t) => (bool go2, float[3] p, float[3] q)
        { go2 = Identity(go) p = Add(s, t) q = Sub(s, x) }> (n, , x, x) }""",
    "outputs that the body does not make": """g (float[3] x, float[3] w) => (float[3] a, float[6,3] b, float[6,2] c) {
      n = Constant <value_int = 6> ()
      a, b, c = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] s2, float[3] p, float[2] q)
        { go2 = Identity(go) s2 = Identity(s) p = Identity(w) q = Constant <value_floats = [1.0, 2.0]> () }>
        (n, , x) }""",
    "a counter of [1]": """g (float[3] x) => (float[3] a, int64[6,1] b, float[6,3] c) {
      n = Constant <value_ints = [6]> ()
      yes = Constant <value = bool[1] {1}> ()
      a, b, c = Loop <body = b (int64[1] i, bool[1] go, float[3] s)
          => (bool[1] go2, float[3] p, int64[1] j, float[3] p2)
        { go2 = Identity(go) f = Cast<to = 1>(i) p = Add(s, f) j = Identity(i) p2 = Mul(p, f) }> (n, yes, x) }""",
    "the condition ends it": """g (float[3] x) => (float[3] a, float[12,3] b) {
      n = Constant <value_int = 100> ()
      yes = Constant <value = bool {1}> ()
      eleven = Constant <value_int = 11> ()
      a, b = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] p, float[3] p2)
        { go2 = Less(i, eleven) p = Sin(s) p2 = Cos(p) }> (n, yes, x) }""",
    "a state ends it": """g (float[3] x) => (float[3] a, int64 b) {
      yes = Constant <value = bool {1}> ()
      zero = Constant <value_int = 0> ()
      two = Constant <value_int = 2> ()
      most = Constant <value_int = 30> ()
      a, b = Loop <body = b (@steps, float[3] s, int64 j) => (bool go2, float[3] p, int64 j2)
        { j2 = Add(j, two) go2 = Less(j2, most) p = Sin(s) }> (, yes, x, zero) }""",
    "it never begins": """g (float[3] x) => (float[3] a, float[0,3] b) {
      n = Constant <value_int = 5> ()
      no = Constant <value = bool {0}> ()
      a, b = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] p, float[3] p2)
        { go2 = Identity(go) p = Sin(s) p2 = Cos(p) }> (n, no, x) }""",
    "a loop in a loop, and an If": """g (float[3] x, float[3] w) => (float[3] a, float[5,6,3] b) {
      n = Constant <value_int = 5> ()
      m = Constant <value_int = 6> ()
      one = Constant <value_int = 3> ()
      a, b = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] p, float[6,3] p2) {
          go2 = Identity(go)
          few = Less(i, one)
          v = If <then_branch = t () => (float[3] v1) { v1 = Tanh(s) }, else_branch = e () => (float[3] v2)
            { v2 = Neg(s) }> (few)
          p, p2 = Loop <body = c (int64 i2, bool go3, float[3] s2) => (bool go4, float[3] s3, float[3] s4)
            { go4 = Identity(go3) sw = Mul(s2, w) s3 = Add(sw, v) f = Cast<to = 1>(i) s4 = Add(s3, f) }> (m, , v) }>
        (n, , x) }""",
    "a state whose shape changes at first": """g (float[1] x) => (float[6] a) {
      n = Constant <value_int = 5> ()
      a = Loop <body = b (@steps, float[d] s) => (bool go2, float[e] p)
        { go2 = Identity(go) p = Concat<axis = 0>(s, x) }> (n, , x) }""",
    "shapes that follow from the counter": """g (float[20,3] q) => (float[3] a) {
      n = Constant <value_int = 6> ()
      zero = Constant <value_ints = [0]> ()
      s0 = Constant <value_floats = [0.0, 0.0, 0.0]> ()
      a = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] p) {
        go2 = Identity(go) one = Constant <value_int = 1> () j = Add(i, one) e = Unsqueeze(j, zero)
        part = Slice(q, zero, e) r = ReduceSum<keepdims = 0>(part, zero) p = Add(s, r) }> (n, , s0) }""",
    "scans in both directions": """g (float[20,3] q, float[3,20] r, float[3] x)
        => (float[3] last, float[3,20] a, float[20,3] b) {
      last, a, b = Scan <num_scan_inputs = 2, scan_input_axes = [0, -1], scan_input_directions = [1, 0],
        scan_output_axes = [-1, 0], scan_output_directions = [0, 1], body = b (float[3] s, float[3] e, float[3] f)
          => (float[3] t, float[3] u, float[3] v)
        { es = Mul(e, s) t = Add(es, f) u = Sub(t, e) v = Identity(f) }> (x, q, r) }""",
    "no state": """g (int64[20] k) => (int64[20] a) {
      a = Scan <num_scan_inputs = 1, body = b (int64 e) => (int64 t) { t = Mul(e, e) }> (k) }""",
    "only states": """g (int64[20] k) => (int64 a) {
      zero = Constant <value_int = 0> ()
      a = Scan <num_scan_inputs = 1, body = b (int64 s, int64 e) => (int64 t) { t = Add(s, e) }> (zero, k) }""",
    "other dtypes": """g (float16[20,3] h, bool[20,3] m, uint8[20,5] u)
        => (bool[3] mm, uint8[5] uu, float16[20,3] a, uint8[20,5] b) {
      m0 = Constant <value = bool[3] {1, 0, 1}> ()
      u0 = Constant <value = uint8[5] {1, 2, 3, 4, 5}> ()
      mm, uu, a, b = Scan <num_scan_inputs = 3,
        body = b (bool[3] p, uint8[5] v, float16[3] e, bool[3] f, uint8[5] c)
          => (bool[3] p2, uint8[5] v2, float16[3] e2, uint8[5] c2)
        { p2 = Xor(p, f) v2 = Add(v, c) one = Cast<to = 10>(p2) e2 = Add(e, one) c2 = Max(v2, c) }>
        (m0, u0, h, m, u) }""",
    "a matrix product with weights": """g (float[20,3] q) => (float[1,8] a, float[20,1,8] b) {
      s0 = Constant <value = float[1,8] {0, 0, 0, 0, 0, 0, 0, 0}> ()
      three = Constant <value_ints = [1, 3]> ()
      w0 = Constant <value_floats = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8]> ()
      rows = Constant <value_ints = [3, 8]> ()
      cols = Constant <value_ints = [8, 8]> ()
      w = Expand(w0, rows)
      v = Expand(w0, cols)
      a, b = Scan <num_scan_inputs = 1, body = b (float[1,8] s, float[3] e) => (float[1,8] t, float[1,8] u)
        { e2 = Reshape(e, three) y = MatMul(e2, w) z = MatMul(s, v) yz = Add(y, z) t = Tanh(yz) u = Identity(t) }>
        (s0, q) }""",
    "a counter of [1] with a state that is a scalar": """g (float x) => (float[1] a) {
      n = Constant <value_int = 9> () yes = Constant <value = bool {1}> ()
      a = Loop <body = b (int64[1] i, bool go, float s) => (bool go2, float[1] p) { go2 = Identity(go) f =
        Cast<to=1>(i) p = Add(s, f) }> (n, yes, x) }""",
    "no step, with a counter of [1]": """g (float[3] x) => (float[3] a, int64[0,1] b) {
      n = Constant <value_int = 0> () yes = Constant <value = bool {1}> ()
      a, b = Loop <body = b (int64[1] i, bool go, float[3] s) => (bool go2, float[3] p, int64[1] j) { go2
        = Identity(go) j = Identity(i) p = Neg(s) }> (n, yes, x) }""",
    "a loop in a loop with two counters": """g (float[3] s) => (float[3] a) {
      n = Constant <value_int = 7> () yes = Constant <value = bool {1}> ()
      a = Loop <body = b (int64 i, bool go, float[3] t) => (bool go2, float[3] p) { go2 = Identity(go) 
      p = Loop <body = c (int64 j, bool go3, float[3] u) => (bool go4, float[3] v) { go4 = Identity(go3)
        fi=Cast<to=1>(i) fj=Cast<to=1>(j) w=Mul(fi,fj) z=Add(u,w) v=Sin(z)}> (n, yes, t) }> (n, yes, s) }""",
    "trips that follow from the counter around": """g (float[3] s) => (float[3] a) {
      n = Constant <value_int = 7> () yes = Constant <value = bool {1}> ()
      a = Loop <body = b (int64 i, bool go, float[3] t) => (bool go2, float[3] p) { go2 = Identity(go) 
      p = Loop <body = c (int64 j, bool go3, float[3] u) => (bool go4, float[3] v) { go4 = Identity(go3)
        v=Sin(u)}> (i, yes, t) }> (n, yes, s) }""",
    "a state of 64 and one of 32 bits": """g (double[3] x, int32[2] k) => (double[3] a, int32[2] kk, int32[9,2] ks) {
      n = Constant <value_int = 9> () yes = Constant <value = bool {1}> ()
      a, kk, ks = Loop <body = b (int64 i, bool go, double[3] s, int32[2] m) => (bool go2, double[3] p,
        int32[2] m2, int32[2] m3) { go2 = Identity(go) p = Sin(s) m2=Add(m,k) m3=Mul(m2,k) }> (n, yes, x,
        k) }""",
    "its condition is false after the first step": """g (float[3] x) => (float[3] a, int64[1] c) {
      n = Constant <value_int = 9> () yes = Constant <value = bool {1}> ()
      a, c = Loop <body = b (int64 i, bool go, float[3] s) => (bool go2, float[3] p, int64 j) { go2 =
        Not(go) p = Sin(s) j=Identity(i) }> (n, yes, x) }""",
    "a convolution with weights": """g (float[6,1,3,8,8] q, float[1,4,8,8] x)
        => (float[1,4,8,8] a, float[6,1,4,8,8] b) {
      one = Constant <value_floats=[0.1,0.2,0.3]>() sh = Constant<value_ints=[1,3,1,1]>() big =
        Constant<value_ints=[4,3,3,3]>() w0 = Reshape(one, sh) w = Expand(w0, big)
      a, b = Scan <num_scan_inputs = 1, body = b (float[1,4,8,8] s, float[1,3,8,8] e) => (float[1,4,8,8]
        p, float[1,4,8,8] r) { c = Conv<pads=[1,1,1,1]>(e, w) p0 = Add(s,c) p=Tanh(p0) r = Relu(p) }> (x,
        q) }""",
    "rows that are scattered into a state": """g (float[20,3] q) => (float[20,3] a) {
      n = Constant <value_int = 20> () yes = Constant <value = bool {1}> () z=Constant<value_ints=[0]>()
        s11 = Constant<value_ints=[1,1]>()
      zero = Mul(q, q)
      a = Loop <body = b (int64 i, bool go, float[20,3] s) => (bool go2, float[20,3] p) { go2 =
        Identity(go) row = Gather(q, i) old=Gather(s, i) r=Sub(row, old) i1 = Reshape(i, s11) u =
        Unsqueeze(r, z) p = ScatterND(s, i1, u) }> (n, yes, zero) }""",
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_numbers(name: str) -> None:
    made = model(LOOPS[name])
    feeds = drawn(made)
    check(made, feeds)
    graph = convc.load_onnx(made)
    assert parse_graph(print_graph(graph), {c.sha: c.array for c in graph.all_constants()}) == graph
    exported = convc.to_onnx(graph)
    check(exported, feeds)
    check(exported, feeds, run_reference)  # onnx's reference lacks some forms of Loop and Scan, but not what is written


def test_the_body_is_compiled_once() -> None:
    """A loop of 1,200 steps has the kernels of one of 12, and the code of both has the same functions."""
    few, many = (compiled(counted(steps)) for steps in (12, 1200))
    assert [k.group.name for k in few.kernels] == [k.group.name for k in many.kernels]
    check(counted(1200), drawn(counted(1200)))


def test_weights_are_packed_once() -> None:
    """What follows from constants is computed at load, and what is the same in every step before the loop."""
    made = model("""g (float[20,3] q, float[3] x) => (float[20,3] a) {
      w = Constant <value = float[3] {1, 2, 3}> ()
      a = Scan <num_scan_inputs = 1, body = b (float[3] e) => (float[3] u)
        { v = Exp(x) ww = Cos(w) wv = Add(ww, v) ev = Mul(e, wv) u = Tanh(ev) }> (q) }""")
    model_ = compiled(made)
    (loop,) = [k for k in model_.kernels if k.rule == "loop"]
    op = loop.group.anchor.op
    assert isinstance(op, Loop)
    assert len(op.body.nodes) == 1
    assert not op.body.constants
    check(made, drawn(made))


def test_a_loop_of_constants_runs_at_load() -> None:
    made = model("""g (float[3] x) => (float[3] y) {
      n = Constant <value_int = 9> ()
      w = Constant <value = float[3] {1, 2, 3}> ()
      a = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] t) { go2 = Identity(go) t = Sin(s) }> (n, , w)
      y = Add(x, a) }""")
    check(made, drawn(made))
    assert any("steps" in call for call in compiled(made).description.details["plan"]["load"]["calls"])


@pytest.mark.parametrize("threads", [1, 2])
def test_parallel_kernels_in_a_body(threads: int) -> None:
    made = model("""g (float[6,64,64] q, float[64,64] x) => (float[64,64] a, float[6,64,64] b) {
      a, b = Scan <num_scan_inputs = 1, body = b (float[64,64] s, float[64,64] e) => (float[64,64] t, float[64,64] u)
        { se = MatMul(s, e) t = Tanh(se) u = Relu(se) }> (x, q) }""")
    feeds = {
        name: RNG.uniform(-0.1, 0.1, shape).astype(np.float32) for name, shape in (("q", (6, 64, 64)), ("x", (64, 64)))
    }
    for g, w in zip(compiled(made, threads=threads).run(feeds).values(), run_onnxruntime(made, feeds), strict=True):
        assert_close(g, w)


def test_a_loop_that_never_ends_is_refused() -> None:
    text = """g (float[3] x) => (float[3] a) {
      yes = Constant <value = bool {1}> ()
      a = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] p) { go2 = Identity(go) p = Sin(s) }>
        (, yes, x) }"""
    with raises(ModelFileError, "Loop node", "never ends"):
        convc.load_onnx(model(text))


def test_too_many_steps_are_refused() -> None:
    with raises(LimitError, "Loop node", "1200 steps", "the limit is 1000", "--limit steps="):
        convc.load_onnx(counted(1200), limits=Limits(steps=1000))


def test_steps_that_differ_are_unrolled_within_the_limit() -> None:
    """Beyond it the runtime runs them one by one."""
    text = LOOPS["a state whose shape changes at first"].replace("value_int = 5", "value_int = 600")
    graph = convc.load_onnx(model(text.replace("float[6] a", "float[601] a")), limits=Limits(nodes=500))
    assert [n.op.name for n in graph.nodes] == ["while"]
    x = np.float32([3])
    assert_close(convc.compile(graph, threads=1)(x), run_onnxruntime(model(text), {"x": x})[0])


def test_dynamic_sizes() -> None:
    """The sizes of a body's values may be given when the graph is there already."""
    graph = convc.load_onnx(
        model("""g (float[9,b,3] q, float[b,3] x) => (float[b,3] a, float[9,b,3] c) {
      a, c = Scan <num_scan_inputs = 1, body = b (float[b,3] s, float[b,3] e) => (float[b,3] t, float[b,3] u)
        { se = Add(s, e) t = Tanh(se) u = Relu(se) }> (x, q) }""")
    )
    fixed = model("""g (float[9,2,3] q, float[2,3] x) => (float[2,3] a, float[9,2,3] c) {
      a, c = Scan <num_scan_inputs = 1, body = b (float[2,3] s, float[2,3] e) => (float[2,3] t, float[2,3] u)
        { se = Add(s, e) t = Tanh(se) u = Relu(se) }> (x, q) }""")
    feeds = drawn(fixed)
    got = convc.compile(graph, shapes={name: x.shape for name, x in feeds.items()}).run(feeds)
    for g, w in zip(got.values(), run_onnxruntime(fixed, feeds), strict=True):
        assert_close(g, w)


OPEN: dict[str, str] = {
    "a scan": """g (float[d] x, float[t,d] q) => (float[d] a, float[t,d] c) {
      a, c = Scan <num_scan_inputs = 1, body = b (float[d] s, float[d] e) => (float[d] r, float[d] u)
        { se = Add(s, e) r = Tanh(se) u = Relu(se) }> (x, q) }""",
    "a scan from the last to the first": """g (float[d] x, float[t,d] q) => (float[d] a, float[t,d] c) {
      a, c = Scan <num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1],
        body = b (float[d] s, float[d] e) => (float[d] r, float[d] u)
        { se = Add(s, e) r = Tanh(se) u = Relu(se) }> (x, q) }""",
    "states that swap": """g (float[d] x, float[t,d] q) => (float[d] a, float[d] b, float[t,d] c) {
      n0 = Shape <start = 0, end = 1> (q) one = Constant <value_ints = [0]> () n = Squeeze(n0, one)
      a, b, c = Loop <body = b (@steps, float[d] s, float[d] r) => (bool go2, float[d] r2, float[d] s2, float[d] u)
        { go2 = Identity(go) r2 = Identity(r) s2 = Tanh(s) f = Cast<to = 1>(i) u = Add(s, f) }> (n, , x, x) }""",
    "a loop in a loop": """g (float[d] x, float[t,d] q) => (float[d] a, float[t,d] c) {
      half = Constant <value_float = 0.5> ()
      a, c = Scan <num_scan_inputs = 1, body = b (float[d] s, float[d] e) => (float[d] r, float[d] u) {
        v, u = Scan <num_scan_inputs = 1, body = k (float w, float z) => (float y, float p)
          { y = Add(w, z) p = Mul(w, z) }> (half, e)
        r0 = Add(s, u) r = Tanh(r0) }> (x, q)
      }""",
}


@pytest.mark.parametrize("name", OPEN)
def test_any_number_of_steps(name: str, tmp_path: Path) -> None:
    """One artifact takes any number of steps, of states of any size."""
    made = model(OPEN[name])
    compiled = convc.compile(made, threads=1)
    compiled.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc")
    for steps, size in ((5, 4), (1, 3), (2, 7), (40, 4), (9, 1), (6, 65)):
        feeds = {"x": RNG.uniform(-1, 1, size), "q": RNG.uniform(-1, 1, (steps, size))}
        feeds = {name: x.astype(np.float32) for name, x in feeds.items()}
        for g, w in zip(loaded.run(feeds).values(), run_onnxruntime(made, feeds), strict=True):
            assert_close(g, w, f"{steps} steps of {size}")
    with raises(convc.SizeError, "t >= 1", "t = 0"):
        loaded.run({"x": feeds["x"], "q": feeds["q"][:0]})


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrences_of_any_length(op: str, tmp_path: Path) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    weights = {name: RNG.uniform(-1, 1, (1, gates * 5, size)).astype(np.float32) for name, size in (("w", 3), ("r", 5))}
    node = helper.make_node(op, ["x", "w", "r"], ["y", "h"], hidden_size=5)
    made = models.model([node], {"x": ["t", "n", 3]}, "y h", weights)
    convc.compile(made, threads=1).save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc")
    for steps, batch in ((5, 2), (1, 1), (12, 3)):
        x = RNG.uniform(-1, 1, (steps, batch, 3)).astype(np.float32)
        for g, w in zip(loaded(x), run_onnxruntime(made, {"x": x}), strict=True):
            assert_close(g, w)


def test_a_loop_of_open_steps_is_exported() -> None:
    made = model(OPEN["a scan"])
    again = convc.to_onnx(convc.load_onnx(made))
    feeds = {"x": np.float32([0.1, -0.2]), "q": RNG.uniform(-1, 1, (3, 2)).astype(np.float32)}
    for g, w in zip(run_onnxruntime(again, feeds), run_onnxruntime(made, feeds), strict=True):
        assert_close(g, w)


def test_steps_draw_different_random_numbers() -> None:
    made = model("""g (float[3] x) => (float[6,3] a) {
      n = Constant <value_int = 6> ()
      yes = Constant <value = bool {1}> ()
      a = Loop <body = b (@steps) => (bool go2, float[3] r)
        { go2 = Identity(go) u = RandomUniform <shape = [3]> () r = Add(u, x) }> (n, yes) }""")
    (drawn,) = convc.compile(made).run({"x": np.zeros(3, np.float32)}).values()
    assert len(np.unique(drawn)) == 18


def test_a_loop_of_constants_is_bounded() -> None:
    """What runs at load counts, even where it only moves elements."""
    made = model("""g (float[3] x) => (float[3] y) {
      n = Constant <value_int = 9000> ()
      w = Constant <value = float[3] {1, 2, 3}> ()
      a = Loop <body = b (@steps, float[3] s) => (bool go2, float[3] t)
        { go2 = Identity(go) order = Constant <value_ints = [1, 2, 0]> () t = Gather(s, order) }> (n, , w)
      y = Add(x, a) }""")
    with raises(LimitError, "27000 operations on constants", "the limit is 20000"):
        convc.compile(made, limits=Limits(constant_flops=20000))
    check(made, drawn(made))
