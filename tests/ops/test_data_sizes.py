"""Outputs whose size depends on data: NonMaxSuppression, NonZero, Compress, and models that read their results."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import models
from support.compiling import compiled
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc.ir.errors import GraphError, SizeError, UnsupportedOpError
from convc.ir.text import parse_graph, print_graph

BOXES, CLASSES = 60, 4


def model(nodes: list[onnx.NodeProto], outputs: list[str], **constants: Any) -> onnx.ModelProto:
    """A model with inputs boxes ``[2,60,4]`` and scores ``[2,4,60]``."""
    inputs = {"boxes": [2, BOXES, 4], "scores": [2, CLASSES, BOXES]}
    standard = {"most": np.array([9]), "share": np.array([0.4], np.float32), "least": np.array([0.3], np.float32)}
    held = standard | constants
    return models.model(nodes, inputs, " ".join(outputs), held, opset=18, ir_version=10, name="detector")


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "boxes": rng.uniform(0, 1, (2, BOXES, 4)).astype(np.float32),
        "scores": rng.uniform(0, 1, (2, CLASSES, BOXES)).astype(np.float32),
    }


NMS = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "share", "least"], ["picked"])


def detector() -> onnx.ModelProto:
    """The end of a detector as exporters write it: boxes, classes and scores of the picked boxes, side by side."""
    nodes = [
        NMS,
        helper.make_node("Slice", ["picked", "zero", "one", "one"], ["image"]),
        helper.make_node("Gather", ["picked", "first"], ["kind"], axis=1),
        helper.make_node("Gather", ["picked", "ends"], ["which"], axis=1),
        helper.make_node("GatherND", ["boxes", "which"], ["chosen"]),
        helper.make_node("GatherND", ["scores", "picked"], ["score"]),
        helper.make_node("Unsqueeze", ["score", "one"], ["column"]),
        helper.make_node("Unsqueeze", ["kind", "one"], ["kinds"]),
        helper.make_node("Cast", ["kinds"], ["labels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["chosen", "scale"], ["scaled"]),
        helper.make_node("Concat", ["scaled", "labels", "column"], ["rows"], axis=1),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[1, 0]),
        helper.make_node("ReduceMax", ["rows", "one"], ["largest"], keepdims=0),
        helper.make_node("Softmax", ["rows"], ["shares"], axis=-1),
    ]
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "first": np.array(1), "ends": np.array([0, 2]),
        "scale": np.array([640, 480, 640, 480], np.float32),
    }  # fmt: skip
    return model(nodes, ["image", "rows", "columns", "largest", "shares", "picked"], **constants)


def check(m: onnx.ModelProto, made: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    got = list(made.run(given).values())
    for g, w in zip(got, run_onnxruntime(m, given), strict=True):
        assert_close(g, w, tolerance=(1e-6, 0.0))
    return got


def test_what_was_picked_is_looked_up(tmp_path: Path) -> None:
    """The picked boxes are looked up when the model is compiled, loaded from a file, or exported and imported again.

    It runs on one thread or two, on data that gives different sizes.
    """
    m = detector()
    shared = compiled(m, threads=2)
    shared.save(tmp_path / "detector.so")
    ways = [shared, convc.load(tmp_path / "detector.so"), convc.compile(m, threads=1)]
    ways.append(convc.compile(convc.to_onnx(convc.load_onnx(m))))
    sizes = set()
    for seed in range(4):
        given = feeds(seed)
        given["scores"][:] = given["scores"] ** (1 + 8 * seed)
        results = [check(m, way, given) for way in ways]
        sizes.add(len(results[0][-1]))
        for other in results[1:]:
            assert all(a.tobytes() == b.tobytes() for a, b in zip(results[0], other, strict=True))
    assert len(sizes) == 4
    none = feeds() | {"scores": np.zeros((2, CLASSES, BOXES), np.float32)}
    assert check(m, shared, none)[-1].shape == (0, 3)
    assert str(shared.outputs[1]) == "rows: float32[u0, 6]"


def test_text_form() -> None:
    graph = convc.load_onnx(detector())
    assert parse_graph(print_graph(graph), {c.sha: c.array for c in graph.constants.values()}) == graph


def test_compress_with_a_condition_of_data() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["scores", "axes"], ["best"], keepdims=0),
        helper.make_node("Greater", ["best", "limit"], ["good"]),
        helper.make_node("Compress", ["boxes", "good"], ["kept"], axis=1),
        helper.make_node("Compress", ["boxes", "good"], ["flat"]),
        helper.make_node("NonZero", ["good"], ["where"]),
    ]
    m = model(nodes, ["kept", "flat", "where"], axes=np.array([0, 1]), limit=np.array(0.9, np.float32))
    check(m, convc.compile(m), feeds())


def graph(passed_on: str) -> onnx.GraphProto:
    """A subgraph that gives a value of the graph around it."""
    return helper.make_graph([helper.make_node("Identity", [passed_on], ["made"])], "g", [], models.ports("made"))


AFTER = {
    "its size is read": [NMS, helper.make_node("Shape", ["picked"], ["y"])],
    "a sum over what is counted": [NMS, helper.make_node("ReduceSum", ["picked", "axes"], ["y"])],
    "its rows are counted on": [NMS, helper.make_node("Slice", ["picked", "axes", "one", "axes"], ["y"])],
    "made one axis": [NMS, helper.make_node("Reshape", ["picked", "flat"], ["y"])],
    "joined along it": [NMS, helper.make_node("Concat", ["picked", "picked"], ["y"], axis=0)],
    "joined with what is fixed": [NMS, helper.make_node("Concat", ["picked", "row", "picked"], ["y"], axis=0)],
    "a row of it": [NMS, helper.make_node("Gather", ["picked", "first"], ["y"])],
    "sorted": [NMS, helper.make_node("TopK", ["picked", "one"], ["y", "at"], axis=0)],
    "padded": [NMS, helper.make_node("Pad", ["picked", "pads"], ["y"])],
    "repeated": [NMS, helper.make_node("Tile", ["picked", "twice"], ["y"])],
    "multiplied": [
        NMS, helper.make_node("Cast", ["picked"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["real", "matrix"], ["y"]),
    ],
    "flattened for a dense layer": [
        NMS, helper.make_node("GatherND", ["scores", "picked"], ["best"]),
        helper.make_node("Unsqueeze", ["best", "one"], ["column"]),
        helper.make_node("Gemm", ["column", "line"], ["y"]),
    ],
    "counted again": [
        NMS, helper.make_node("GatherND", ["scores", "picked"], ["best"]),
        helper.make_node("Greater", ["best", "limit"], ["good"]), helper.make_node("NonZero", ["good"], ["where"]),
        helper.make_node("Compress", ["picked", "good"], ["y"], axis=0),
    ],
    "its size computed with": [
        NMS, helper.make_node("Shape", ["picked"], ["shape"], end=1),
        helper.make_node("Mul", ["shape", "shape"], ["n"]),
        helper.make_node("ConstantOfShape", ["n"], ["y"]),
    ],
    "as many as the rest": [
        NMS, helper.make_node("Shape", ["picked"], ["shape"], end=1), helper.make_node("Sub", ["many", "shape"], ["n"]),
        helper.make_node("Slice", ["boxes", "axes", "n", "one"], ["y"]),
    ],
    "numbered": [
        NMS, helper.make_node("Shape", ["picked"], ["shape"], end=1),
        helper.make_node("Squeeze", ["shape"], ["n"]), helper.make_node("Range", ["start", "n", "step"], ["y"]),
    ],
    "another node, or none": [
        NMS, helper.make_node("Size", ["picked"], ["n"]), helper.make_node("Greater", ["n", "bound"], ["some"]),
        helper.make_node(
            "If", ["some"], ["y"],
            then_branch=graph("picked"), else_branch=graph("row"),
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", AFTER)
def test_anything_may_follow(what: str) -> None:
    """What reads a result whose size data decides is computed for any size, for none and for all."""
    constants = {
        "axes": np.array([0]), "one": np.array([1]), "flat": np.array([-1]), "first": np.array(0), "start": np.array(0),
        "step": np.array(1), "row": np.array([[7, 7, 7]]), "pads": np.array([2, 0, 1, 0]), "twice": np.array([2, 1]),
        "matrix": np.arange(60, dtype=np.float32).reshape(3, 20), "line": np.arange(8, dtype=np.float32).reshape(1, 8),
        "limit": np.array(0.8, np.float32), "many": np.array([50]), "bound": np.array(60),
    }  # fmt: skip
    m = model(AFTER[what], ["y"], **constants)
    made = convc.compile(m, threads=1)
    again = convc.compile(convc.to_onnx(convc.load_onnx(m)), threads=1)
    for scale in (1, 0, 4, 1):
        given = feeds() | {"scores": feeds()["scores"] ** 9 * np.float32(scale)}
        if not scale and what in ("a row of it", "sorted"):
            with pytest.raises(SizeError, match=r"node 'y'.*u0 = 0"):
                made.run(given)
            continue
        (got,) = check(m, made, given)
        np.testing.assert_array_equal(got, next(iter(again.run(given).values())))


def test_sizes_that_differ_are_named() -> None:
    nodes = [
        NMS,
        helper.make_node("NonZero", ["scores"], ["set"]),
        helper.make_node("Transpose", ["set"], ["rows"], perm=[1, 0]),
        helper.make_node("Mul", ["picked", "rows"], ["y"]),
    ]
    with pytest.raises(SizeError, match=r"Mul node 'y': the code is for u0 == u1.*u0 = \d+, u1 = 480"):
        convc.compile(model(nodes, ["y"]), threads=1).run(feeds())


@pytest.mark.parametrize("way", ["compiled", "saved", "open"])
def test_sizes_computed_by_kernels(way: str, tmp_path: Path) -> None:
    """Integers that the code computes are the number of the best, the end of a slice, of a range, and a shape."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["n"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("TopK", ["x", "n1"], ["best", "at"], axis=1),
        helper.make_node("Slice", ["x", "axes", "n1", "one"], ["part"]),
        helper.make_node("Range", ["start", "n", "step"], ["numbers"]),
        helper.make_node("Concat", ["n1", "two"], ["shape"], axis=0),
        helper.make_node("Expand", ["start", "shape"], ["zeros"]),
        helper.make_node("Tile", ["part", "shape"], ["tiled"]),
        helper.make_node("Add", ["numbers", "numbers"], ["twice"]),
        helper.make_node("ReduceSum", ["twice"], ["total"], keepdims=0),
    ]
    constants = {
        "axes": np.array([0]), "one": np.array([1]), "start": np.array(1), "step": np.array(2), "two": np.array([2]),
    }  # fmt: skip
    outputs = "best at part numbers zeros tiled total"
    m = models.model(nodes, {"x": [3, "n" if way == "open" else 40]}, outputs, constants, opset=18, ir_version=10)
    made = convc.compile(m, threads=1)
    if way == "saved":
        made.save(tmp_path / "m.convc")
        made = convc.load(tmp_path / "m.convc")
    for size in (5, 40, 0, 5, 17):
        x = np.zeros((3, 40), np.float32)
        x.reshape(-1)[:size] = 1
        x[2] += np.linspace(0, 1e-3, 40, dtype=np.float32)
        for g, w in zip(made(x), run_onnxruntime(m, {"x": x}), strict=True):
            np.testing.assert_array_equal(g, w)
    x[:] = -1
    with pytest.raises(SizeError, match=r"size u\d+, read from 'n', is -\d+"):
        made(x)
    with pytest.raises(SizeError, match=r"TopK node"):
        made(np.full((3, 40), 1, np.float32))


