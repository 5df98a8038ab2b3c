"""Sequences and optionals, which exist only while importing, compared with ONNX Runtime and onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import models
from support.compare import check
from support.malformed import raises
from support.oracles import run_onnxruntime, run_reference

import convc
from convc import ConvcError, ModelFileError, UnsupportedOpError

X = np.random.default_rng(0).uniform(-2, 2, (2, 5, 3)).astype(np.float32)
node = helper.make_node
WEIGHTS: dict[str, Any] = {
    "zero": np.array(0), "one": np.array(1), "two": np.array(2), "last": np.array(-1), "sizes": np.array([1, 0, 4]),
    "end": np.array(3), "vector": np.array([2]), "grid": np.arange(6),
}  # fmt: skip


def model(*nodes: onnx.NodeProto, outputs: str = "y", **parts: Any) -> onnx.ModelProto:
    read = {name for n in nodes for name in n.input}
    weights = {name: w for name, w in WEIGHTS.items() if name in read}
    return models.model(nodes, {"x": list(X.shape)}, outputs, weights, **parts)


def split(*inputs: str, **attributes: int) -> onnx.NodeProto:
    return node("SplitToSequence", ["x", *inputs], ["q"], **attributes)


def at(place: str, output: str = "y", source: str = "q") -> onnx.NodeProto:
    return node("SequenceAt", [source, place], [output])


JOIN = node("ConcatFromSequence", ["q"], ["y"], axis=1)
TRIPLE = node("SequenceConstruct", ["x", "e", "x"], ["q"])
EXP = node("Exp", ["x"], ["e"])
BODY = helper.make_graph(
    [node("Add", ["a", "b"], ["s"]), node("Neg", ["a"], ["m"])],
    "body",
    models.ports({"a": None, "b": None}),
    models.ports("s m"),
)


def growing(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)


STEP = helper.make_graph(
    [node("Identity", ["c"], ["d"]), node("SequenceInsert", ["s", "x"], ["t"])], "step",
    [*models.ports({"i": (np.int64, []), "c": (np.bool_, [])}), growing("s")],
    [*models.ports({"d": (np.bool_, [])}), growing("t")],
)  # fmt: skip

MODELS: dict[str, onnx.ModelProto] = {
    "each": model(split(axis=1), at("two")),
    "each without its axis": model(split(axis=1, keepdims=0), at("last")),
    "along the last axis": model(split(axis=-1), at("one")),
    "pieces of a size": model(split("two", axis=1), at("two")),
    "pieces of sizes": model(split("sizes", axis=1), at("one", "a"), at("two", "y"), outputs="y a"),
    "split and joined": model(split("two", axis=1), JOIN),
    "stacked": model(EXP, TRIPLE, node("ConcatFromSequence", ["q"], ["y"], axis=-1, new_axis=1)),
    "joined along a negative axis": model(EXP, TRIPLE, node("ConcatFromSequence", ["q"], ["y"], axis=-2)),
    "length": model(split(axis=1), node("SequenceLength", ["q"], ["y"])),
    "length of none": model(node("SequenceEmpty", [], ["q"]), node("SequenceLength", ["q"], ["y"])),
    "insert": model(
        EXP,
        TRIPLE,
        node("Neg", ["x"], ["z"]),
        node("SequenceInsert", ["q", "z", "one"], ["r"]),
        node("ConcatFromSequence", ["r"], ["y"], axis=0),
    ),
    "insert before the last": model(EXP, TRIPLE, node("Neg", ["x"], ["z"]),
                                    node("SequenceInsert", ["q", "z", "last"], ["r"]),
                                    node("ConcatFromSequence", ["r"], ["y"], axis=0)),
    "insert at the end": model(EXP, TRIPLE, node("SequenceInsert", ["q", "x", "end"], ["r"]), at("end", source="r")),
    "erase": model(EXP, TRIPLE, node("SequenceErase", ["q", "zero"], ["r"]), at("zero", source="r")),
    "erase the last": model(EXP, TRIPLE, node("SequenceErase", ["q"], ["r"]), at("last", source="r")),
    "identity": model(split(axis=1), node("Identity", ["q"], ["p"]), at("one", source="p")),
    "a sequence of constants is constant": model(
        node("Shape", ["x"], ["sh"]), node("SplitToSequence", ["sh"], ["q"]),
        node("SequenceAt", ["q", "one"], ["c"]),
        node("Constant", [], ["all"], value_ints=[-1]),
        node("SequenceConstruct", ["all", "c"], ["r"]), node("ConcatFromSequence", ["r"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["y"]),
    ),
    "map": model(split(axis=1), node("SequenceMap", ["q", "q"], ["u", "v"], body=BODY), at("one", "y", "u"),
                 at("two", "z", "v"), outputs="y z"),
    "map with a tensor": model(split(axis=1), node("SequenceMap", ["q", "x"], ["u", "v"], body=BODY),
                               at("one", "y", "u")),
    "grown in a loop": model(node("SequenceConstruct", ["x"], ["q0"]),
                             node("Loop", ["two", "", "q0"], ["q"], body=STEP), JOIN),
    "optional": model(node("Optional", ["x"], ["o"]), node("OptionalHasElement", ["o"], ["h"]),
                      node("OptionalGetElement", ["o"], ["y"]), outputs="y h"),
    "optional sequence": model(split(axis=1), node("Optional", ["q"], ["o"]),
                               node("OptionalGetElement", ["o"], ["p"]), at("one", source="p")),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_against_others(name: str) -> None:
    """ONNX Runtime wants the types of a map's body spelt out, and onnx's reference does not."""
    check(MODELS[name], {"x": X}, run_reference if name.startswith("map") else run_onnxruntime, name)


def test_an_empty_optional() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    nothing = [node("Optional", [], ["o"], type=kind), node("OptionalHasElement", ["o"], ["y"])]
    assert not convc.compile(model(*nothing, node("Identity", ["x"], ["z"]), outputs="y z"))(X)[0]
    with raises(ModelFileError, "OptionalGetElement node 'y'", "holds nothing"):
        convc.compile(model(nothing[0], node("OptionalGetElement", ["o"], ["y"])))


def test_through_functions_and_branches() -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    f = helper.make_function("d", "F", ["s", "p"], ["t"], [node("SequenceAt", ["s", "p"], ["t"])], opsets)
    branch = helper.make_graph([node("SequenceInsert", ["q", "x"], ["r"])], "b", [], models.ports("r"))
    nodes = [split(axis=1), node("If", ["yes"], ["r2"], then_branch=branch, else_branch=branch)]
    made = model(*nodes, node("F", ["r2", "last"], ["y"], domain="d"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    made.functions.append(f)
    made.opset_import.append(opsets[1])
    np.testing.assert_array_equal(convc.compile(made)(X), X)


BAD: dict[str, tuple[onnx.ModelProto, type[ConvcError], tuple[str, ...]]] = {
    "output": (model(split(axis=1), outputs="q"), UnsupportedOpError, ("output 'q' is a sequence of 5", "--outputs")),
    "operand": (model(split(axis=1), node("Exp", ["q"], ["y"])), ModelFileError, ("Exp node 'y'", "'q' is a sequence")),
    "no sequence": (model(at("one", source="x")), ModelFileError, ("SequenceAt", "must be a sequence", "a tensor")),
    "position": (model(EXP, TRIPLE, at("end")), ModelFileError, ("position 3 is not from -3 to 2",)),
    "sizes": (model(split("vector", axis=1), at("zero")), ModelFileError, ("[2]", "does not add up to 5")),
    "of none": (model(node("SequenceEmpty", [], ["q"]), JOIN), ModelFileError, ("the sequence is empty",)),
    "none": (model(node("SequenceEmpty", [], ["q"]), at("zero")), ModelFileError, ("the sequence is empty",)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str) -> None:
    proto, error, parts = BAD[name]
    with raises(error, *parts):
        convc.compile(proto)


def test_a_position_that_is_an_input() -> None:
    """The model is compiled for each position that it is called with."""
    made = model(split(axis=1), at("p"))
    made.graph.input.append(models.port("p", (np.int64, [])))
    compiled = convc.compile(made)
    for place in (0, 3, -1):
        np.testing.assert_array_equal(compiled(X, place), X[:, [place]])
    with raises(ModelFileError, "p = 7", "position 7"):
        compiled(X, 7)
