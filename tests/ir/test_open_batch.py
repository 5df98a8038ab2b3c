"""A batch that a graph fixed is opened: each image gives what it gives alone, or an error names the node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support import models, small_models
from support.malformed import raises
from support.oracles import run_onnxruntime, run_reference, values
from support.tolerances import assert_close

import convc
import convc.ir.ops
from convc.ir.builder import Builder
from convc.ir.errors import ConvcError, ShapeError
from convc.ir.graph import Graph
from convc.ir.op import REGISTRY, Case, from_outside
from convc.ir.passes.fix_shapes import with_sizes
from convc.ir.passes.open_batch import open_batch
from convc.ir.sizes import Size, names
from convc.ir.types import type_of
from convc.onnx.export import to_onnx

RNG = np.random.default_rng(0)


def in_order(outputs: Sequence[np.ndarray], axes: Sequence[int | None], count: int, i: int) -> list[np.ndarray]:
    """The part of each output that belongs to image ``i`` of ``count``."""
    return [y if a is None else np.split(y, count, a)[i] for y, a in zip(outputs, axes, strict=True)]


def batch_axes(graph: Graph) -> list[int | None]:
    """The axis of each output along which the images lie."""
    found = []
    for v in graph.outputs:
        open_ones = [a for a, d in enumerate(v.type.shape) if isinstance(d, Size) and any(names(d))]
        assert len(open_ones) <= 1
        found.append(open_ones[0] if open_ones else None)
    return found


# -- all ops -----------------------------------------------------------------------------------------------------------


def one_op(case: Case) -> tuple[Graph, np.ndarray]:
    """A graph of one op whose first operand is its input, and the input."""
    arrays = [x if isinstance(x, np.ndarray) else values(x, RNG, case.low, case.high) for x in case.inputs]
    b = Builder("case")
    operands = [b.input("x0", type_of(arrays[0])), *(b.constant(x) for x in arrays[1:])]
    made = b.emit(case.op, *operands)
    return b.finish(made if isinstance(made, tuple) else (made,)), arrays[0]


def _cases() -> list[object]:
    return list(_params())


def _params() -> Iterator[object]:
    for name, op in sorted(REGISTRY.items()):
        for i, case in enumerate(() if from_outside(op) else op.cases()):
            unable = case.oracle == "reference in float64" or (case.oracle == "reference" and name in UNABLE)
            if case.inputs and rank_of_input(case) > 1 and not unable:
                yield pytest.param(case, id=f"{name}-{i}", marks=[pytest.mark.slow] if i else [])


CLOSE = (2e-3, 1e-3)
"""Images that mix differ by far more than oracles round."""
UNABLE = ("lrn",)
"""Ops that onnx's reference computes wrongly for more images than channels."""


def rank_of_input(case: Case) -> int:
    """The number of axes of the first operand; 0 for one without elements."""
    first = case.inputs[0]
    shape = first.shape
    return 0 if 0 in shape else len(shape)


@pytest.mark.parametrize("case", _cases())
def test_each_image_of_a_case_gives_what_it_gives_alone(case: Case) -> None:
    """The images of two batches together, by an oracle, against each batch alone."""
    run = run_reference if case.oracle == "reference" else run_onnxruntime
    graph, x = one_op(case)
    try:
        opened = open_batch(graph, "n")
        twice = with_sizes(opened, {"n": 2 * x.shape[0]})
        models = to_onnx(graph), to_onnx(twice)
    except ConvcError:
        return
    other = np.flip(x, axis=tuple(range(1, x.ndim))) if x.ndim > 1 else x
    alone = [run(models[0], {"x0": np.ascontiguousarray(part)}) for part in (x, other)]
    together = run(models[1], {"x0": np.concatenate([x, other])})
    axes = batch_axes(opened)
    for i in range(2):
        for got, want in zip(in_order(together, axes, 2, i), alone[i], strict=True):
            assert_close(got, want, f"{case.op}, batch {i}", CLOSE)


@pytest.mark.parametrize(
    "name",
    [
        *("conv", "conv_transpose", "max_pool", "average_pool", "global_average_pool", "batch_norm", "relu", "softmax"),
        *("matmul", "layer_norm", "reshape", "transpose", "slice", "pad", "reduce_mean", "resize_nearest", "expand"),
    ],
)
def test_some_case_of_an_op_has_a_batch(name: str) -> None:
    opened = 0
    for case in REGISTRY[name].cases():
        try:
            opened += bool(open_batch(one_op(case)[0], "n"))
        except ShapeError:
            continue
    assert opened