def test_threads_call_one_model_with_data_of_their_own() -> None:
    m = detector()
    made, wrong = convc.compile(m, threads=1), []
    given = [feeds(seed) for seed in range(6)]
    for i, f in enumerate(given):
        f["scores"][:] = f["scores"] ** (1 + 3 * i)
    want = [run_onnxruntime(m, f) for f in given]

    def call(which: int) -> None:
        for i in range(60):
            j = (which + i) % len(given)
            for g, w in zip(made.run(given[j]).values(), want[j], strict=True):
                if g.shape != w.shape or not np.allclose(g, w, atol=1e-6):
                    wrong.append(j)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_limits_name_the_size() -> None:
    """What data asks for beyond a limit is an error of the call."""
    nodes = [
        helper.make_node("NonZero", ["scores"], ["set"]),
        helper.make_node("Shape", ["set"], ["shape"], start=1),
        helper.make_node("Concat", ["shape", "shape"], ["square"], axis=0),
        helper.make_node("ConstantOfShape", ["square"], ["y"]),
    ]
    made = convc.compile(model(nodes, ["y"]), threads=1, limits=convc.Limits(tensor_bytes=100_000))
    few = feeds() | {"scores": np.zeros((2, CLASSES, BOXES), np.float32)}
    few["scores"][0, 0, :9] = 1
    assert made.run(few)["y"].shape == (9, 9)
    with pytest.raises(convc.LimitError, match=r"'y'.*u0 = 480.*tensor_bytes"):
        made.run(feeds())


