"""Bad models raise an error of the right class that names the node and the cause.

There is one tiny test per mistake.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import models
from support.malformed import RELU, WEIGHT, info, model, node, raises, with_constants

import convc
from convc import (
    CompileError,
    ConvcError,
    GraphError,
    LimitError,
    Limits,
    ModelFileError,
    ParseError,
    ShapeError,
    UnsupportedOpError,
)
from convc.ir.builder import Builder
from convc.ir.errors import NotConstantError
from convc.ir.graph import Constant, Graph, Node, Value
from convc.ir.op import f32, i64
from convc.ir.ops.binary import Add
from convc.ir.ops.unary import Relu
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.text import parse_graph
from convc.ir.verify import verify

EMPTY = helper.make_graph([], "b", [], [helper.make_empty_tensor_value_info("zz")])


def returning(size: int) -> onnx.GraphProto:
    """A branch that returns a constant of this size."""
    value = numpy_helper.from_array(np.zeros(size, np.float32))
    return helper.make_graph([node("Constant", "", "zz", value=value)], "b", [], EMPTY.output)


TRUE = node("Constant", "", "c", name="k", value=helper.make_tensor("v", TensorProto.BOOL, [], [True]))


def cropped(fill: float, mode: str) -> onnx.ModelProto:
    """A Resize of uint8 beyond the data's ends."""
    crop = node(
        "Resize", "x r  s", mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=fill
    )
    region, sizes = np.array([-0.5, 1.5], np.float32), np.array([5])
    return with_constants(crop, inputs=[info("x", [4], TensorProto.UINT8)], r=region, s=sizes)


FOREIGN = helper.make_node("Foo", ["x"], ["y"], name="n1", domain="com.acme")

