"""What is imported: only what the outputs need, up to the outputs that are named, with the values that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import models
from support.compare import check
from support.malformed import raises
from support.oracles import run_onnxruntime

import convc
from convc import GraphError, InputError, ModelFileError, ShapeError, UnsupportedOpError
from convc.dynamic import DynamicModel
from convc.ir.builder import Builder
from convc.ir.dtypes import numpy_dtype
from convc.ir.ops.binary import Add
from convc.ir.types import TensorType

X = np.random.default_rng(0).uniform(-2, 2, (2, 3)).astype(np.float32)
node = helper.make_node
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL

FOREIGN = node("Foo", ["x"], ["z"], domain="com.acme")
MISFIT = node("Conv", ["x", "x"], ["z"])
EXTERNAL = TensorProto(
    name="far", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL,
    external_data=[onnx.StringStringEntryProto(key="location", value="missing.bin")],
)  # fmt: skip


def relu(*more: onnx.NodeProto, outputs: str = "y", **parts: Any) -> onnx.ModelProto:
    return models.model([node("Relu", ["x"], ["y"]), *more], {"x": [2, 3]}, outputs, **parts)


# -- dead nodes --------------------------------------------------------------------------------------------------------

DEAD: dict[str, list[onnx.NodeProto]] = {
    "foreign op": [FOREIGN],
    "random": [node("RandomUniform", [], ["r"], shape=[2])],
    "shapes that do not fit": [MISFIT],
    "attribute that does not exist": [node("Relu", ["x"], ["z"], alpha=1.0)],
    "a chain": [FOREIGN, node("Exp", ["z"], ["z2"]), node("Bar", ["z2", "y"], ["z3"])],
    "reads nothing that there is": [node("Exp", ["nowhere"], ["z"])],
    "a loop": [node("Loop", ["x", "", "x"], ["z"], body=helper.make_graph([FOREIGN], "b", [], []))],
    "external data": [node("Add", ["x", "far"], ["z"])],
}


@pytest.mark.parametrize("name", DEAD)
def test_what_nothing_reads_is_not_judged(name: str) -> None:
    graph = convc.load_onnx(relu(*DEAD[name], weights={"far": EXTERNAL}))
    assert [n.op.name for n in graph.nodes] == ["relu"]


def test_dead_nodes_are_still_sorted_and_named() -> None:
    with raises(ModelFileError, "cycle"):
        convc.load_onnx(relu(node("Exp", ["b"], ["a"]), node("Exp", ["a"], ["b"])))
    with raises(ModelFileError, "'y'", "written by both"):
        convc.load_onnx(relu(node("Exp", ["x"], ["y"])))


def test_dead_nodes_of_functions_and_subgraphs() -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1), helper.make_opsetid("com.acme", 1)]
    inner = [node("Foo", ["a"], ["unread"], domain="com.acme"), node("Neg", ["a"], ["b"]), node("Foo", ["b"], ["c"])]
    f = helper.make_function("d", "F", ["a"], ["b", "c"], inner, opsets)
    branch = helper.make_graph(
        [node("Foo", ["x"], ["unread"], domain="com.acme"), node("F", ["x"], ["t", "unused"], domain="d")],
        "branch", [], models.ports("t"),
    )  # fmt: skip
    yes = node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    m = models.model([yes], {"x": [2, 3]}, "y", {"yes": np.array(True)})
    m.functions.append(f)
    m.opset_import.extend(opsets[1:])
    np.testing.assert_array_equal(convc.compile(m)(X), -X)


# -- outputs -----------------------------------------------------------------------------------------------------------


def two_heads() -> onnx.ModelProto:
    nodes = [
        node("Relu", ["x"], ["features"]),
        node("Add", ["features", "b"], ["left"]),
        node("Foo", ["features", "other"], ["right"], domain="com.acme"),
    ]
    return models.model(nodes, {"x": [2, 3], "b": [3], "other": [1]}, "left right")


def test_a_model_is_cut_at_any_value() -> None:
    cut = convc.compile(two_heads(), outputs=["features"])
    assert [p.name for p in cut.inputs] == ["x"]
    np.testing.assert_array_equal(cut.run({"x": X})["features"], np.maximum(X, 0))
    both = convc.compile(two_heads(), outputs=["left", "x"])
    assert [p.name for p in both.outputs] == ["left", "x"]
    made = both.run({"x": X, "b": np.ones(3, np.float32)})
    np.testing.assert_array_equal(made["left"], np.maximum(X, 0) + 1)
    np.testing.assert_array_equal(made["x"], X)
    assert convc.load_onnx(two_heads(), outputs=["left"]).output_names == ("left",)
    assert [p.name for p in convc.compile(convc.load_onnx(relu()), outputs="x").outputs] == ["x"]


def test_outputs_that_there_are_not() -> None:
    with raises(GraphError, "'featurs'", "did you mean 'features'?"):
        convc.compile(two_heads(), outputs=["featurs"])
    with raises(GraphError, "'left' twice"):
        convc.compile(two_heads(), outputs=["left", "left"])
    with raises(GraphError, "outputs must name values"):
        convc.compile(two_heads(), outputs=[3])
    for nothing in ([], (), {}):
        with raises(GraphError, "outputs names no value", "None for all"):
            convc.compile(two_heads(), outputs=nothing)  # type: ignore[arg-type]
    with raises(GraphError, "'q'", "there are: x"):
        convc.compile(convc.load_onnx(relu()), outputs=["q"])


# -- branches ----------------------------------------------------------------------------------------------------------


def rates(dtype: int = INT64, shape: Any = ()) -> onnx.ModelProto:
    """A model that takes another branch for each rate, of which the other does not fit x."""

    def branch(name: str, kernel: int) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.ones((1, 1, kernel), np.float32), f"w_{name}")
        nodes = [
            node("Conv", ["x3", weight.name], [f"c_{name}"]),
            node("ReduceMax", [f"c_{name}", "axes"], [f"y_{name}"], keepdims=0),
        ]
        return helper.make_graph(nodes, name, [], models.ports(f"y_{name}"), [weight])

    nodes = [
        node("Unsqueeze", ["x", "zero"], ["x3"]),
        node("Reshape", ["x", "far"], ["never"]),
        node("Equal", ["rate", "r16"], ["is16"]),
        node("If", ["is16"], ["y"], then_branch=branch("a", 2), else_branch=branch("b", 300)),
    ]
    other = next(a.g for a in nodes[-1].attribute if a.name == "else_branch")
    other.node.append(node("Add", ["y_b", "never"], ["y_b2"]))
    other.output[0].name = "y_b2"
    weights = {"zero": np.array([1]), "r16": np.array(16000), "axes": np.array([0, 1, 2]), "far": np.array([7, 7])}
    return models.model(nodes, {"x": [2, 3], "rate": (dtype, list(shape))}, "y", weights)


WANTED = (X[:, 1:] + X[:, :-1]).max()


def test_only_the_branch_that_is_taken_is_judged() -> None:
    """Neither the branch that is not taken, nor what only it reads from around it, needs to fit."""
    model = convc.compile(rates())
    assert isinstance(model, DynamicModel)
    assert model.by_value == ("rate",)
    np.testing.assert_allclose(model.run({"x": X, "rate": np.array(16000)})["y"], WANTED, rtol=1e-6)
    with raises(convc.ConvcError, "rate = 8000"):
        model(X, 8000)
    fixed = convc.compile(rates(), values={"rate": 16000})
    assert [p.name for p in fixed.inputs] == ["x"]
    np.testing.assert_allclose(fixed(X), WANTED, rtol=1e-6)


def test_branches_that_must_both_fit() -> None:
    """The condition is computed from data, so no value of an input decides it."""
    m = rates()
    m.graph.node[2].CopyFrom(node("Cast", ["sum"], ["is16"], to=BOOL))
    m.graph.node.insert(2, node("ReduceSum", ["big"], ["sum"], keepdims=0))
    m.graph.input.append(models.port("big", [64, 64]))
    with raises(UnsupportedOpError, "If node 'y'", "else_branch cannot be compiled", "computed at run time"):
        convc.compile(m)


# -- values ------------------------------------------------------------------------------------------------------------


def resize() -> onnx.ModelProto:
    nodes = [node("Resize", ["x", "", "", "s"], ["y"], mode="linear")]
    return models.model(nodes, {"x": [1, 1, 4, 4], "s": (np.int64, [4])}, {"y": [1, 1, "a", "b"]})


PICTURE = np.random.default_rng(1).standard_normal((1, 1, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "value", [[1, 1, 6, 5], np.array([1, 1, 6, 5]), np.array([1, 1, 6, 5], np.int32), (1, 1, 6, 5.0)]
)
def test_a_value_of_an_input(value: Any, tmp_path: Path) -> None:
    model = convc.compile(resize(), values={"s": value})
    want = run_onnxruntime(resize(), {"x": PICTURE, "s": np.array([1, 1, 6, 5])})[0]
    np.testing.assert_allclose(model(PICTURE), want, atol=1e-6)
    assert str(model.inputs[0]) == "x: float32[1, 1, 4, 4]"
    assert len(model.inputs) == 1


def test_a_value_of_a_graph_and_of_a_shape_of_one() -> None:
    graph = convc.load_onnx(models.model([node("Add", ["x", "b"], ["y"])], {"x": [2, 3], "b": [1]}, "y"))
    np.testing.assert_array_equal(convc.compile(graph, values={"b": 2})(X), X + 2)
    open_ = models.model([node("Add", ["x", "b"], ["y"])], {"x": ["n", 3], "b": ["k"]}, "y")
    np.testing.assert_array_equal(convc.compile(open_, values={"b": [1, 2, 3]})(X), X + np.float32([1, 2, 3]))


WRONG = {
    "unknown": ({"rte": 1}, ("'rte'", "did you mean 'rate'?")),
    "weight": ({"r16": 1}, ("'r16'", "a weight of the model")),
    "fraction": ({"rate": 0.5}, ("input 'rate'", "not of dtype int64")),
    "text": ({"rate": "fast"}, ("input 'rate'", "holds text")),
    "shape": ({"rate": [1, 2]}, ("the value given for input 'rate'", "1 axis", "takes 0")),
    "ragged": ({"rate": [[1], [1, 2]]}, ("the value given for input 'rate'",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_that_do_not_fit(name: str) -> None:
    values, parts = WRONG[name]
    with raises(InputError, *parts):
        convc.compile(rates(), values=values)
    with raises(InputError, *parts):
        convc.load_onnx(rates(), values=values)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_a_value_that_is_too_large(dtype: str) -> None:
    """A number that the dtype takes for infinite is an error; infinity itself is none."""
    b = Builder("g")
    graph = b.finish((b.emit(Add(), b.input("x", TensorType(dtype, ())), b.input("h", TensorType(dtype, ()))),))
    with raises(InputError, "input 'h'", "out of the range of"):
        convc.compile(graph, values={"h": 1e39 if dtype != "f16" else 65520.0})
    assert np.isinf(np.float32(convc.compile(graph, values={"h": np.inf})(np.zeros((), numpy_dtype(dtype)))))


def test_values_that_are_none() -> None:
    with raises(InputError, "values must give", "'sr'"):
        convc.compile(rates(), values=[16000])  # type: ignore[arg-type]


# -- weights that are inputs -------------------------------------------------------------------------------------------


def overridable(ir_version: int = 9) -> onnx.ModelProto:
    weights = {"w": np.float32([1, 2, 3]), "axes": np.array([0])}
    nodes = [node("Mul", ["x", "w"], ["m"]), node("ReduceSum", ["m", "axes"], ["y"])]
    inputs = {"x": [2, 3], "w": [3], "axes": (np.int64, [1])}
    return models.model(nodes, inputs, {"y": [None, None]}, weights, ir_version=ir_version)


W = np.float32([5, 6, 7])


def test_a_weight_that_is_an_input_has_its_value_until_another_is_given() -> None:
    model = convc.compile(overridable())
    assert [p.name for p in model.inputs] == ["x"]
    assert [p.name for p in model.optional] == ["w", "axes"]
    for more in ({}, {"w": W}, {"axes": np.array([1])}, {"w": -W, "axes": np.array([1])}, {"w": W}):
        feeds = {"x": X, **more}
        np.testing.assert_allclose(model.run(feeds)["y"], run_onnxruntime(overridable(), feeds)[0], rtol=1e-6)
    with raises(InputError, "no input 'v'"):
        model.run({"x": X, "v": W})


def test_a_weight_that_is_an_input_when_compiling(tmp_path: Path) -> None:
    np.testing.assert_array_equal(convc.compile(overridable(), values={"w": W})(X), (X * W).sum(0, keepdims=True))
    fed = convc.compile(overridable(), shapes={"w": (3,)})
    assert [p.name for p in fed.inputs] == ["x", "w"]
    np.testing.assert_array_equal(fed(X, W), (X * W).sum(0, keepdims=True))
    old = convc.compile(overridable(ir_version=3))
    assert old.optional == ()
    check(overridable(ir_version=3), {"x": X})


# -- inputs of unknown rank --------------------------------------------------------------------------------------------


def test_ranks_follow_from_the_arrays() -> None:
    model = convc.compile(models.model([node("Relu", ["x"], ["y"])], {"x": (np.float32, None)}, "y"))
    assert str(model.inputs[0]) == "x: float32[...]"
    for shape in ((2, 3), (4,), (), (1, 2, 3)):
        np.testing.assert_array_equal(model(np.full(shape, -1, np.float32)), np.zeros(shape, np.float32))
    with raises(InputError, "dtype float64"):
        model(np.zeros(3))
    with raises(ShapeError, "shapes must give"):
        convc.compile(models.model([node("Relu", ["x"], ["y"])], {"x": (np.float32, None)}, "y"), shapes={"x": 3})  # type: ignore[dict-item]


def test_an_optional_input_is_one_that_is_there() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3])
    info = onnx.ValueInfoProto(name="x", type=helper.make_optional_type_proto(tensor))
    nodes = [node("OptionalHasElement", ["x"], ["there"]), node("OptionalGetElement", ["x"], ["y"])]
    m = models.model(nodes, [info], "y there")
    y, there = convc.compile(m)(X)
    np.testing.assert_array_equal(y, X)
    assert there
