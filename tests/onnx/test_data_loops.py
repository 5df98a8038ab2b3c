"""Loops whose number of steps, or whose sizes, data decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import models
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc.ir.text import parse_graph, print_graph

node = helper.make_node
CONSTANTS = {
    "axes": np.array([0]), "one": np.array([1]), "zero": np.array(0), "yes": np.array(True), "half": np.float32(0.5),
    "limit": np.float32(100), "none": np.zeros((0, 4), np.float32), "row": np.arange(4, dtype=np.float32)[None],
    "weight": np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32), "two": np.array([2]),
    "plane": np.array([1, 1]), "few": np.array(3), "picture": np.array([1, 1, 5, 8]),
}  # fmt: skip
COUNT = [
    node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
    node("Slice", ["sum", "axes", "one"], ["first"]),
    node("Squeeze", ["first"], ["total"]),
    node("Cast", ["total"], ["n"], to=TensorProto.INT64),
]
"""The number of steps is the sum of the first column of the input, ``[40, 4]``."""


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", models.ports(inputs), models.ports(outputs))


GOING = {"i": (np.int64, []), "going": (np.bool_, [])}
PASS = node("Identity", ["going"], ["on"])
LOOPS = {
    "a state of a fixed shape": [
        node("Loop", ["n", "yes", "row"], ["y", "all"], body=graph(
            [PASS, node("Add", ["s", "sum"], ["t"]), node("Mul", ["t", "half"], ["u"])],
            GOING | {"s": [1, 4]}, "on t u",
        )),
    ],
    "a state that grows": [
        node("Loop", ["n", "yes", "none"], ["y"], body=graph(
            [
                PASS, node("Gather", ["x", "i"], ["e"]), node("Unsqueeze", ["e", "axes"], ["f"]),
                node("Concat", ["s", "f"], ["t"], axis=0),
            ], GOING | {"s": ["k", 4]}, "on t",
        )),
        node("ReduceSum", ["y", "axes"], ["all"]),
    ],
    "a condition": [
        node("Loop", ["", "yes", "sum"], ["y", "all"], body=graph(
            [
                node("Add", ["s", "s"], ["t"]), node("ReduceMax", ["t"], ["m"], keepdims=0),
                node("Less", ["m", "limit"], ["on"]), node("Cast", ["i"], ["all_i"], to=TensorProto.FLOAT),
            ], GOING | {"s": [4]}, "on t all_i",
        )),
    ],
    "sizes in a step": [
        node("Loop", ["few", "yes", "sum"], ["y"], body=graph(
            [
                PASS, node("Cast", ["i"], ["at"], to=TensorProto.FLOAT), node("Greater", ["x", "at"], ["more"]),
                node("Slice", ["more", "axes", "one", "one"], ["more2"]), node("Squeeze", ["more2", "one"], ["more1"]),
                node("Compress", ["x", "more1"], ["kept"], axis=0),
                node("ReduceSum", ["kept", "axes"], ["k"], keepdims=0), node("Add", ["s", "k"], ["t"]),
            ], GOING | {"s": [4]}, "on t",
        )),
        node("Identity", ["y"], ["all"]),
    ],
    "weights in a step": [
        node("Reshape", ["x", "picture"], ["p"]),
        node("Loop", ["n", "yes", "p"], ["y"], body=graph(
            [
                PASS, node("Slice", ["s", "a", "b", "c"], ["inner"]),
                node("Conv", ["inner", "weight"], ["z"], pads=[1] * 4),
                node("ReduceMean", ["z"], ["t"], axes=[1], keepdims=1),
            ], GOING | {"s": [1, 1, "h", 8]}, "on t",
        )),
        node("Identity", ["y"], ["all"]),
    ],
    "a loop in a loop": [
        node("Loop", ["n", "yes", "none"], ["y"], body=graph(
            [
                PASS, node("Add", ["i", "few"], ["steps"]),
                node("Loop", ["steps", "yes", "s"], ["t"], body=graph(
                    [node("Identity", ["g"], ["on2"]), node("Concat", ["s2", "row"], ["t2"], axis=0)],
                    {"j": (np.int64, []), "g": (np.bool_, []), "s2": ["k2", 4]}, "on2 t2",
                )),
            ], GOING | {"s": ["k", 4]}, "on t",
        )),
        node("Shape", ["y"], ["all"]),
    ],
}  # fmt: skip


def model(what: str) -> onnx.ModelProto:
    more = {"a": np.array([0]), "b": np.array([-1]), "c": np.array([2])}
    x = {"x": [40, 4]} if what != "weights in a step" else {"x": [10, 4]}
    return models.model([*COUNT, *LOOPS[what]], x, "y all", CONSTANTS | more, opset=17, name="net")


def data(steps: int, rows: int = 40) -> np.ndarray:
    x = np.random.default_rng(steps).integers(0, 4, (rows, 4)).astype(np.float32)
    x[:, 0] = 0
    x[: min(steps, rows), 0] = 1
    return x


@pytest.mark.parametrize("what", LOOPS)
def test_steps(what: str, tmp_path: Path) -> None:
    """One compiled model takes any number of steps, none too; so do its artifact and the exported file."""
    m = model(what)
    read = convc.load_onnx(m)
    constants = {c.sha: c.array for c in read.all_constants()}
    assert parse_graph(print_graph(read), constants) == read
    made = convc.compile(m, threads=1)
    made.save(tmp_path / "m.convc")
    ways = [made, convc.load(tmp_path / "m.convc"), convc.compile(convc.to_onnx(read), threads=1)]
    rows = 10 if what == "weights in a step" else 40
    for steps in (3, 0, 1, 2) if what == "weights in a step" else (5, 0, 1, 17, 5):
        x = data(steps, rows)
        for way in ways:
            for g, w in zip(way(x), run_onnxruntime(m, {"x": x}), strict=True):
                assert_close(g, w)


def test_steps_are_bounded() -> None:
    made = convc.compile(model("a condition"), threads=1, limits=convc.Limits(steps=20))
    assert made(data(7))[0].max() >= 100
    with pytest.raises(convc.LimitError, match=r"loop 'y'.*more than 20 steps.*steps=\.\.\."):
        made(np.zeros((40, 4), np.float32))


def test_a_size_that_a_step_does_not_take() -> None:
    nodes = [
        *COUNT,
        node("Loop", ["n", "yes", "none"], ["y"], body=graph(
            [
                PASS, node("Add", ["n", "i"], ["k"]), node("Unsqueeze", ["k", "axes"], ["k1"]),
                node("Concat", ["k1", "four"], ["shape"], axis=0), node("ConstantOfShape", ["shape"], ["z"]),
                node("Add", ["z", "x"], ["t"]),
            ], GOING | {"s": ["k", 4]}, "on t",
        )),
    ]  # fmt: skip
    m = models.model(nodes, {"x": [40, 4]}, "y", CONSTANTS | {"four": np.array([4])}, opset=17)
    with pytest.raises(convc.SizeError, match=r"loop 'y', step 1: .*40 == u\d+.*u\d+ = 41"):
        convc.compile(m, threads=1)(data(40))