# -- networks ----------------------------------------------------------------------------------------------------------


def check(network: onnx.ModelProto, tmp_path: Path, counts: Sequence[int] = (1, 3, 2)) -> None:
    """One artifact of the network gives ONNX Runtime's results for each image alone."""
    convc.compile(network, threads=1, batch="n").save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc", threads=1)
    shape = [d.dim_value for d in network.graph.input[0].type.tensor_type.shape.dim]
    name = network.graph.input[0].name
    x = RNG.uniform(-1, 1, (max(counts), *shape[1:])).astype(np.float32)
    alone = [run_onnxruntime(network, {name: x[i : i + 1]}) for i in range(max(counts))]
    for count in counts:
        got = loaded(x[:count])
        for i, y in enumerate(got if isinstance(got, tuple) else (got,)):
            assert_close(y, np.concatenate([one[i] for one in alone[:count]]), f"{count} images")


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "densenet", "convnext", "vgg", "unet"])
def test_networks(name: str) -> None:
    """What is inferred for each; few are compiled, below."""
    made = getattr(small_models, name)(1, 8)
    opened = convc.load_onnx(made)
    for v in open_batch(opened, "n").outputs:
        assert str(v.type.shape[0]) == "n"


def shuffle() -> onnx.ModelProto:
    """Channels are shuffled by Reshapes that name the batch, and a Flatten precedes the classifier."""
    s = small_models.Sketch("shuffle", (1, 8, 6, 6))
    x = s.conv("x", 8)
    x = s.node("Reshape", x, s.constant([1, 2, 4, 6, 6]))
    x = s.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = s.node("Reshape", x, s.constant([1, 8, 6, 6]), channels=8)
    x = s.node("Flatten", x)
    return s.unchecked(s.node("Gemm", x, s.constant(RNG.uniform(-1, 1, (288, 5)))))


def transformer() -> onnx.ModelProto:
    """Patches, a class token of shape (1, 1, 8) that joins them, attention with fixed shapes, windows, and Expand."""
    s = small_models.Sketch("vit", (1, 3, 8, 8))
    x = s.conv("x", 8, 2, strides=[2, 2], pads=[0, 0, 0, 0])
    x = s.node("Transpose", s.node("Reshape", x, s.constant([1, 8, 16])), perm=[0, 2, 1])
    x = s.node("Concat", s.constant(RNG.uniform(-1, 1, (1, 1, 8))), x, axis=1, channels=8)
    x = s.node("Add", x, s.constant(RNG.uniform(-1, 1, (1, 17, 8))))
    q = s.node("Transpose", s.node("Reshape", x, s.constant([1, 17, 2, 4])), perm=[0, 2, 1, 3])
    k = s.node("Transpose", q, perm=[0, 1, 3, 2])
    y = s.node("MatMul", s.node("Softmax", s.node("MatMul", q, k), axis=-1), q)
    y = s.node("Reshape", s.node("Transpose", y, perm=[0, 2, 1, 3]), s.constant([1, 17, 8]))
    y = s.node("Slice", y, s.constant([1]), s.constant([17]), s.constant([1]))
    windows = s.node("Transpose", s.node("Reshape", y, s.constant([1, 2, 2, 2, 2, 8])), perm=[0, 1, 3, 2, 4, 5])
    windows = s.node("Reshape", windows, s.constant([4, 4, 8]))
    windows = s.node("Mul", windows, s.node("Sigmoid", windows))
    y = s.node("Reshape", windows, s.constant([1, 16, 8]))
    mean = s.node("ReduceMean", y, s.constant([1]))
    y = s.node("Add", y, s.node("Expand", mean, s.constant([1, 16, 8])))
    return s.unchecked(s.node("Gather", y, s.constant(0), axis=1))


def recurrent() -> onnx.ModelProto:
    """Rows as a sequence, whose first state is a constant for one image."""
    s = small_models.Sketch("recurrent", (1, 1, 5, 6))
    x = s.node("Transpose", s.node("Reshape", "x", s.constant([1, 5, 6])), perm=[1, 0, 2])
    w, r = (s.constant(RNG.uniform(-1, 1, (1, 16, size))) for size in (6, 4))
    state = [s.constant(RNG.uniform(-1, 1, (1, 1, 4))) for _ in range(2)]
    y = s.node("LSTM", x, w, r, "", "", *state, hidden_size=4)
    return s.unchecked(s.node("Reshape", s.node("Transpose", y, perm=[2, 0, 1, 3]), s.constant([1, 20])))


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "shuffle": shuffle,
    "transformer": transformer,
    "recurrent": recurrent,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_through_one_artifact(name: str, tmp_path: Path) -> None:
    check(NETWORKS[name](), tmp_path)