MODELS: dict[str, tuple[onnx.ModelProto, type[ConvcError], tuple[str, ...]]] = {
    "unknown op": (model(node("Foo", "x")), UnsupportedOpError, ("Foo node 'n1'", "opset 22", "not supported")),
    "unknown domain": (model(FOREIGN), UnsupportedOpError, ("Foo node 'n1'", "com.acme::Foo", "not supported")),
    "loop of any length": (
        model(node("Loop", "x  x", body=EMPTY), inputs=[info("x", [], TensorProto.INT64)]),
        UnsupportedOpError,
        ("Loop node 'n1'", "trip count", "'x'", "computed at run time"),
    ),
    **{
        f"fill of {fill:g}": (
            cropped(fill, mode),
            ShapeError,
            ("Resize node 'n1'", f"extrapolation_value {fill:g}", "uint8", "0 to 255"),
        )
        for fill, mode in ((300.0, "nearest"), (-1.0, "linear"), (float("nan"), "nearest"), (float("inf"), "linear"))
    },
    "wrong rank": (
        model(node("Conv", "x w"), inputs=[info("x", [3, 8])]),
        ModelFileError,
        ("Conv node 'n1'", "spatial axes"),
    ),
    "window too large": (
        model(node("Conv", "x w"), inputs=[info("x", [1, 3, 2, 2])]),
        ShapeError,
        ("Conv node 'n1'", "%x: float32[1, 3, 2, 2]", "a window of 3 does not fit in size 2"),
    ),
    "channels": (
        model(node("Conv", "x w"), inputs=[info("x", [1, 5, 8, 8])]),
        ShapeError,
        ("Conv node 'n1'", "%x: float32[1, 5, 8, 8]", "5 channels"),
    ),
    "dtype mismatch": (
        model(node("Add", "x i"), inputs=[info("x"), info("i", [1], TensorProto.INT64)]),
        ShapeError,
        ("Add node 'n1'", "%i: int64[1]", "differ in dtype: float32, int64"),
    ),
    "declared as another dtype": (
        models.model([node("Relu", "x")], {"x": [3]}, {"y": (np.int64, [3])}),
        ModelFileError,
        ("output 'y' is declared as int64, but its node gives float32", "correct its type"),
    ),
    "broadcast": (
        model(node("Add", "x i"), inputs=[info("x"), info("i", [7])]),
        ShapeError,
        ("Add node 'n1'", "do not broadcast"),
    ),
    "no shape": (
        model(node("Relu", "x"), inputs=[info("x", None)]),
        ModelFileError,
        ("input 'x' has no shape", "--shape"),
    ),
    "strings": (
        model(node("Relu", "x"), inputs=[info("x", [1], TensorProto.STRING)]),
        UnsupportedOpError,
        ("input 'x'", "string tensors"),
    ),
    "complex numbers": (
        model(node("Relu", "x"), inputs=[info("x", [1], TensorProto.COMPLEX64)]),
        UnsupportedOpError,
        ("input 'x'", "complex64 is not supported"),
    ),
    "no dtype": (model(node("Relu", "x"), inputs=[info("x", [1], 0)]), ModelFileError, ("input 'x'", "no ONNX dtype")),
    "sequence": (
        model(node("Identity", "x"), inputs=[helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)]),
        UnsupportedOpError,
        ("input 'x' is a sequence", "only tensors"),
    ),
    "cycle": (
        model(node("Relu", "b", "a", name="r1"), node("Relu", "a", "b", name="r2"), outputs="b"),
        ModelFileError,
        ("cycle", "Relu node 'r1' -> Relu node 'r2' -> Relu node 'r1'"),
    ),
    "undefined value": (model(node("Relu", "q")), ModelFileError, ("Relu node 'n1'", "'q', which nothing defines")),
    "undefined value, node without name": (model(node("Relu", "q", name="")), ModelFileError, ("Relu node 'y'", "'q'")),
    "value written twice": (
        model(node("Relu", "x"), node("Relu", "x", name="n2")),
        ModelFileError,
        ("'y'", "both Relu node 'n1' and Relu node 'n2'"),
    ),
    "node writes an input": (
        model(node("Relu", "x", "x"), outputs="x"),
        ModelFileError,
        ("Relu node 'n1'", "'x'", "input"),
    ),
    "node writes an initializer": (
        model(node("Relu", "x", "w"), outputs="w"),
        ModelFileError,
        ("Relu node 'n1'", "'w'", "initializer"),
    ),
    "two inputs of one name": (
        model(node("Relu", "x"), inputs=[info("x"), info("x", [1])]),
        ModelFileError,
        ("two inputs", "'x'"),
    ),
    "two outputs of one name": (model(node("Relu", "x"), outputs="y y"), ModelFileError, ("two outputs", "'y'")),
    "output without node": (model(node("Relu", "x", "z")), ModelFileError, ("output 'y' is made by no node",)),
    "input left out": (model(node("Conv", "x")), ModelFileError, ("Conv node 'n1'", "input 1 ('W') is missing")),
    "too many inputs": (model(node("Relu", "x x")), ModelFileError, ("Relu node 'n1'", "2 inputs", "at most 1")),
    "too many outputs": (model(node("Relu", "x", "y z")), ModelFileError, ("Relu node 'n1'", "2 outputs", "at most 1")),
    "attribute of wrong type": (
        model(node("Conv", "x w", strides="abc")),
        ModelFileError,
        ("Conv node 'n1'", "attribute 'strides' is STRING", "INTS"),
    ),
    "attribute of wrong type, of an op that its opset lacks": (
        model(node("EyeLike", "x", k=onnx.SparseTensorProto()), inputs=[info("x", [3, 4])], opset=1),
        ModelFileError,
        ("EyeLike node 'n1'", "attribute 'k' is SPARSE_TENSOR", "INT"),
    ),
    "attribute of wrong length": (
        model(node("Conv", "x w", dilations=[3])),
        ModelFileError,
        ("Conv node 'n1'", "attribute 'dilations' has 1 number [3]; 2 are needed"),
    ),
    "pads of wrong length": (
        model(node("MaxPool", "x", kernel_shape=[2, 2], pads=[1, 1])),
        ModelFileError,
        ("MaxPool node 'n1'", "attribute 'pads' has 2 numbers [1, 1]; 4 are needed"),
    ),
    "kernel_shape of wrong length": (
        model(node("AveragePool", "x", kernel_shape=[2])),
        ModelFileError,
        ("AveragePool node 'n1'", "attribute 'kernel_shape' has 1 number [2]; 2 are needed"),
    ),
    "kernel_shape that is not the weight's": (
        model(node("Conv", "x w", kernel_shape=[2, 2])),
        ModelFileError,
        ("Conv node 'n1'", "attribute 'kernel_shape' is [2, 2]", "[4, 3, 3, 3]"),
    ),
    "output_padding of wrong length": (
        model(node("ConvTranspose", "x w", output_padding=[0]), inputs=[info("x", [1, 4, 8, 8])]),
        ModelFileError,
        ("ConvTranspose node 'n1'", "attribute 'output_padding' has 1 number [0]; 2 are needed"),
    ),
    "axes that are no integers": (
        with_constants(node("ReduceSum", "x a"), a=np.array([np.inf], np.float32)),
        ModelFileError,
        ("ReduceSum node 'n1'", "'a', its axes, holds inf, which is no integer"),
    ),
    "Constant without a value": (
        model(node("Constant", "")),
        ModelFileError,
        ("Constant node 'n1'", "exactly one that begins with 'value'"),
    ),
    "RandomUniform without a shape": (
        model(node("RandomUniform", "")),
        ModelFileError,
        ("RandomUniform node 'n1'", "'shape' is missing"),
    ),
    "deprecated op without inputs": (
        model(node("Scatter", ""), opset=20),
        ModelFileError,
        ("Scatter node 'n1'", "input 0 ('data') is missing"),
    ),
    "unknown attribute": (
        model(node("Conv", "x w", stride=[2, 2])),
        ModelFileError,
        ("Conv node 'n1'", "no attribute 'stride'", "strides"),
    ),
    "stride 0": (
        model(node("Conv", "x w", strides=[0, 0])),
        ModelFileError,
        ("Conv node 'n1'", "'strides' is [0, 0]", "at least 1"),
    ),
    "group 0": (model(node("Conv", "x w", group=0)), ShapeError, ("Conv node 'n1'", "0 groups")),
    "If without a branch": (
        model(TRUE, node("If", "c", then_branch=EMPTY)),
        ModelFileError,
        ("If node 'n1'", "'else_branch' is missing"),
    ),
    "branch without its output": (
        model(TRUE, node("If", "c", then_branch=EMPTY, else_branch=EMPTY)),
        ModelFileError,
        ("If node 'n1'", "'zz'", "made by no node"),
    ),
    "If decided at run time": (
        model(
            node("If", "x", then_branch=returning(2), else_branch=returning(3)),
            inputs=[info("x", [], TensorProto.BOOL)],
        ),
        UnsupportedOpError,
        ("If node 'n1'", "'x'", "computed at run time"),
    ),
    "opset of tomorrow": (model(node("Relu", "x"), opset=99), ModelFileError, ("opset 99", "upgrade onnx")),
    "opset 0": (model(node("Relu", "x"), opset=0), ModelFileError, ("opset 0",)),
    "no graph": (onnx.ModelProto(), ModelFileError, ("no graph",)),
}


