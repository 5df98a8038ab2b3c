"""Outputs whose size depends on data: NonMaxSuppression, NonZero, Compress, and models that read their results."""

from __future__ import annotations

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
from convc.ir.errors import GraphError, UnsupportedOpError
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
    assert str(shared.outputs[1]) == f"rows: float32[<={2 * CLASSES * 9}, 6]"


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


REFUSED = {
    "its size is read": [NMS, helper.make_node("Shape", ["picked"], ["y"])],
    "a sum over what is counted": [NMS, helper.make_node("ReduceSum", ["picked", "axes"], ["y"])],
    "its rows are counted on": [NMS, helper.make_node("Slice", ["picked", "axes", "one", "axes"], ["y"])],
    "made one axis": [NMS, helper.make_node("Reshape", ["picked", "flat"], ["y"])],
    "joined along it": [NMS, helper.make_node("Concat", ["picked", "picked"], ["y"], axis=0)],
    "a row of it": [NMS, helper.make_node("Gather", ["picked", "first"], ["y"])],
    "beside another count": [
        NMS,
        helper.make_node("NonZero", ["scores"], ["set"]),
        helper.make_node("Transpose", ["set"], ["rows"], perm=[1, 0]),
        helper.make_node("Mul", ["picked", "rows"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_depends_on_the_size_is_refused_by_name(what: str) -> None:
    constants = {"axes": np.array([0]), "one": np.array([1]), "flat": np.array([-1]), "first": np.array(0)}
    with pytest.raises(UnsupportedOpError, match=r"picked.*follows from data"):
        convc.load_onnx(model(REFUSED[what], ["y"], **constants))


def test_a_gpu_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOpError, match="non_max_suppression runs on CPUs alone"):
        convc.compile(detector(), target="cuda", arch="sm_80")


TRIM = """graph @g(%x: f32[4,3]) {
  %nz: i64[2,12], %n: i64[1] = non_zero(%x)
  %t: i64[2,12] = trim(%nz, %n) {axis=1}
  %y: i64[2,12] = neg(%t)
  return %y
}"""


def test_a_trim_inside_is_an_error() -> None:
    with pytest.raises(GraphError, match=r"neg node 'y'.*trim node stands before outputs"):
        convc.compile(parse_graph(TRIM))


def test_the_whole_of_a_counted_tensor_has_no_onnx_form() -> None:
    graph = parse_graph(TRIM.replace("%y: i64[2,12] = neg(%t)", "%y: i64[2,12] = neg(%nz)"))
    x = np.eye(4, 3, dtype=np.float32)
    np.testing.assert_array_equal(convc.compile(graph)(x)[:, :4], [[0, -1, -2, 0], [0, -1, -2, 0]])
    with pytest.raises(UnsupportedOpError, match=r"'y' has more elements than count"):
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
