"""If, Loop and Scan, compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import models
from support.compare import check
from support.malformed import raises

import convc
from convc import LimitError, ModelFileError, UnsupportedOpError

X = np.random.default_rng(0).uniform(-2, 2, (4, 3)).astype(np.float32)
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node


def infos(*names: str) -> list[onnx.ValueInfoProto]:
    """Value infos from texts such as ``"x:f3,2"``: name, dtype (f, i or b) and sizes."""
    made = []
    for text in names:
        name, _, rest = text.partition(":")
        sizes = [int(d) for d in rest[1:].split(",") if d]
        made.append(helper.make_tensor_value_info(name, {"f": FLOAT, "i": INT64, "b": BOOL}[rest[0]], sizes))
    return made


def model(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str], **constants: Any) -> Any:
    return models.model(nodes, infos(*inputs), infos(*outputs), constants, opset=17, ir_version=8)


STEP = helper.make_graph(
    [node("Identity", ["going"], ["go"]), node("Mul", ["state", "x"], ["next"]), node("Cast", ["i"], ["f"], to=FLOAT),
     node("Add", ["next", "f"], ["out"])],
    "body", infos("i:i", "going:b", "state:f4,3"), infos("go:b", "next:f4,3", "out:f4,3"),
)  # fmt: skip
"""The body of a loop, which reads the number of its iteration and a value from outside."""


def counted(trips: str = "trips", condition: str = "") -> list[onnx.NodeProto]:
    return [node("Loop", [trips, condition, "x"], ["last", "all"], name="n1", body=STEP)]


def test_loop() -> None:
    check(model(counted(), ["x:f4,3"], ["last:f4,3", "all:f3,4,3"], trips=3), {"x": X})


def test_loop_of_no_step() -> None:
    made = model([node("Loop", ["trips", "", "x"], ["last", "all"], body=STEP)], ["x:f4,3"], ["last:f4,3"], trips=0)
    check(made, {"x": X})


def test_loop_ends_by_its_condition() -> None:
    less = [node("Less", ["i", "two"], ["go"]), node("Add", ["state", "x"], ["next"])]
    body = helper.make_graph(less, "body", infos("i:i", "going:b", "state:f4,3"), infos("go:b", "next:f4,3"))
    made = model([node("Loop", ["", "yes", "x"], ["last"], body=body)], ["x:f4,3"], ["last:f4,3"], yes=True, two=2)
    check(made, {"x": X})


def test_loops_of_unknown_length_are_refused() -> None:
    with raises(UnsupportedOpError, "Loop node 'n1'", "trip count", "'t'"):
        convc.load_onnx(model(counted("t"), ["x:f4,3", "t:i"], ["last:f4,3"]))
    total = [
        node("ReduceSum", ["state"], ["s"], keepdims=0),
        node("Less", ["s", "limit"], ["go"]),
        node("Add", ["state", "x"], ["next"]),
    ]
    body = helper.make_graph(total, "body", infos("i:i", "going:b", "state:f4,3"), infos("go:b", "next:f4,3"))
    loop = node("Loop", ["", "yes", "x"], ["last"], name="n1", body=body)
    made = model([loop], ["x:f4,3"], ["last:f4,3"], yes=True, limit=np.float32(9))
    with raises(UnsupportedOpError, "Loop node 'n1'", "whether it goes on is computed at run time"):
        convc.load_onnx(made)


def nested(step: Sequence[onnx.NodeProto], made: str) -> onnx.ModelProto:
    """A loop in a loop in a loop, of 500 steps each."""
    body, s = list(step), made
    for depth in range(3):
        inside = infos("i:i", "going:b", f"s{depth}:f4,3")
        graph = helper.make_graph(body, f"body{depth}", inside, infos("going:b", f"{s}:f4,3"))
        body = [node("Loop", ["trips", "", f"s{depth + 1}" if depth < 2 else "x"], [f"t{depth}"], body=graph)]
        s = f"t{depth}"
    return model(body, ["x:f4,3"], [f"{s}:f4,3"], trips=500)


def test_loops_in_loops_that_multiply_are_refused() -> None:
    with raises(LimitError, "Loop node", "125250500 steps", "the limit is 4194304"):
        convc.load_onnx(nested([node("Neg", ["s0"], ["t"])], "t"))


def test_loops_of_nothing_are_nothing() -> None:
    assert not convc.load_onnx(nested([], "s0")).nodes


@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_scan(backwards: int, axis: int) -> None:
    size = X.shape[1 - axis]
    body = helper.make_graph(
        [node("Add", ["state", "e"], ["next"]), node("Tanh", ["next"], ["out"])],
        "body", infos(f"state:f{size}", f"e:f{size}"), infos(f"next:f{size}", f"out:f{size}"),
    )  # fmt: skip
    scan = node(
        "Scan", ["first", "x"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_axes=[axis],
        scan_input_directions=[backwards], scan_output_axes=[1], scan_output_directions=[1 - backwards],
    )  # fmt: skip
    outputs = [f"last:f{size}", f"all:f{size},{X.shape[axis]}"]
    check(model([scan], ["x:f4,3"], outputs, first=np.zeros(size, np.float32)), {"x": X})


def branch(op: str) -> onnx.GraphProto:
    return helper.make_graph([node(op, ["x"], [f"y_{op}"])], op, [], infos(f"y_{op}:f4,3"))


@pytest.mark.parametrize("value", [False, True])
def test_if(value: bool) -> None:
    """A condition may be known when compiling or only when running; then both branches are computed."""
    choice = [node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Exp"))]
    constant = model(choice, ["x:f4,3"], ["y:f4,3"], c=value)
    check(constant, {"x": X})
    assert len(convc.load_onnx(constant).nodes) == 1
    check(model(choice, ["x:f4,3", "c:b"], ["y:f4,3"]), {"x": X, "c": np.array(value)})


@pytest.mark.parametrize("inner", [INT64, FLOAT])
def test_if_whose_branch_gives_another_dtype_than_the_file_declares(inner: int) -> None:
    """Neither the branch that a small input decides nor any other node may give another dtype than is declared."""
    other = helper.make_graph([node("Cast", ["x"], ["b"], to=INT64)], "other", [], [models.port("b", (inner, [4, 3]))])
    nodes = [
        node("Cast", ["c"], ["k"], to=BOOL),
        node("If", ["k"], ["y"], then_branch=branch("Relu"), else_branch=other),
    ]
    compiled = convc.compile(model(nodes, ["x:f4,3", "c:f"], ["y:f4,3"]), threads=1)
    np.testing.assert_array_equal(compiled(X, np.float32(1)), np.maximum(X, 0))
    where = "output 'b' of its subgraph 'other'" if inner == FLOAT else "output 'y'"
    with raises(ModelFileError, "c = 0.0", f"{where} is declared as float32, but its node gives int64"):
        compiled(X, np.float32(0))