def test_a_gpu_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOpError, match="non_max_suppression runs on CPUs alone"):
        convc.compile(detector(), target="cuda", arch="sm_80")


TRIM = """graph @g("u0" most 12 typical 12, %x: f32[4,3]) {
  %nz: i64[2,12], %n: i64[1] = non_zero(%x)
  %s: i64[1] = read_sizes(%n) {sizes=["u0"]}
  %t: i64[2,"u0"] = trim(%nz) {axis=1, size="u0"}
  %y: i64[2,"u0"] = neg(%t)
  return %y
}"""


def test_a_size_is_defined_once_and_before_its_use() -> None:
    read, trim = TRIM.splitlines()[2:4]
    np.testing.assert_array_equal(
        convc.compile(parse_graph(TRIM))(np.eye(4, 3, dtype=np.float32)), -np.arange(3) * [[1], [1]]
    )
    with pytest.raises(GraphError, match=r"trim node 't'.*uses size 'u0', which data decides after it"):
        convc.compile(parse_graph(TRIM.replace(f"{read}\n{trim}", f"{trim}\n{read}")))
    with pytest.raises(GraphError, match=r"read_sizes node 'r'.*defines size 'u0', which is defined already"):
        convc.compile(parse_graph(TRIM.replace(read, f"{read}\n{read.replace('%s', '%r')}")))


