"""Models with dynamic shapes, and models of several shapes: what they compute, compile and refuse."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image
from support import models, small_models
from support.commands import Capture, run, save
from support.malformed import raises
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc import InputError, Keep, ShapeError, compiler, nn
from convc.backends.cpu import build
from convc.dynamic import DynamicModel, Kept
from convc.runtime.artifact import read_artifact

SIZES = ((1, 16, 20), (2, 16, 20), (1, 24, 12))


def pyramid() -> onnx.ModelProto:
    """A model with dynamic shapes: one level down and up again by scales, joined to a skip connection.

    The shape of its output is not declared.
    """
    s = small_models.Sketch("pyramid", ("n", 3, "h", "w"))
    x = s.conv("x", 8)
    small = s.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = s.concat(x, s.node("Resize", small, "", s.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest"))
    return s.unchecked(y)


PYRAMID = pyramid()


def residual() -> onnx.ModelProto:
    """A model with dynamic shapes: the stem of a residual network, a block of it, and a depthwise convolution."""
    s = small_models.Sketch("residual", ("n", 3, "h", "w"))
    x = s.node("MaxPool", s.cbr("x", 32, strides=[2, 2]), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = s.node("Relu", s.node("Add", s.conv(s.cbr(x, 32), 32, 1), x))
    return s.unchecked(s.cbr(y, 32, group=32, strides=[2, 2]))


def image(n: int, h: int, w: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(h).standard_normal((n, channels, h, w)).astype(np.float32)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes that are compiled, in a list that grows, where code is made for each combination of sizes."""
    found: list[Any] = []

    def refuse(*_: Any) -> Any:
        raise convc.CompileError("the test says so")

    monkeypatch.setattr(compiler, "_open_models", refuse)
    original = build.build

    def counted(graph: Any, *rest: Any, **options: Any) -> Any:
        found.append(tuple(v.type.shape for v in graph.inputs))
        return original(graph, *rest, **options)

    monkeypatch.setattr(build, "build", counted)
    return found


# -- sizes as they come ------------------------------------------------------------------------------------------------


def test_sizes_follow_from_the_input(compilations: list[Any]) -> None:
    model = convc.compile(PYRAMID, threads=1)
    assert isinstance(model, DynamicModel)
    assert compilations == []
    for size in (*SIZES, *SIZES):
        x = image(*size)
        assert_close(model(x), run_onnxruntime(PYRAMID, {"x": x})[0])
    assert len(compilations) == len(SIZES), "each size is compiled once"
    assert repr(model).startswith("<convc.Model pyramid (x: float32[n, 3, h, w]) -> ")


def test_one_model_for_all_sizes(tmp_path: Path) -> None:
    network = residual()
    model = convc.compile(network, threads=1)
    assert type(model) is type(convc.compile(network, shapes={"x": (1, 3, 56, 56)}, threads=1))
    for n, h, w in ((1, 56, 56), (3, 40, 57), (2, 33, 48), (1, 56, 56)):
        x = image(n, h, w)
        assert_close(model(x), run_onnxruntime(network, {"x": x})[0])
    assert len(model._otherwise.kept) == 0, "no size is compiled by itself"
    model.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc", threads=1)
    assert str(loaded.inputs[0]) == "x: float32[n, 3, h, w]"
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 3), (2, 7, 4), (1, 5, 90), (3, 16, 16)])
def test_planes_smaller_than_a_tile(size: tuple[int, int, int]) -> None:
    network = residual()
    model = convc.compile(network, threads=1)
    x = image(*size)
    assert_close(model(x), run_onnxruntime(network, {"x": x})[0])
    assert len(model._otherwise.kept) == 0, "no size is compiled by itself"


def blank(*shape: int) -> np.ndarray:
    """An array of any size that takes no memory: all strides are 0."""
    return np.broadcast_to(np.float32(0), shape)


