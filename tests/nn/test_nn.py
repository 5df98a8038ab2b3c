"""The layer API: results against ONNX Runtime, names and laziness of parameters, weights in files, and errors."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.compiling import compiled
from support.layers import SHAPES, small
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc import nn
from convc.ir.text import parse_graph, print_graph

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    # module, input shape, output shape
    "conv1d": (lambda: nn.Conv1D(4, 3, strides=2, padding="same"), (2, 3, 9), (2, 4, 5)),
    "conv2d": (lambda: nn.Conv2D(4, (3, 2), activation="relu"), (2, 3, 7, 8), (2, 4, 5, 7)),
    "conv2d pairs": (lambda: nn.Conv2D(4, 3, padding=((1, 0), (0, 2))), (1, 3, 7, 8), (1, 4, 6, 8)),
    "conv2d dilated": (lambda: nn.Conv2D(4, 3, padding="same", dilation=2), (1, 3, 7, 8), (1, 4, 7, 8)),
    "conv2d groups": (lambda: nn.Conv2D(6, 3, groups=2, use_bias=False), (1, 4, 7, 8), (1, 6, 5, 6)),
    "conv2d depthwise": (lambda: nn.Conv2D(10, 3, groups=5, padding=1, strides=(2, 1)), (1, 5, 7, 8), (1, 10, 4, 8)),
    "conv3d": (lambda: nn.Conv3D(3, (2, 3, 1), padding=(1, 0, 1)), (1, 2, 4, 5, 3), (1, 3, 5, 3, 5)),
    "conv1d transpose": (lambda: nn.Conv1DTranspose(4, 3, strides=2), (2, 3, 5), (2, 4, 11)),
    "conv2d transpose": (lambda: nn.Conv2DTranspose(4, 4, 2, padding=1), (1, 3, 5, 6), (1, 4, 10, 12)),
    "conv2d transpose same": (lambda: nn.Conv2DTranspose(4, 3, 2, padding="same"), (1, 3, 5, 6), (1, 4, 10, 12)),
    "conv2d transpose groups": (
        lambda: nn.Conv2DTranspose(6, 3, 3, groups=2, output_padding=(1, 2), activation="tanh"),
        (1, 4, 3, 4),
        (1, 6, 10, 14),
    ),
    "conv3d transpose": (lambda: nn.Conv3DTranspose(2, 2, use_bias=False), (1, 2, 3, 2, 4), (1, 2, 4, 3, 5)),
    "max pool 1d": (lambda: nn.MaxPool1D(3, strides=2, ceil_mode=True), (1, 2, 8), (1, 2, 4)),
    "max pool 2d": (lambda: nn.MaxPool2D(3, strides=2, padding=1), (1, 2, 7, 8), (1, 2, 4, 4)),
    "max pool 3d": (lambda: nn.MaxPool3D(2), (1, 2, 4, 5, 6), (1, 2, 2, 2, 3)),
    "average pool 1d": (lambda: nn.AvgPool1D(2), (1, 2, 8), (1, 2, 4)),
    "average pool 2d": (lambda: nn.AvgPool2D(3, strides=2, padding=1), (1, 2, 7, 8), (1, 2, 4, 4)),
    "average pool 2d inside": (
        lambda: nn.AvgPool2D(3, strides=1, padding="same", count_include_pad=False),
        (1, 2, 7, 8),
        (1, 2, 7, 8),
    ),
    "average pool 3d": (lambda: nn.AvgPool3D((2, 1, 3)), (1, 2, 4, 5, 6), (1, 2, 2, 5, 2)),
    "lp pool 1d": (lambda: nn.LpPool1D(2, p=1), (1, 2, 8), (1, 2, 4)),
    "lp pool 2d": (lambda: nn.LpPool2D(3, strides=2), (1, 2, 7, 8), (1, 2, 3, 3)),
    "lp pool 3d": (lambda: nn.LpPool3D(2), (1, 2, 4, 4, 4), (1, 2, 2, 2, 2)),
    "global average pool": (nn.GlobalAvgPool, (2, 3, 5, 7), (2, 3, 1, 1)),
    "global max pool": (nn.GlobalMaxPool, (2, 3, 5), (2, 3, 1)),
    "dense": (lambda: nn.Dense(5, activation="tanh"), (3, 7), (3, 5)),
    "dense on rank 4": (lambda: nn.Dense(5), (2, 3, 4, 7), (2, 3, 4, 5)),
    "dense without bias": (lambda: nn.Dense(5, use_bias=False), (3, 7), (3, 5)),
    "flatten": (nn.Flatten, (2, 3, 4, 5), (2, 60)),
    "batch norm": (nn.BatchNorm, (2, 3, 4, 5), (2, 3, 4, 5)),
    "batch norm on rank 2": (lambda: nn.BatchNorm(epsilon=1e-3), (4, 3), (4, 3)),
    "layer norm": (nn.LayerNorm, (2, 3, 8), (2, 3, 8)),
    "layer norm on two axes": (lambda: nn.LayerNorm(axes=2, epsilon=1e-3), (2, 3, 8), (2, 3, 8)),
    "dropout": (lambda: nn.Dropout(0.3), (2, 3), (2, 3)),
    "residual": (lambda: nn.Residual(nn.Conv2D(3, 3, padding="same"), activation="relu"), (1, 3, 6, 6), (1, 3, 6, 6)),
    "residual shortcut": (
        lambda: nn.Residual(
            nn.Sequential(nn.Conv2D(4, 3, 2, padding=1, activation="relu"), nn.Conv2D(4, 3, padding=1)),
            shortcut=nn.Conv2D(4, 1, 2),
        ),
        (1, 3, 6, 6),
        (1, 4, 3, 3),
    ),
    "parallel concat": (
        lambda: nn.Parallel(nn.Conv2D(2, 1), nn.Conv2D(3, 3, padding="same"), nn.MaxPool2D(3, 1, padding="same")),
        (1, 4, 6, 6),
        (1, 9, 6, 6),
    ),
    "parallel add": (lambda: nn.Parallel(nn.Dense(4), nn.tanh, nn.Dense(4), combine="add"), (2, 4), (2, 4)),
    **{f"activation {name}": (partial(nn.Activation, name), (2, 3, 5), (2, 3, 5)) for name in nn.ACTIVATIONS},
}


def feeds_for(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def randomize(net: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give parameters random values that no initializer gives. Those of variances are positive."""
    rng = np.random.default_rng(1)
    net.set_weights({name: rng.uniform(0.2, 1, t.sizes) for name, t in net.parameters(shapes).items()})