def test_the_whole_of_a_counted_tensor_has_no_onnx_form() -> None:
    graph = parse_graph(TRIM.replace('%y: i64[2,"u0"] = neg(%t)', "%y: i64[2,12] = neg(%nz)"))
    x = np.eye(4, 3, dtype=np.float32)
    np.testing.assert_array_equal(convc.compile(graph)(x)[:, :4], [[0, -1, -2, 0], [0, -1, -2, 0]])
    with pytest.raises(UnsupportedOpError, match=r"'nz' has more elements than count"):
        convc.to_onnx(graph)


@pytest.mark.parametrize("axis", [None, 0, -2])
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique(axis: int | None, ordered: int) -> None:
    """All four results, and nodes that read them, over the elements and over slices."""
    attrs = {"sorted": ordered} | ({} if axis is None else {"axis": axis})
    nodes = [
        helper.make_node("Unique", ["x"], ["y", "first", "inverse", "counts"], **attrs),
        helper.make_node("Cast", ["counts"], ["share"], to=TensorProto.FLOAT),
    ]
    made = models.model(nodes, {"x": [12, 3, 2]}, "y first inverse counts share", opset=18, ir_version=10)
    x = np.random.default_rng(0).integers(0, 2 if axis is not None else 9, (12, 3, 2)).astype(np.float32)
    got = convc.compile(made, threads=1)(x)
    for g, w in zip(got, run_onnxruntime(made, {"x": x}), strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_unique_of_nothing(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    nodes = [helper.make_node("Unique", ["x"], ["y", "first", "inverse", "counts"])]
    made = models.model(nodes, {"x": list(shape)}, "y first inverse counts", opset=18)
    assert [r.shape for r in convc.compile(made, threads=1)(x)] == [(0,)] * 4


def test_unique_of_nan() -> None:
    """NaN is larger than any number and equal to itself, as in numpy."""
    x = np.array([3, np.nan, -np.inf, 1, np.nan, np.inf, -0.0, 0.0, 3], np.float32)
    nodes = [helper.make_node("Unique", ["x"], ["y", "first", "inverse", "counts"])]
    got = convc.compile(models.model(nodes, {"x": [9]}, "y first inverse counts", opset=18), threads=1)(x)
    for g, w in zip(got, np.unique(x, return_index=True, return_inverse=True, return_counts=True), strict=True):
        np.testing.assert_array_equal(g, w)
