"""What a model needs that convc lacks is said at once: all of it, and before the sizes of inputs are known."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from support import models
from support.malformed import raises

import convc
from convc import ConvcError, ModelFileError, UnsupportedOpError

node = helper.make_node
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1), helper.make_opsetid("my.domain", 1)]


def model(*nodes: onnx.NodeProto, output: str = "y", functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    """A model of open sizes."""
    made = models.model(nodes, {"x": ["n", 3]}, output)
    made.functions.extend(functions)
    made.opset_import.extend(OPSETS[1:])
    return made


def test_all_unsupported_operators_are_listed() -> None:
    inner = [node("Foo", ["a"], ["t"], domain="my.domain"), node("Softmx", ["t"], ["b"])]
    f = helper.make_function("d", "F", ["a"], ["b"], inner, OPSETS)
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("StringNormalizer", ["s"], ["t"])], "body",
        models.ports({"i": (TensorProto.INT64, []), "c": (TensorProto.BOOL, []), "s": ["n", 3]}),
        models.ports({"d": (TensorProto.BOOL, []), "t": ["n", 3]}),
    )  # fmt: skip
    proto = model(
        node("Bar", ["x"], ["p"], domain="my.domain", name="n1"),
        node("Bar", ["p"], ["q"], domain="my.domain", name="n2"),
        node("F", ["q"], ["r"], domain="d", name="call"),
        node("Loop", ["", "", "r"], ["u"], body=body),
        node("FusedConvv", ["u", "u"], ["y"], domain="com.microsoft"),
        node("Never", ["u"], ["dead"]),
        functions=(f,),
    )
    for call in (convc.compile, convc.load_onnx):
        with pytest.raises(UnsupportedOpError) as caught:
            call(proto)
        lines = str(caught.value).splitlines()
        assert lines[0] == "5 operators of the model are not supported:"
        assert "Bar node 'n1'" in lines[1]
        assert "my.domain::Bar (opset 1) is not supported (2 nodes): 'my.domain' is a custom domain" in lines[1]
        assert "docs/extending.md" in lines[1]
        assert "Foo node 'call/Foo'" in lines[2]
        assert "Softmx node 'call/Softmx'" in lines[3]
        assert "did you mean Softmax?" in lines[3]
        assert "StringNormalizer" in lines[4]
        assert "--outputs" in lines[4]
        assert "did you mean FusedConv?" in lines[5]


def branches(first: str, second: str, **attributes: int) -> onnx.ModelProto:
    graphs = [
        helper.make_graph([node(op, ["x"], [f"y_{i}"], **attributes)], op, [], models.ports(f"y_{i}"))
        for i, op in enumerate((first, second))
    ]
    nodes = [node("Shape", ["x"], ["s"]), node("ReduceMin", ["s"], ["m"], keepdims=0), node("Cast", ["m"], ["c"], to=9)]
    return model(*nodes, node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1]))


def test_one_branch_of_an_if_must_pass() -> None:
    assert convc.compile(branches("Relu", "Foo"))([[-1.0, 0, 1]]).tolist() == [[0, 0, 1]]
    with raises(UnsupportedOpError, "2 operators", "Foo", "Bar"):
        convc.compile(branches("Foo", "Bar"))
    with raises(ModelFileError, "no attribute 'beta'"):
        convc.compile(branches("Relu", "Exp", beta=1))


def external(size: int) -> TensorProto:
    place = [onnx.StringStringEntryProto(key="location", value="w.bin")]
    return TensorProto(name="w", data_type=1, dims=[size], data_location=TensorProto.EXTERNAL, external_data=place)


def with_external() -> onnx.ModelProto:
    return models.model([node("Add", ["x", "w"], ["y"])], {"x": ["n", 3]}, "y", {"w": external(3)})


def test_external_data_of_a_model_of_open_sizes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(with_external(), path)
    with raises(ModelFileError, "'w'", "w.bin", "missing"):
        convc.compile(path)
    (tmp_path / "w.bin").write_bytes(bytes(8))
    with raises(ModelFileError, "'w'", "too short: 8 bytes, not 12"):
        convc.compile(path)
    (tmp_path / "w.bin").write_bytes(bytes(12))
    assert convc.compile(path)([[1.0, 2, 3]]).tolist() == [[1, 2, 3]]


REFUSED: dict[str, tuple[onnx.ModelProto, type[ConvcError], tuple[str, ...]]] = {
    "attribute": (model(node("Relu", ["x"], ["y"], beta=1)), ModelFileError, ("no attribute 'beta'",)),
    "inputs": (model(node("Relu", ["x", "x"], ["y"])), ModelFileError, ("2 inputs", "at most 1")),
    "undefined": (model(node("Relu", ["q"], ["y"])), ModelFileError, ("'q', which nothing defines",)),
    "cycle": (model(node("Relu", ["y"], ["t"]), node("Relu", ["t"], ["y"])), ModelFileError, ("cycle",)),
    "in a schema's body": (
        model(node("F", ["x"], ["y"], domain="d"), functions=(
            helper.make_function("d", "F", ["a"], ["b"], [node("Celu", ["a"], ["b"], gamma=1.0)], OPSETS),
        )),
        ModelFileError,
        ("F/Celu", "no attribute 'gamma'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_at_once(name: str) -> None:
    proto, error, parts = REFUSED[name]
    with raises(error, *parts):
        convc.compile(proto)
