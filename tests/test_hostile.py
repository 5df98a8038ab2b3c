"""Untrusted files: small files that would expand to huge data, and a short run of the fuzzer in ``hostile/``."""

from __future__ import annotations

import gc
import io
import math
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hostile import corpus
from hostile.run import fuzz, report
from onnx import TensorProto, helper, numpy_helper
from support.malformed import ints, model, nested, node, raises, with_constants

import convc
from convc import ArtifactError, ConvcError, GraphError, LimitError, Limits, ModelFileError, ParseError, ShapeError
from convc.backends.cpu.pipeline import pipeline
from convc.ir.builder import Builder
from convc.ir.evaluate import run_reference
from convc.ir.op import f32
from convc.ir.ops.concat import Concat
from convc.ir.ops.max_pool import MaxPool
from convc.ir.ops.unary import Relu
from convc.ir.rewrite import rebuild
from convc.ir.text import parse_graph
from convc.onnx.bounds import folded_bytes
from convc.reader import as_graph
from convc.runtime.artifact import read_artifact, write_artifact
from convc.runtime.description import Part

MUTANTS = 1000


def test_mutants_give_a_result_or_a_convc_error() -> None:
    """A few mutants give a result or a ``ConvcError``.

    ``python -m hostile --mutants 100000`` in this folder runs more.
    """
    found = fuzz(MUTANTS)
    assert not found.failures, report(found)
    assert sum(found.counts.values()) == MUTANTS
    for kind in ("bytes", "proto", "text", "artifact"):  # enough mutants must be valid to test more than the parser
        assert found.counts[kind, "good"] > 0.05 * sum(n for (k, _), n in found.counts.items() if k == kind)


# -- bombs -------------------------------------------------------------------------------------------------------------

TERA = 10**6
BOMBS: dict[str, onnx.ModelProto] = {
    "ConstantOfShape": with_constants(node("ConstantOfShape", "n"), n=ints("n", TERA, TERA)),
    "Tile": with_constants(node("Tile", "c n"), c=np.ones((1, 1), np.float32), n=ints("n", TERA, TERA)),
    "Tile of an input": with_constants(node("Tile", "x n"), n=ints("n", TERA, TERA, 1, 1)),
    "Expand": with_constants(node("Expand", "c n"), c=np.ones((1000, 1), np.float32), n=ints("n", 1, 10**9)),
    "broadcast": with_constants(
        node("Add", "a b"), a=np.ones((10**5, 1), np.float32), b=np.ones((1, 10**5), np.float32)
    ),
    "Range": with_constants(node("Range", "a b c"), a=np.array(0.0), b=np.array(1e12), c=np.array(1.0)),
    "Range of no end": with_constants(node("Range", "a b c"), a=np.array(0.0), b=np.array(np.inf), c=np.array(1.0)),
    "Gather": with_constants(node("Gather", "a b"), a=np.ones((1, 10**6), np.float32), b=np.zeros(10**6, np.int64)),
    "OneHot": with_constants(
        node("OneHot", "a n v"), a=np.zeros(10**6, np.int64), n=ints("n", 10**6), v=np.zeros(2, np.float32)
    ),
    "Pad": with_constants(node("Pad", "x n"), n=ints("n", 0, 0, 0, 0, 0, 0, TERA, TERA)),
    "Resize": with_constants(node("Resize", "x   n"), n=ints("n", 1, 3, TERA, TERA)),
    "MatMul": with_constants(
        node("MatMul", "a b"), a=np.ones((10**5, 1), np.float32), b=np.ones((1, 10**5), np.float32)
    ),
    "Dropout's mask": model(
        node("Dropout", "x", "y m"), inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [TERA, TERA])]
    ),
    "MaxUnpool": with_constants(
        node("MaxUnpool", "x i", kernel_shape=[1, 1], strides=[10000, 10000]), i=np.zeros((1, 3, 8, 8), np.int64)
    ),
    "lengths of an RNN": with_constants(
        node("RNN", "x a b", hidden_size=1),
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1 << 40, 1])],
        a=np.ones((1, 1, 1), np.float32),
        b=np.ones((1, 1, 1), np.float32),
    ),
    "sizes whose product wraps": model(
        node("Size", "x"), inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [2**32, 2**32])]
    ),
    "no elements, large sizes": model(
        node("Relu", "x"), inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [2**40, 0, 2**40])]
    ),
    "functions that double": nested(30, 2),
    "many folds": with_constants(
        *(node("Tile", "c n", f"t{i}", name=f"t{i}") for i in range(200)),
        node("Concat", " ".join(f"t{i}" for i in range(200)), axis=0, name="n2"),
        c=np.ones((1000, 100), np.float32),
        n=ints("n", 25, 25),
    ),
    "convolution of constants": with_constants(
        node("Conv", "a b"), a=np.ones((1, 16, 512, 512), np.float32), b=np.ones((16, 16, 101, 101), np.float32)
    ),
    "tensor": with_constants(
        node("Add", "x t"), t=TensorProto(name="t", data_type=1, dims=[TERA, TERA], raw_data=b"abcd")
    ),
}