@pytest.mark.parametrize(("proto", "error", "parts"), MODELS.values(), ids=MODELS)
def test_malformed_model(proto: onnx.ModelProto, error: type[ConvcError], parts: tuple[str, ...]) -> None:
    with raises(error, *parts):
        convc.load_onnx(proto)


def test_every_error_derives_from_one_class() -> None:
    assert all(issubclass(getattr(convc, name), ConvcError) for name in convc.__all__ if name.endswith("Error"))


def test_two_initializers_of_one_name() -> None:
    proto = model(node("Conv", "x w"))
    proto.graph.initializer.append(WEIGHT)
    with raises(ModelFileError, "two initializers", "'w'"):
        convc.load_onnx(proto)


# -- shapes ------------------------------------------------------------------------------------------------------------

SYMBOLIC = model(node("Relu", "x"), inputs=[info("x", ["n", 3])])


def test_shape_for_an_unknown_input() -> None:
    for shapes in ({"z": (1, 3)}, [{"z": (1, 3)}]):
        with raises(ShapeError, "shapes names input 'z', which the model lacks; there are: x"):
            convc.compile(SYMBOLIC, shapes=shapes)
    with raises(ShapeError, "which the model lacks; there are: x"):
        fix_shapes(convc.load_onnx(SYMBOLIC, {"x": (1, 3)}), {"z": (1, 3)})