@pytest.fixture(scope="module")
def residuals(tmp_path_factory: pytest.TempPathFactory) -> tuple[convc.Model, convc.Model]:
    """A model of open sizes, and the same from its artifact."""
    model = convc.compile(residual(), threads=1)
    path = tmp_path_factory.mktemp("residual") / "m.convc"
    model.save(path)
    return model, convc.load(path, threads=1)


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((1, 3, 0, 0), ("Conv node", "Conv_0", "0")),
        ((0, 3, 0, 7), ("Conv node", "Conv_0", "0")),
        ((1 << 31, 3, 1, 1), ("'x' has 6442450944 elements for n = 2147483648",)),
        ((1, 3, 1 << 31, 1), ("'x' has 6442450944 elements for n = 1, h = 2147483648",)),
        ((1 << 40, 3, 1, 1), ("n = 1099511627776",)),
        ((1, 3, 1 << 20, 1 << 20), ("h = 1048576, w = 1048576",)),
        ((4096, 3, 512, 512), ("n = 4096, h = 512, w = 512",)),
        ((1, 2, 8, 8), ("axis 1 of input 'x' has size 2", "takes 3")),
        ((1, 3, 8), ("input 'x' has 3 axes, [1, 3, 8]",)),
        ((), ("input 'x' has 0 axes",)),
    ],
)
def test_hostile_sizes(
    shape: tuple[int, ...], parts: tuple[str, ...], loaded: bool, residuals: tuple[convc.Model, convc.Model]
) -> None:
    """Nothing is compiled or allocated for what no code can take; the error names the size."""
    model = residuals[loaded]
    with raises(convc.ConvcError, *parts):
        model(blank(*shape))
    x = image(1, 20, 30)
    assert_close(model(x), run_onnxruntime(residual(), {"x": x})[0])


def test_nothing_and_one(residuals: tuple[convc.Model, convc.Model]) -> None:
    for model in residuals:
        assert model(image(0, 20, 30)).shape == (0, 32, 3, 4)
        assert model(image(0, 1, 1)).shape == (0, 32, 1, 1)
        assert_close(model(image(1, 1, 1)), run_onnxruntime(residual(), {"x": image(1, 1, 1)})[0])


class Liar:
    """What says that it is an array of some shape."""

    def __init__(self, shape: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(np.float32)


@pytest.mark.parametrize("shape", [(-1, 3, 8, 8), ("n", 3, 8, 8), (1, 3, 8.5, 8), None, (1 << 70, 3, 8, 8)])
def test_what_is_no_shape(shape: Any, residuals: tuple[convc.Model, convc.Model]) -> None:
    for model in residuals:
        with raises(InputError, "input 'x' cannot be read"):
            model(Liar(shape))


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((-1, 3, 8, 8), ("negative size",)),
        ((1 << 31, 3, 8, 8), ("2147483648",)),
        ((1 << 70, 3, 8, 8), ("too large",)),
        ((1, 3, 1 << 31, 1), ("2147483648",)),
        (("n", 3, "", 8), ("as names of open ones",)),
        (("n", 3, 8.5, 8), ("as integers",)),
        (("n", 3, None, 8), ("as integers",)),
        ("x", ("as integers",)),
        (None, ("as integers",)),
        (("n", 4, 8, 8), ("axis 1", "takes 3")),
    ],
)
def test_hostile_sizes_to_compile_for(shape: Any, parts: tuple[str, ...]) -> None:
    with raises(convc.ConvcError, *parts):
        convc.compile(residual(), shapes={"x": shape}, threads=1)