def peak(call: Callable[[], Any]) -> int:
    """The peak number of bytes that Python and numpy hold while a function runs."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(name: str) -> None:
    """The file is refused before memory is taken: less than the one fold that a limit of 256 MB allows."""

    def compiled() -> None:
        with pytest.raises(ConvcError):
            convc.compile(BOMBS[name], limits=Limits(constant_bytes=1 << 28, nodes=2000))

    assert peak(compiled) < (1 << 28) + (1 << 26)


def test_what_folding_makes_is_bounded_from_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that is checked before folding is at least what folding makes.

    This holds for every foldable op with constant inputs.
    """
    bounds, folded = [], set()

    def bound(n: Any) -> int:
        bounds.append(folded_bytes(n))
        return bounds[-1]

    def reference(graph: onnx.GraphProto, *args: Any) -> Any:
        made = run_reference(graph, *args)
        folded.add(graph.node[0].op_type)
        assert sum(m.nbytes for m in made) <= bounds[-1], graph.node[0]
        return made

    monkeypatch.setattr("convc.onnx.fold.folded_bytes", bound)
    monkeypatch.setattr("convc.onnx.fold.run_reference", reference)
    for data in corpus.models():
        proto = onnx.ModelProto.FromString(data)
        known = {t.name for t in proto.graph.initializer}
        for port in proto.graph.input:
            tensor = port.type.tensor_type
            shape = [d.dim_value for d in tensor.shape.dim]
            ones = np.ones(shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            if port.name not in known:
                proto.graph.initializer.append(numpy_helper.from_array(ones, port.name))
        del proto.graph.input[:]
        with suppress(ConvcError):
            convc.load_onnx(proto)
    assert len(folded) > 45


def npz(path: Path, size: int) -> Path:
    """A model in text form whose constants unpack to ``size`` zeros."""
    path.write_text("graph @g(%x: f32[2]) { return %x }")
    with zipfile.ZipFile(path.with_suffix(".npz"), "w", zipfile.ZIP_DEFLATED) as z:
        data = io.BytesIO()
        np.save(data, np.zeros(size, np.uint8))
        z.writestr("abc.npy", data.getvalue())
    return path


def test_constants_that_unpack_to_more_than_the_limit(tmp_path: Path) -> None:
    path = npz(tmp_path / "g.txt", 1 << 20)
    as_graph(path)
    with raises(LimitError, "the .npz, unpacked", "limit is 65536"):
        as_graph(path, limits=Limits(file_bytes=1 << 16))


def test_constants_whose_header_lies(tmp_path: Path) -> None:
    path = npz(tmp_path / "g.txt", 64)
    header = np.lib.format.header_data_from_array_1_0(np.zeros(64, np.uint8)) | {"shape": (1 << 50,)}
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, header)
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as z:
        z.writestr("abc.npy", data.getvalue())
    with pytest.raises(ConvcError, match=r"more memory than there is|cannot read"):
        as_graph(path)


# -- what the fuzzer and measurements found ----------------------------------------------------------------------------


def test_a_constant_that_is_only_described() -> None:
    graph = parse_graph(
        "graph @g(%x: f32[1]) { %c: f32[1000000000000] = const uniform(1, 2) "
        "%y: f32[1000000000000] = add(%x, %c) return %y }"
    )
    with raises(LimitError, "uniform", "4000000000000 bytes", "tensor_bytes"):
        convc.compile(graph)


def test_long_numbers_in_text() -> None:
    with raises(ParseError, "line 1", "an integer"):
        parse_graph(f"graph @g(%x: f32[2]) {{ %c: i64[1] = const [{'9' * 5000}] return %c }}")