def test_shape_that_contradicts_the_model() -> None:
    with raises(ModelFileError, "input 'x'", "[2, 4]"):
        convc.compile(SYMBOLIC, shapes={"x": (2, 4)})


@pytest.mark.parametrize("shapes", [{"x": 2}, {"x": "23"}, {"x": (2.5, 3)}, [1, 3], {"x": None}])
def test_shapes_that_are_none(shapes: Any) -> None:
    with raises(ShapeError, "shapes must give each input's sizes", "3, 224, 224)"):
        convc.compile(SYMBOLIC, shapes=shapes)


def test_negative_shape() -> None:
    with raises(ShapeError, "'x'", "negative size"):
        convc.compile(SYMBOLIC, shapes={"x": (-1, 3)})


@pytest.mark.parametrize("size", [1 << 33, 1 << 50])
def test_tensor_too_large(size: int) -> None:
    with raises(LimitError, "'x'", "bytes", "tensor_bytes"):
        convc.compile(SYMBOLIC, shapes={"x": (size, 3)})
    with raises(CompileError, "'x'", "too large"):
        convc.compile(SYMBOLIC, shapes={"x": (size, 3)}, limits=Limits(tensor_bytes=1 << 70, workspace_bytes=1 << 70))


# -- graphs ------------------------------------------------------------------------------------------------------------

X, Y, INTS = Value("x", f32[2]), Value("y", f32[2]), Value("i", i64[2])
ADD, RELU_NODE = Node(Add(), (X, Value("z", f32[2])), (Y,)), Node(Relu(), (X,), (Value("z", f32[2]),))

GRAPHS = {
    "use before definition": (Graph("g", (X,), (ADD, RELU_NODE), (Y,)), ("add node 'y'", "'z'", "not defined before")),
    "undefined return": (Graph("g", (X,), (), (Y,)), ("return", "'y'", "not defined")),
    "defined twice": (Graph("g", (X,), (RELU_NODE, RELU_NODE), (X,)), ("'z' is defined twice",)),
    "two inputs of one name": (Graph("g", (X, X), (), (X,)), ("'x' is defined twice",)),
    "wrong type stated": (
        Graph("g", (X,), (Node(Relu(), (X,), (Value("y", f32[3]),)),), (Value("y", f32[3]),)),
        ("relu node 'y'", "gives float32[2], not float32[3]"),
    ),
    "wrong type used": (
        Graph("g", (X,), (Node(Relu(), (Value("x", f32[3]),), (Value("y", f32[3]),)),), (Value("y", f32[3]),)),
        ("relu node 'y'", "takes 'x' for float32[3], but it is float32[2]"),
    ),
    "dtypes": (
        Graph("g", (X, INTS), (Node(Add(), (X, INTS), (Y,)),), (Y,)),
        ("add", "%i: int64[2]", "differ in dtype"),
    ),
    "operands": (Graph("g", (X,), (Node(Add(), (X,), (Y,)),), (Y,)), ("add", "%x: float32[2]", "2 operands, not 1")),
}


@pytest.mark.parametrize(("graph", "parts"), GRAPHS.values(), ids=GRAPHS)
def test_malformed_graph(graph: Graph, parts: tuple[str, ...]) -> None:
    with raises(GraphError, *parts):
        verify(graph)
    with raises(GraphError, *parts):
        convc.compile(graph)


def test_builder_refuses_a_name_twice() -> None:
    b = Builder()
    b.input("x", f32[1])
    with raises(GraphError, "two values are called 'x'"):
        b.input("x", f32[1])


def test_constant_without_data(tmp_path: Path) -> None:
    text = "graph @g(%x: f32[9]) { %w: f32[9] = const sha=abc %y: f32[9] = add(%x, %w) return %y }"
    with raises(GraphError, "sha=abc", "without its data"):
        convc.compile(parse_graph(text))


def test_constant_of_another_type() -> None:
    with raises(GraphError, "float32[2]", "float64[2]"):
        Constant(f32[2], np.ones(2))