def test_other_sizes_may_be_open_too(tmp_path: Path) -> None:
    s = small_models.Sketch("open", (1, 3, "h", "w"))
    y = s.node("GlobalAveragePool", s.conv("x", 4))
    network = s.unchecked(s.node("Reshape", y, s.constant([1, 4])))
    model = convc.compile(network, batch="n", threads=1)
    assert str(model.inputs[0]) == "x: float32[n, 3, h, w]"
    x = RNG.uniform(-1, 1, (2, 3, 9, 7)).astype(np.float32)
    want = np.concatenate([run_onnxruntime(network, {"x": x[i : i + 1]})[0] for i in range(2)])
    assert_close(model(x), want)


def test_a_number_of_images() -> None:
    model = convc.compile(shuffle(), batch=4, threads=1)
    assert str(model.inputs[0]) == "x: float32[4, 8, 6, 6]"
    assert str(model.outputs[0]).endswith("float32[4, 5]")


def test_a_batch_of_several() -> None:
    """A graph of two images; a constant that is the same for both is one for each."""
    same, different = np.tile(np.float32([1, 2, 3]), (2, 1)), np.float32([[1, 2, 3], [4, 5, 6]])
    for array, fits in ((same, True), (different, False)):
        network = models.model([models.node("Add", ["x", "c"], ["y"])], {"x": [2, 3]}, {"y": None}, {"c": array})
        if fits:
            x = np.arange(15, dtype=np.float32).reshape(5, 3)
            np.testing.assert_array_equal(convc.compile(network, batch="n")(x), x + same[:1])
        else:
            with raises(ShapeError, "add node 'y'", "constant 'c'", "differs between the images"):
                convc.compile(network, batch="n")


def test_a_batch_that_is_open_gets_a_name_or_a_number() -> None:
    network = models.model([models.node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, {"y": None})
    assert str(convc.compile(network, batch="n").inputs[0]) == "x: float32[n, 3]"
    assert str(convc.compile(network, batch=2).inputs[0]) == "x: float32[2, 3]"


MIXED: dict[str, tuple[list[onnx.NodeProto], tuple[str, ...]]] = {
    "a mean of all images": (
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0, 2])],
        ("reduce_mean node 'y'", "works along axis 0, where the images lie"),
    ),
    "a softmax along the batch": (
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        ("softmax node 'y'", "works along axis 0"),
    ),
    "products of images": (
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Transpose", ["f"], ["t"]),
            helper.make_node("MatMul", ["f", "t"], ["y"]),
        ],
        ("matmul node 'y'", "multiplies some by others"),
    ),
    "channels in place of the batch": (
        [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("ReduceMax", ["r"], ["y"], axes=[0])],
        ("reduce_max node 'y'", "works along axis 0"),
    ),
    "places among all elements": (
        [helper.make_node("MaxPool", ["x"], ["z", "y"], kernel_shape=[2, 2])],
        ("max_pool node", "places among the elements of all images"),
    ),
    "some of the images": (
        [helper.make_node("Slice", ["x", "none", "none", "none"], ["y"])],
        ("slice node 'y'",),
    ),
    "more rows": ([helper.make_node("Add", ["x", "rows"], ["y"])], ("add node 'y'", "makes 7 elements of each")),
}


@pytest.mark.parametrize("name", MIXED)
def test_images_that_mix(name: str) -> None:
    nodes, message = MIXED[name]
    weights = {"shape": np.array([4, 25]), "none": np.array([0]), "rows": np.zeros((7, 1, 1, 1), np.float32)}
    network = models.model(nodes, {"x": [1, 4, 5, 5]}, {"y": None}, weights, opset=13)
    with raises(ShapeError, "the batch of the model cannot be opened", *message, "first axis of 'x'"):
        convc.compile(network, batch="n")


@pytest.mark.parametrize("batch", [0, -1, True, "", "2n", 1.5, ("n",)])
def test_what_is_no_batch(batch: object) -> None:
    with raises(ShapeError, "batch is a number of images or the name of an open one"):
        convc.compile(shuffle(), batch=batch)  # type: ignore[arg-type]


def test_a_name_that_is_taken() -> None:
    network = models.model([models.node("Relu", ["x"], ["y"])], {"x": [1, "h"]}, {"y": None})
    with raises(ShapeError, "has a size 'h' already"):
        convc.compile(network, batch="h")