@pytest.mark.parametrize(
    "deep",
    [
        "f32[2] = pad(%x) {pads=" + "[" * 5000,
        "f32[2] = einsum(%x) {equation=" + "[" * 5000,
        "f32[2] = fused(%x) {body=" + "graph @g() { %a: f32[1] = fused() {body=" * 5000,
        "f32[" + "(" * 5000,
        "f32[" + "-" * 5000,
        "f32[" + "min(" * 5000,
    ],
)
def test_deep_text(deep: str) -> None:
    with raises(LimitError, "line 1", "33 levels of nesting"):
        parse_graph("graph @g(%x: f32[2]) { %y: " + deep)


@pytest.mark.parametrize(
    ("node", "what"),
    [
        ("einsum(%x) {equation=[1]}", "equation of einsum must be a string"),
        ("select_channels(%x) {channels=[0,-0.0]}", "channels of select_channels must be a list of integers"),
        ("softmax(%x) {axis=true}", "axis of softmax must be an integer"),
        ("elu(%x) {alpha=[]}", "alpha of elu must be a number"),
        ("pad(%x) {pads=[1,2]}", "pads of pad must be a list of pairs"),
    ],
)
def test_attribute_of_another_kind(node: str, what: str) -> None:
    with raises(ParseError, what):
        parse_graph(f"graph @g(%x: f32[2,2]) {{ %y: f32[2,2] = {node} return %y }}")


def test_outputs_that_the_op_does_not_give() -> None:
    graph = parse_graph("graph @g(%x: f32[2]) { %y: f32[2], %z: f32[2] = relu(%x) return %y }")
    with raises(GraphError, "relu node 'y'", "1 value, not 2"):
        rebuild(graph, lambda b, node, inputs: b.reinfer(node, inputs))


def verified(text: str) -> convc.Graph:
    graph = parse_graph(text)
    return as_graph(graph)


@pytest.mark.parametrize("pads", [10**9, 10**4])
def test_windows_of_padding_alone_are_found_at_once(pads: int) -> None:
    b = Builder()
    pool = MaxPool(kernel=(3,), strides=(1,), pads=((pads, 0),))
    with pytest.raises((ShapeError, LimitError)):
        b.emit(pool, b.input("x", f32[1, 1, 8]))


def test_the_cost_of_a_node_of_many_operands_is_linear() -> None:
    """The cost of a node is linear in its operands.

    It is counted in calls of ``Value.__str__``, which describing the node makes for each operand.
    """
    b = Builder()
    x = b.input("x", f32[1, 4])
    graph = b.finish([b.emit(Concat(0), *(b.emit(Relu(), x) for _ in range(200)))])
    seen = []
    original = type(x).__str__

    def counted(v: Any) -> str:
        seen.append(v)
        return original(v)

    with pytest.MonkeyPatch.context() as m:
        m.setattr(type(x), "__str__", counted)
        as_graph(graph)
    assert len(seen) < 10 * 200


def test_channels_of_a_huge_axis_are_not_numbered() -> None:
    text = (
        "graph @g(%x: i8[1, 4294967296, 1]) { %y: i8[1, 1, 1] = slice(%x) {axes=[1], starts=[0], ends=[1]} return %y }"
    )
    graph = parse_graph(text)
    assert peak(lambda: pipeline(corpus.MACHINE).run(graph)) < 1 << 24


@pytest.mark.parametrize("edit", [{"dtype": math.nan}, {"dtype": "x"}, {"shape": [-1]}, {"shape": ["n"]}, {"name": 1}])
def test_an_artifact_whose_input_is_none(edit: dict[str, Any], tmp_path: Path) -> None:
    parts = read_artifact(written(tmp_path / "a", corpus.artifacts()[1]))
    described = parts[0].description
    odd = replace(described, inputs=(replace(described.inputs[0], **edit),))
    write_artifact(tmp_path / "b", [Part(odd, parts[0].code, parts[0].weights)])
    with raises(ArtifactError, "damaged description"):
        convc.load(tmp_path / "b")


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_external_data_that_is_a_device(tmp_path: Path) -> None:
    proto = model(node("Conv", "x w"))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="zeros")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with raises(ModelFileError, "tensor 'w'", "outside the model's folder"):
        convc.load_onnx(tmp_path / "m.onnx")