TEXTS = {
    "": ("line 1", "'graph'", "the end"),
    "graph @g(": ("line 1", "a value such as %x"),
    "graph @g(%x: f33[2]) {\n return %x }": ("line 1", "a dtype", "f32", "'f33'"),
    "graph @g(%x: f32[-2]) { return %x }": ("negative size",),
    "graph @g(%x: f32[2]{XYZ}) { return %x }": ("XYZ",),
    "graph @g(%x: f32[2]) {\n %y: f32[2] = nop(%x)\n return %y }": ("line 2", "the name of an op", "'nop'"),
    "graph @g(%x: f32[2]) {\n %y: f32[2] = relu(%z)\n return %y }": ("line 2", "a value defined above", "'%z'"),
    "graph @g(%x: f32[2]) {\n %x: f32[2] = relu(%x)\n return %x }": ("%x, which is taken",),
    "graph @g(%x: f32[2]) {\n %y: f32[2] = relu(%x) {slope=1}\n return %y }": ("line 2", "relu", "'slope'"),
    "graph @g(%x: f32[2]) {\n %y: f32[2] = relu(%x)\n return %z }": ("line 3", "a value defined above", "'%z'"),
    "graph @g(%x: f32[2]) {\n return %x": ("line 2", "','", "the end"),
    "graph @g(%x: f32[2]) { return %x } more": ("line 1", "the end of the text", "'more'"),
    "graph @g() { %c: f32[2] = const [1] return %c }": ("float32[2]", "not 1"),
    "graph @g() { %c: i8[1] = const [300] return %c }": ("300",),
    "graph @g(%x: f32[2]) { \x01 }": ("line 1", "'\\x01'"),
    'graph @g(%"\\q": f32[2]) { return %x }': ("line 1", "string"),
    "graph @g() { %c: f32[2] = const noise(1, 2) return %c }": ("initializer", "'noise'"),
}


@pytest.mark.parametrize(("text", "parts"), TEXTS.items(), ids=range(len(TEXTS)))
def test_bad_text_form(text: str, parts: tuple[str, ...]) -> None:
    with raises(ParseError, *parts):
        parse_graph(text)


def test_text_file_with_damaged_constants(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("graph @g(%x: f32[2]) { return %x }")
    (tmp_path / "g.npz").write_bytes(b"PK\x03\x04 torn")
    with raises(ModelFileError, "g.txt", ".npz"):
        convc.compile(tmp_path / "g.txt")


def test_text_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_bytes(b"\xff\xfe\x00")
    with raises(ModelFileError, "g.txt"):
        convc.compile(tmp_path / "g.txt")


# -- compiling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, 3, [1], object()])
def test_source_of_an_unknown_kind(source: Any) -> None:
    with raises(ConvcError, f"a {type(source).__name__}", "give a path"):
        convc.compile(source)


def test_unknown_target() -> None:
    with raises(CompileError, "unknown target 'tpu'", "known: cpu"):
        convc.compile(RELU, target="tpu")


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2"])
def test_bad_threads(threads: Any) -> None:
    with raises(CompileError, "threads must be an integer of at least 1", repr(threads)):
        convc.compile(RELU, threads=threads)


@pytest.mark.parametrize("path", [{}, [], 3, b"x", object()])
def test_paths_that_are_none(path: Any) -> None:
    """Whatever is no path is named with its argument, also where it is false."""
    with raises(ConvcError, "tuning must be a path"):
        convc.compile(RELU, tuning=path)
    with raises(ConvcError, "dump_dir must be a path"):
        convc.compile(RELU, dump_dir=path)
    for write in (convc.compile(RELU).save, partial(convc.save_onnx, convc.load_onnx(RELU))):
        with pytest.raises(ConvcError, match=r"a path is a text or a pathlib\.Path"):
            write(path)


@pytest.mark.parametrize("where", ["file", "file/below", "/dev/null/below"])
def test_dump_dir_that_cannot_be(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with raises(CompileError, "cannot write to the dump folder", where):
        convc.compile(RELU, dump_dir=tmp_path / where)


def test_an_error_is_put_in_its_place_once_and_keeps_its_fields() -> None:
    error = NotConstantError("its shape is computed at run time", ("x",))
    error.within("Reshape node 'n1'")
    error.within("Reshape node 'n1'")
    error.within("for x [2, 3]")
    assert str(error) == "for x [2, 3]: Reshape node 'n1': its shape is computed at run time"
    assert error.inputs == ("x",)