def test_sizes_that_were_assumed_not_to_be(tmp_path: Path) -> None:
    """A sum that broadcasts only where a size is 1: code that was made for other sizes says so."""
    network = models.model([models.node("Add", ["a", "b"], ["y"])], {"a": ["n", 3], "b": ["m", 3]}, {"y": [None, 3]})
    model = convc.compile(network, threads=1)
    arrays = [np.float32([[1, 2, 3]]), np.float32([[1, 2, 3], [4, 5, 6]])]
    np.testing.assert_array_equal(model(arrays[1], arrays[1]), 2 * arrays[1])
    model.save(tmp_path / "m.convc")
    with raises(convc.SizeError, "Add node 'y': the code is for n == m", "n = 1, m = 2", "shapes={...}"):
        convc.load(tmp_path / "m.convc")(*arrays)
    np.testing.assert_array_equal(model(*arrays), arrays[0] + arrays[1])
    assert len(model._otherwise.kept) == 1, "the sizes are compiled by themselves"


def shape_arithmetic() -> onnx.ModelProto:
    """A model that folds each row of pixels into channels.

    It uses a Reshape computed from the Shape, which is known once the sizes are.
    """
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Split", ["s"], ["n", "c", "h", "w"], num_outputs=4),
        helper.make_node("Mul", ["c", "h"], ["ch"]),
        helper.make_node("Concat", ["n", "ch", "w"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    return models.model(nodes, {"x": ["n", 3, "h", "w"]}, {"y": (np.float32, None)})


def test_shapes_computed_from_sizes() -> None:
    model = convc.compile(shape_arithmetic())
    for n, h, w in SIZES:
        np.testing.assert_array_equal(model(image(n, h, w)), image(n, h, w).reshape(n, 3 * h, w))


def test_an_nn_module_of_open_sizes() -> None:
    net = nn.Sequential(nn.Conv2D(4, kernel_size=3, padding=1), nn.MaxPool2D(2))
    model = convc.compile(net, shapes={"x": ("n", 3, "h", "w")})
    for size in SIZES:
        want = convc.compile(net, shapes={"x": image(*size).shape})(image(*size))
        np.testing.assert_array_equal(model(image(*size)), want)
        assert list(model.run({"x": image(*size)})) == ["output"]


def test_some_sizes_fixed_ahead() -> None:
    model = convc.compile(PYRAMID, shapes={"x": (2, 3, "h", 20)})
    assert str(model.inputs[0]) == "x: float32[2, 3, h, 20]"
    assert model(image(2, 16, 20)).shape == (2, 16, 16, 20)
    with raises(InputError, "axis 0 of input 'x' has size 1", "takes 2"):
        model(image(1, 16, 20))


def test_compiled_ahead(compilations: list[Any]) -> None:
    model = convc.compile(PYRAMID)
    ahead = model.at({"x": (1, 3, 16, 20)})
    assert ahead.inputs[0].shape == (1, 3, 16, 20)
    assert len(compilations) == 1
    np.testing.assert_array_equal(model(image(1, 16, 20)), ahead(image(1, 16, 20)))
    assert len(compilations) == 1


def two_inputs() -> onnx.ModelProto:
    return models.model([models.node("Add", ["a", "b"], ["y"])], {"a": ["n", "w"], "b": ["n", 1]}, {"y": ["n", "w"]})


REFUSED: dict[str, tuple[Sequence[Any], tuple[str, ...]]] = {
    "conflict": (
        (np.zeros((2, 3), np.float32), np.zeros((4, 1), np.float32)),
        ("size 'n' is 2 by axis 0 of input 'a'", "4 by axis 0 of input 'b'"),
    ),
    "fixed axis": (
        (np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32)),
        ("axis 1 of input 'b' has size 2", "takes 1"),
    ),
    "rank": ((np.zeros(2, np.float32), np.zeros((2, 1), np.float32)), ("input 'a' has 1 axis", "[n, w]")),
    "dtype": ((np.zeros((2, 3)), np.zeros((2, 1), np.float32)), ("input 'a' has dtype float64", "float32")),
    "count": ((np.zeros((2, 3), np.float32),), ("takes 2 inputs (a, b), not 1",)),
    "text": (("no array", np.zeros((2, 1), np.float32)), ("input 'a' cannot be read",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_compiled(name: str, compilations: list[Any]) -> None:
    arrays, message = REFUSED[name]
    with raises(InputError, *message):
        convc.compile(two_inputs())(*arrays)
    assert compilations == []


def test_lists_and_names() -> None:
    model = convc.compile(two_inputs())
    assert model([[1, 2]], [[3]]).tolist() == [[4, 5]]
    assert model.run({"b": [[1]], "a": [[1, 2, 3]]})["y"].tolist() == [[2, 3, 4]]
    with raises(InputError, "no input 'c'"):
        model.run({"a": [[1]], "c": [[1]]})


def test_a_size_that_cannot_be_is_named(compilations: list[Any]) -> None:
    model = convc.compile(PYRAMID)
    for _ in range(2):  # errors are not kept
        with raises(ShapeError, "for x [1, 3, 17, 21]", "Concat"):
            model(image(1, 17, 21))
    assert model(image(1, 16, 20)).shape == (1, 16, 16, 20)


def test_code_for_gpus_is_made_for_each_size(tmp_path: Path) -> None:
    with raises(ShapeError, "input x: float32[n, 3, h, w] leaves sizes open", "is made for each size"):
        convc.compile(PYRAMID, "cuda", shapes=[{"x": (1, 3, 16, 20)}, {}])
    with raises(convc.ArtifactError, "code for target 'cuda' is made for each size", "shapes=[...]"):
        convc.compile(PYRAMID, "cuda").save(tmp_path / "m.convc")


def test_what_open_sizes_do_not_have(tmp_path: Path, compilations: list[Any]) -> None:
    with raises(convc.ArtifactError, "x: float32[n, 3, h, w]", "the test says so", "--shape"):
        convc.compile(PYRAMID).save(tmp_path / "m.so")
    with raises(InputError, "the shape of input 'x' is missing"):
        convc.compile(PYRAMID).at({})
    with raises(convc.CompileError, "neoverse-n1 needs", "aarch64"):
        convc.compile(PYRAMID, "neoverse-n1")(image(1, 16, 20))


# -- values as they come -----------------------------------------------------------------------------------------------


def resize() -> onnx.ModelProto:
    """A picture whose size follows from the sizes that an input holds, and whose own sizes are open."""
    nodes = [
        helper.make_node("Resize", ["x", "", "", "s"], ["t"], mode="linear"),
        helper.make_node("Slice", ["t", "start", "end", "axes"], ["y"]),
    ]
    inputs = {"x": ["n", 1, "h", "w"], "s": (np.int64, [4]), "end": (np.int32, [1])}
    return models.model(nodes, inputs, "y", {"start": np.int32([0]), "axes": np.int32([3])})


def test_the_values_of_small_inputs_are_compiled_in(compilations: list[Any]) -> None:
    model = convc.compile(resize(), threads=1, keep=Keep(models=2))
    assert isinstance(model, DynamicModel)
    assert model.by_value == ()
    for size, end in (((1, 1, 6, 5), 3), ((1, 1, 4, 9), 3), ((1, 1, 4, 9), 8), ((1, 1, 4, 9), 3), ((1, 1, 4, 9), 8)):
        feeds = {"x": image(1, 4, 4, 1), "s": np.array(size), "end": np.int32([end])}
        assert_close(model.run(feeds)["y"], run_onnxruntime(resize(), feeds)[0])
    assert len(compilations) == 3, "each value is compiled once"
    assert model.by_value == ("s", "end")
    assert len(model.kept) == 2
    assert "compiled for each value of s, end" in repr(model)
    ahead = model.at({"x": (1, 1, 4, 4)}, {"s": (1, 1, 4, 9), "end": [8]})
    assert [p.name for p in ahead.inputs] == ["x"]
    assert len(compilations) == 3
    with raises(convc.UnsupportedOpError, "'s'", "values={'s': ...}", "--value s=..."):
        model.at({"x": (1, 1, 4, 4)})
    with raises(InputError, "'q'", "there are: x, s, end"):
        model.at({"x": (1, 1, 4, 4)}, {"q": 3})
    with raises(InputError, "input 's' has dtype int32"):
        model(image(1, 4, 4, 1), np.int32([1, 1, 2, 2]), np.int32([3]))


def test_no_artifact_of_values_that_are_left_open(tmp_path: Path) -> None:
    """Sizes are read when the model runs, and scales, of which positions are computed, are not."""
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear")
    fixed = convc.compile(models.model([node], {"x": [1, 1, 4, 4], "s": [4]}, "y"))
    assert isinstance(fixed, DynamicModel)
    with raises(convc.ArtifactError, "values={'s': ...}", "--value s=..."):
        fixed.save(tmp_path / "m.convc")
    convc.compile(resize(), shapes={"x": (1, 1, 4, 4)}, values={"s": (1, 1, 3, 3), "end": 2}).save(tmp_path / "m.convc")
    assert convc.load(tmp_path / "m.convc")(image(1, 4, 4, 1)).shape == (1, 1, 3, 2)


def test_large_inputs_and_data_are_no_values() -> None:
    """A model is not compiled for each of its data, which decide sizes when it is called."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["n"], keepdims=0), helper.make_node("Cast", ["n"], ["i"], to=7)]
    nodes += [helper.make_node("Expand", ["one", "i1"], ["y"]), helper.make_node("Unsqueeze", ["i", "zero"], ["i1"])]
    for dtype, shape in ((np.float32, [64]), (np.int32, [2048])):
        weights = {"one": np.float32([1]), "zero": np.array([0])}
        model = convc.compile(models.model(nodes, {"x": (dtype, shape)}, "y", weights), threads=1)
        assert not isinstance(model, DynamicModel)
        for size in (3, 0, 5):
            x = np.zeros(shape, dtype)
            x[0] = size
            assert model(x).tolist() == [1] * size


def test_values_asked_for_by_several_threads(compilations: list[Any]) -> None:
    model = convc.compile(resize(), threads=1)
    together, results = threading.Barrier(4), []

    def call(size: int) -> None:
        together.wait()
        results.append(model(image(1, 4, 4, 1), np.array([1, 1, size, size]), np.int32([9])).shape)

    threads = [threading.Thread(target=call, args=(size,)) for size in (2, 2, 3, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == [(1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 3, 3), (1, 1, 3, 3)]
    assert len(compilations) == 2


# -- what is kept in memory --------------------------------------------------------------------------------------------


class Fake:
    """A fake model with the attributes that ``Kept`` reads."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def keep(kept: Kept, *keys: int, nbytes: int = 10) -> list[int]:
    """Ask for keys in turn, and return those whose models had to be made."""
    made: list[int] = []

    def make(key: int) -> Any:
        made.append(key)
        return Fake(nbytes)

    for key in keys:
        kept.get(key, lambda key=key: make(key))  # type: ignore[misc]
    return made


def test_the_models_used_last_are_kept() -> None:
    kept = Kept(Keep(models=2))
    assert keep(kept, 1, 2, 1, 3, 1, 2) == [1, 2, 3, 2]
    assert len(kept) == 2


def test_their_bytes_are_bounded_and_the_last_one_stays() -> None:
    kept = Kept(Keep(nbytes=35))
    assert keep(kept, 1, 2, 3, 4, 3) == [1, 2, 3, 4]
    assert kept.nbytes == 30
    assert keep(kept, 5, nbytes=100) == [5]
    assert (len(kept), kept.nbytes) == (1, 100)


def test_what_a_model_keeps(compilations: list[Any]) -> None:
    model = convc.compile(PYRAMID, keep=Keep(models=1))
    for size in (SIZES[0], SIZES[1], SIZES[0]):
        model(image(*size))
    assert len(compilations) == 3
    assert len(model.kept) == 1
    assert 0 < model.kept.nbytes == model.at({"x": image(*SIZES[0]).shape}).nbytes


def test_threads_that_need_one_size_compile_it_once(compilations: list[Any]) -> None:
    model = convc.compile(PYRAMID, threads=1)
    together, results = threading.Barrier(4), []

    def call(size: tuple[int, int, int]) -> None:
        together.wait()
        results.append((size, model(image(*size))))

    threads = [threading.Thread(target=call, args=(size,)) for size in (SIZES[0], SIZES[0], SIZES[0], SIZES[2])]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(compilations) == sorted([(image(*SIZES[0]).shape,), (image(*SIZES[2]).shape,)])
    for size, y in results:
        np.testing.assert_array_equal(y, model(image(*size)))
    assert len(results) == 4


# -- several sizes in one artifact -------------------------------------------------------------------------------------


def test_several_sizes_share_their_weights(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2D(256, kernel_size=3, padding=1), nn.Conv2D(64, kernel_size=1))
    shapes = [{"x": (1, 64, size, size)} for size in (8, 12, 16)]
    model = convc.compile(net, shapes=shapes, threads=1)
    assert isinstance(model, convc.ModelSet)
    model.save(tmp_path / "set.so")
    parts = read_artifact(tmp_path / "set.so")
    weights = sum(w.nbytes for w in parts[0].weights.values())
    assert len(parts) == 3
    assert weights > 600_000
    assert (tmp_path / "set.so").stat().st_size < weights + sum(len(p.code) for p in parts) + 20_000
    loaded = convc.load(tmp_path / "set.so")
    assert repr(loaded) == repr(model)
    assert str(loaded.inputs[0]) == "x: float32[1, 64, 8|12|16, 8|12|16]"
    for size in (16, 8, 12):
        x = image(1, size, size, 64)
        np.testing.assert_array_equal(loaded(x), convc.compile(net, shapes={"x": x.shape}, threads=1)(x))
    with raises(InputError, "x [1, 64, 9, 9]", "x [1, 64, 8, 8]; x [1, 64, 12, 12]; x [1, 64, 16, 16]"):
        loaded(image(1, 9, 9, 64))
    loaded.save(tmp_path / "again.so")
    assert (tmp_path / "again.so").read_bytes() == (tmp_path / "set.so").read_bytes()


# -- on the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "open.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3, "h", "w"]})
    for name, size in (("wide", (20, 10)), ("tall", (10, 20))):
        Image.new("RGB", size, (255, 0, 0)).save(tmp_path / f"{name}.png")
    np.save(tmp_path / "x.npy", image(2, 5, 6))
    return tmp_path


def test_pictures_of_any_size(folder: Path, capsys: Capture) -> None:
    assert run("run", "open.onnx", "--input", "wide.png", "tall.png", "x.npy") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1::2]] == [
        f"y: float32[{s}]" for s in ("1, 3, 10, 20", "1, 3, 20, 10", "2, 3, 5, 6")
    ]


def test_building_several_sizes(folder: Path, capsys: Capture) -> None:
    assert run("build", "open.onnx", "--shape", "x=2,3,5,6", "--shape", "x=1,3,10,20") == 0
    assert "x: float32[2|1, 3, 5|10, 6|20]" in capsys.readouterr().out
    assert run("run", "open.convc", "--input", "x.npy", "--output", "y.npy") == 0
    np.testing.assert_array_equal(np.load("y.npy"), np.maximum(image(2, 5, 6), 0))
    np.save("odd.npy", image(1, 5, 6))
    assert run("run", "open.convc", "--input", "odd.npy") == 1
    assert "x [2, 3, 5, 6]; x [1, 3, 10, 20]" in capsys.readouterr().err


def test_shapes_that_do_not_pair(folder: Path, capsys: Capture) -> None:
    onnx.save(two_inputs(), "two.onnx")
    sizes = ("a=1,2", "a=3,2", "a=4,2", "b=1,1", "b=3,1")
    assert run("build", "two.onnx", *(word for s in sizes for word in ("--shape", s))) == 2
    assert "2 shapes for input 'b', and 3 for another one" in capsys.readouterr().err