def check(net: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> list[np.ndarray]:
    """Compile the network and compare it with ONNX Runtime's run of its export. Returns the outputs."""
    feeds = feeds_for(shapes)
    graph = net.to_graph(shapes)
    got = compiled(net, threads=2, shapes=shapes)(*feeds.values())
    outputs = list(got) if isinstance(got, tuple) else [got]
    for g, w in zip(outputs, run_onnxruntime(convc.to_onnx(graph), feeds), strict=True):
        assert_close(g, w)
    return outputs


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, shape, out = LAYERS[name]
    net, shapes = make(), {"x": shape}
    randomize(net, shapes)
    assert [y.shape for y in check(net, shapes)] == [out]
    graph = net.to_graph(shapes)
    assert parse_graph(print_graph(graph), {c.sha: c.array for c in graph.constants.values()}) == graph


def test_dense_is_the_product_with_the_transposed_weight() -> None:
    net, shapes = nn.Dense(2), {"x": (1, 2, 3)}
    net.set_weights({"weight": [[1, 2, 3], [0, 1, 0]], "bias": [0.5, 0]})
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert convc.compile(net, shapes=shapes)(x).tolist() == [[[8.5, 1], [26.5, 4]]]


def test_batch_norm_formula() -> None:
    net, shapes = nn.BatchNorm(epsilon=0), {"x": (1, 2, 2)}
    net.set_weights({"weight": [1, 2], "bias": [0, 1], "running_mean": [1, 2], "running_var": [4, 16]})
    x = np.array([[[1, 3], [2, 6]]], np.float32)
    np.testing.assert_allclose(convc.compile(net, shapes=shapes)(x), [[[0, 1], [1, 3]]], rtol=1e-6)


def test_layer_norm_formula() -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    y = convc.compile(nn.LayerNorm(), shapes={"x": x.shape})(x)
    np.testing.assert_allclose(y, [[-1.3416, -0.4472, 0.4472, 1.3416]], atol=1e-4)


def test_average_pooling_counts_padding_unless_told_not_to() -> None:
    x = np.ones((1, 1, 2), np.float32)
    counted = convc.compile(nn.AvgPool1D(2, 1, padding=1), shapes={"x": x.shape})(x)
    assert counted.tolist() == [[[0.5, 1, 0.5]]]
    inside = convc.compile(nn.AvgPool1D(2, 1, padding=1, count_include_pad=False), shapes={"x": x.shape})(x)
    assert inside.tolist() == [[[1, 1, 1]]]


def test_transposed_convolution_is_the_transpose() -> None:
    """<conv(x), y> = <x, conv_transpose(y)> holds for the same weight and padding."""
    x, y = feeds_for({"x": (1, 2, 8), "y": (1, 3, 4)}).values()
    weight = np.random.default_rng(2).standard_normal((3, 2, 4), np.float32)
    conv = nn.Conv1D(3, 4, strides=2, padding="same", use_bias=False)
    back = nn.Conv1DTranspose(2, 4, strides=2, padding="same", use_bias=False)
    conv.set_weights({"weight": weight})
    back.set_weights({"weight": weight})
    there = convc.compile(conv, shapes={"x": x.shape})(x)
    here = convc.compile(back, shapes={"x": y.shape})(y)
    np.testing.assert_allclose((there * y).sum(), (x * here).sum(), rtol=1e-4)


def test_mean_squared_error() -> None:
    (loss,) = check(nn.MSE(), {"x": (2, 3), "target": (2, 3)})
    x, target = feeds_for({"x": (2, 3), "target": (2, 3)}).values()
    np.testing.assert_allclose(loss, ((x - target) ** 2).mean(), rtol=1e-5)


def test_softmax_cross_entropy() -> None:
    loss = convc.compile(nn.SoftmaxCrossEntropy(), shapes={"x": (2, 2), "target": (2, 2)})
    x, target = np.array([[0, 0], [1, 0]], np.float32), np.array([[1, 0], [1, 0]], np.float32)
    np.testing.assert_allclose(loss(x, target), (np.log(2) + np.log(1 + np.exp(-1))) / 2, rtol=1e-6)
    by_number = convc.compile(nn.SoftmaxCrossEntropy(), shapes={"x": (2, 2), "target": (2,)})
    np.testing.assert_allclose(by_number(x, np.array([0, 0], np.float32)), loss(x, target), rtol=1e-6)
    check(nn.SoftmaxCrossEntropy(), {"x": (2, 5, 3), "target": (2, 5, 3)})


ACTIVATIONS: dict[str, list[float]] = {
    # at -4, -1, 0, 1 and 8
    "relu": [0, 0, 0, 1, 8],
    "relu6": [0, 0, 0, 1, 6],
    "leaky_relu": [-0.04, -0.01, 0, 1, 8],
    "elu": [-0.981684, -0.632121, 0, 1, 8],
    "selu": [-1.725899, -1.111331, 0, 1.050701, 8.405608],
    "sigmoid": [0.017986, 0.268941, 0.5, 0.731059, 0.999665],
    "hardsigmoid": [0, 0.333333, 0.5, 0.666667, 1],
    "tanh": [-0.999329, -0.761594, 0, 0.761594, 1],
    "softplus": [0.018150, 0.313262, 0.693147, 1.313262, 8.000335],
    "softmax": [0.000006, 0.000123, 0.000335, 0.000911, 0.998625],
    "log_softmax": [-12.001376, -9.001376, -8.001376, -7.001376, -0.001376],
    "gelu": [-0.000127, -0.158655, 0, 0.841345, 8],
    "silu": [-0.071945, -0.268941, 0, 0.731059, 7.997317],
    "mish": [-0.072592, -0.303401, 0, 0.865098, 7.999998],
    "hardswish": [0, -0.333333, 0, 0.666667, 8],
}


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_activation_values(name: str) -> None:
    y = convc.compile(nn.Activation(name), shapes={"x": (1, 5)})(np.array([[-4, -1, 0, 1, 8]], np.float32))
    np.testing.assert_allclose(y, [ACTIVATIONS[name]], rtol=1e-4, atol=2e-6)


class Net(nn.Module):
    """A module that holds modules and computes with tensors in every supported way."""

    def __init__(self) -> None:
        self.stem = nn.Conv2D(4, kernel_size=3, padding="same")
        self.blocks = [nn.Conv2D(4, kernel_size=1) for _ in range(2)]
        self.heads = {"a": nn.Dense(2), "b": nn.Dense(3)}

    def forward(self, x: nn.Tensor, mask: nn.Tensor) -> dict[str, nn.Tensor]:
        y = nn.relu(self.stem(x)) * mask + x
        for block in self.blocks:
            y = block(y) * 0.5 - y / 2 + 1
        y = nn.flatten(2 - y) ** 2
        return {"a": self.heads["a"](y), "b": -self.heads["b"](np.float32(1) / (y + 1))}


def test_own_module() -> None:
    shapes = {"x": (1, 4, 5, 5), "mask": (1, 1, 5, 5)}
    assert [y.shape for y in check(Net(), shapes)] == [(1, 2), (1, 3)]
    assert list(Net().parameters(shapes)) == [
        *("stem.weight", "stem.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"),
        *("heads.a.weight", "heads.a.bias", "heads.b.weight", "heads.b.bias"),
    ]
    graph = Net().to_graph({"mask": (1, 1, 5, 5), "x": (1, 4, 5, 5)})
    assert [v.name for v in graph.inputs] == ["x", "mask"], "the order is that of forward"
    assert graph.output_names == ("a", "b")


def test_a_shared_module_shares_its_parameters() -> None:
    layer = nn.Dense(4)
    net, shapes = nn.Sequential(layer, nn.relu, layer), {"x": (2, 4)}
    assert list(net.parameters(shapes)) == ["0.weight", "0.bias"]
    check(net, shapes)
    net.set_weights({f"{i}.{name}": np.ones(s) for i in (0, 2) for name, s in (("weight", (4, 4)), ("bias", 4))})
    y = convc.compile(net, shapes=shapes)(np.ones((2, 4), np.float32))
    assert y.tolist() == [[21] * 4] * 2


@pytest.mark.parametrize("dtype", ["f16", "f64"])
def test_other_dtypes(dtype: str) -> None:
    net = nn.Sequential(nn.Conv2D(3, 3, activation="relu"), nn.Flatten(), nn.Dense(4))
    graph = net.to_graph({"x": (1, 2, 5, 5)}, dtype=dtype)
    assert {c.type.dtype for c in graph.constants.values()} == {dtype}
    x = np.ones((1, 2, 5, 5), graph.inputs[0].type.numpy_dtype)
    exact = convc.compile(net, shapes={"x": x.shape})(x.astype(np.float32))
    got = convc.compile(graph)(x)
    assert got.dtype == x.dtype
    np.testing.assert_allclose(got.astype(np.float32), exact, rtol=0.05, atol=0.05)


# -- laziness ----------------------------------------------------------------------------------------------------------


def test_importing_nn_loads_no_tvm() -> None:
    code = "import sys, convc; convc.nn.Dense(3).to_graph({'x': (1, 2)}); sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_allocated_before_values_are_asked_for() -> None:
    """Two layers of 40 GB are built, and their values never allocated."""
    net = nn.Sequential(nn.Dense(100_000), nn.Dense(100_000))
    tracemalloc.start()
    graph = net.to_graph({"x": (1, 100_000)})
    total = sum(t.nbytes for t in net.parameters({"x": (1, 100_000)}).values())
    text = print_graph(graph)
    assert parse_graph(text) == graph
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 4 * (2 * 100_000**2 + 2 * 100_000)
    assert peak < 1_000_000


def test_initial_values_follow_from_the_names() -> None:
    shapes = {"x": (1, 30)}
    one = nn.Sequential(nn.Dense(20), nn.Dense(20)).get_weights(shapes)
    two = nn.Sequential(nn.Dense(20), nn.Dense(20)).get_weights(shapes)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["0.weight"][:, :20], one["1.weight"])
    bound = (6 / (30 + 20)) ** 0.5
    assert 0.9 * bound < np.abs(one["0.weight"]).max() <= bound, "Glorot's bound"
    assert not one["0.bias"].any()


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
def test_weights_round_trip(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"weights{suffix}"
    net, again = small(), small()
    randomize(net, SHAPES)
    net.save(path, SHAPES, dtype)
    again.load(path)
    want, got = net.get_weights(SHAPES, dtype), again.get_weights(SHAPES, dtype)
    assert list(want) == list(got)
    for name in want:
        assert_close(got[name], want[name], name)
        np.testing.assert_array_equal(got[name].view(np.uint8), want[name].view(np.uint8))
    assert small().get_weights(SHAPES)["0.bias"].tolist() == [0, 0, 0]


def test_names_and_layouts_are_those_of_a_torch_state_dict() -> None:
    assert {name: t.shape for name, t in small().parameters(SHAPES).items()} == {
        "0.weight": (3, 2, 3, 3),
        "0.bias": (3,),
        "1.weight": (3,),
        "1.bias": (3,),
        "1.running_mean": (3,),
        "1.running_var": (3,),
        "3.weight": (4, 27),
        "3.bias": (4,),
    }
    weights = small().get_weights(SHAPES)
    net = small()
    net.set_weights({**weights, "1.num_batches_tracked": np.array(7)})
    check(net, SHAPES)


def test_given_weights_are_copied() -> None:
    net, bias = nn.Dense(2), np.zeros(2, np.float32)
    net.set_weights({"weight": np.ones((2, 3)), "bias": bias})
    net.get_weights({"x": (1, 3)})
    bias[:] = 1
    assert net.get_weights({"x": (1, 3)})["bias"].tolist() == [0, 0]


def test_some_weights_can_be_left_initial() -> None:
    net = small()
    net.set_weights({"3.bias": [1, 2, 3, 4]}, strict=False)
    assert net.get_weights(SHAPES)["3.bias"].tolist() == [1, 2, 3, 4]


def test_safetensors_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(convc.ConvcError, match=r"pip install safetensors"):
        nn.Dense(2).load(tmp_path / "w.safetensors")
    with pytest.raises(convc.ConvcError, match=r"pip install safetensors"):
        nn.Dense(2).save(tmp_path / "w.safetensors", {"x": (1, 2)})


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    small().save(path, SHAPES)
    whole = path.read_bytes()
    for damaged in (b"", b"no such file", whole[:40], whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(convc.ModelFileError, match="damaged"):
            small().load(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    objects: dict[str, object] = {"0.bias": np.array([{}], object)}
    np.savez(tmp_path / "w.npz", allow_pickle=True, **objects)  # type: ignore[arg-type]
    with pytest.raises(convc.ModelFileError, match="allow_pickle"):
        small().load(tmp_path / "w.npz")
