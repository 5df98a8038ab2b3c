"""The systems of a lecture on convolutional networks, with the lecture's own numbers.

The lecture is chapter 7 of Dive into Deep Learning.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from support.oracles import run_onnxruntime
from support.tolerances import MODEL_ATOL, MODEL_RTOL

import convc
from convc import nn

X3 = np.arange(9).reshape(3, 3)
K2 = np.arange(4).reshape(2, 2)


def run(net: nn.Module, image: object) -> list[object]:
    """Run the network on one image of one channel, and return its only output without batch and channel axes."""
    x = np.asarray(image, np.float32)[None, None]
    y: np.ndarray = convc.compile(net, shapes={"x": x.shape})(x)
    assert y.shape[:2] == (1, 1)
    return y[0, 0].tolist()  # type: ignore[no-any-return]


def kernel(weight: object, **options: object) -> nn.Module:
    """A convolution of one channel with this kernel and no bias."""
    w = np.asarray(weight, np.float32)
    layer = {1: nn.Conv1D, 2: nn.Conv2D, 3: nn.Conv3D}[w.ndim](1, w.shape, use_bias=False, **options)  # type: ignore[arg-type]
    layer.set_weights({"weight": w[None, None]})
    return layer


def out_shape(net: nn.Module, *shape: int) -> tuple[object, ...]:
    """The output shape for an input shape. Nothing is compiled."""
    return net.to_graph({"x": shape}).outputs[0].type.shape


# -- cross-correlation -------------------------------------------------------------------------------------------------


def test_two_dimensional_cross_correlation() -> None:
    assert run(kernel(K2), X3) == [[19, 25], [37, 43]]


def test_edge_detection() -> None:
    """A kernel finds the edges of an image: white is 1, black is 0, and columns 2 to 5 are black."""
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    edges = kernel([[1, -1]])
    assert run(edges, image) == [[0, 1, 0, 0, 0, -1, 0]] * 6
    assert run(edges, image.T) == [[0] * 5] * 8, "it sees vertical edges alone"


def test_convolution_is_cross_correlation_with_the_kernel_flipped() -> None:
    """Convolution is cross-correlation with the kernel flipped.

    y[i, j] = sum over a, b of w[a, b] x[i + 1 - a, j + 1 - b]; y[0, 0] = 0*4 + 1*3 + 2*1 + 3*0.
    """
    assert run(kernel(K2[::-1, ::-1]), X3) == [[5, 11], [23, 29]]
    symmetric = np.array([[1, 2], [2, 1]])
    assert run(kernel(symmetric), X3) == run(kernel(symmetric[::-1, ::-1]), X3) == [[12, 18], [30, 36]]


def test_one_dimensional_cross_correlation() -> None:
    assert run(kernel([1, 2]), [0, 1, 2, 3, 4, 5, 6]) == [2, 5, 8, 11, 14, 17]


def test_three_dimensional_cross_correlation() -> None:
    """The first output is 268, and each step along an axis adds 28 times its stride.

    0*0 + 1*1 + 3*2 + 4*3 + 9*4 + 10*5 + 12*6 + 13*7 = 268.
    """
    volume, cube = np.arange(27).reshape(3, 3, 3), np.arange(8).reshape(2, 2, 2)
    assert run(kernel(cube), volume) == [[[268, 296], [352, 380]], [[520, 548], [604, 632]]]


def test_bias_is_added_to_every_pixel() -> None:
    layer = nn.Conv2D(1, kernel_size=2)
    layer.set_weights({"weight": K2[None, None], "bias": [0.5]})
    assert run(layer, X3) == [[19.5, 25.5], [37.5, 43.5]]


# -- padding and strides -----------------------------------------------------------------------------------------------


def test_padding_of_one_all_round() -> None:
    assert run(kernel(K2, padding=1), X3) == [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]]


def test_strides_of_three_and_two() -> None:
    assert run(kernel(K2, padding=1, strides=(3, 2)), X3) == [[0, 8], [6, 8]]


@pytest.mark.parametrize("n", [5, 8, 32])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_output_shape_formula(n: int, k: int, stride: int) -> None:
    """The output size is floor((n - k + p + s) / s), where p counts the rows of padding above and below together."""
    for above, below in ((0, 0), (1, 1), (2, 1), (0, 3)):
        layer = nn.Conv2D(1, (k, 3), (stride, 1), padding=((above, below), (1, 1)))
        assert out_shape(layer, 1, 1, n, 9) == (1, 1, (n - k + above + below + stride) // stride, 9)


def test_a_3x3_kernel_with_padding_one_keeps_the_size() -> None:
    assert out_shape(nn.Conv2D(1, kernel_size=3, padding=1), 1, 1, 8, 8) == (1, 1, 8, 8)
    assert out_shape(nn.Conv2D(1, kernel_size=(5, 3), padding=(2, 1)), 1, 1, 8, 8) == (1, 1, 8, 8)


def test_strides_halve_the_size() -> None:
    assert out_shape(nn.Conv2D(1, kernel_size=3, padding=1, strides=2), 1, 1, 8, 8) == (1, 1, 4, 4)
    assert out_shape(nn.Conv2D(1, (3, 5), padding=(0, 1), strides=(3, 4)), 1, 1, 8, 8) == (1, 1, 2, 2)


def test_same_padding_puts_the_larger_half_first() -> None:
    """An even kernel needs k - 1 rows of padding: half of them, rounded up, above, and the rest below."""
    assert run(kernel([1, 1], padding="same"), [1, 2, 3]) == [1, 3, 5]
    assert run(kernel([1, 1, 1], padding="same"), [1, 2, 3]) == [3, 6, 5]
    assert run(kernel([1, 1, 1, 1], padding="same"), [1, 2, 3, 4]) == [3, 6, 10, 9]
    assert run(kernel(K2, padding="same"), X3) == [[0, 3, 8], [9, 19, 25], [21, 37, 43]]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8])
def test_same_padding_keeps_sizes_and_strides_divide_them(k: int) -> None:
    for n in (7, 8, 9):
        assert out_shape(nn.Conv1D(1, k, padding="same"), 1, 1, n) == (1, 1, n)
        assert out_shape(nn.Conv1D(1, k, padding="same", strides=2), 1, 1, n) == (1, 1, (n + 1) // 2)
        assert out_shape(nn.Conv1D(1, k, padding="same", dilation=3), 1, 1, n) == (1, 1, n)


def test_a_32x32_image_shrinks_to_4x4_in_seven_layers() -> None:
    assert out_shape(nn.Sequential(*[nn.Conv2D(1, kernel_size=5) for _ in range(7)]), 1, 1, 32, 32) == (1, 1, 4, 4)


def test_a_224x224_image_shrinks_to_4x4_in_55_layers() -> None:
    """A 224x224 image shrinks to 4x4 in 55 layers.

    The lecture says 44. By its own formula each layer removes 4 pixels: (224 - 4) / 4 = 55; after 44 layers, 48 pixels
    are left.
    """
    layers = [nn.Conv2D(1, kernel_size=5) for _ in range(55)]
    assert out_shape(nn.Sequential(*layers), 1, 1, 224, 224) == (1, 1, 4, 4)
    assert out_shape(nn.Sequential(*layers[:44]), 1, 1, 224, 224) == (1, 1, 48, 48)


# -- channels ----------------------------------------------------------------------------------------------------------


def test_several_input_channels() -> None:
    layer = nn.Conv2D(1, kernel_size=2, use_bias=False)
    layer.set_weights({"weight": np.stack([K2, K2 + 1])[None]})
    x = np.stack([X3, X3 + 1])[None].astype(np.float32)
    assert convc.compile(layer, shapes={"x": x.shape})(x).tolist() == [[[[56, 72], [104, 120]]]]


def test_several_output_channels() -> None:
    k = np.stack([K2, K2 + 1])
    layer = nn.Conv2D(3, kernel_size=2, use_bias=False)
    layer.set_weights({"weight": np.stack([k, k + 1, k + 2])})
    x = np.stack([X3, X3 + 1])[None].astype(np.float32)
    assert convc.compile(layer, shapes={"x": x.shape})(x).tolist() == [
        [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]
    ]


def test_a_1x1_convolution_is_a_dense_layer_on_pixels() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 4, 5), np.float32)
    w, b = rng.standard_normal((2, 3), np.float32), rng.standard_normal(2, np.float32)
    conv, dense = nn.Conv2D(2, kernel_size=1), nn.Dense(2)
    conv.set_weights({"weight": w[:, :, None, None], "bias": b})
    dense.set_weights({"weight": w, "bias": b})
    pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(20, 3)
    on_pixels = convc.compile(dense, shapes={"x": (20, 3)})(pixels)
    on_image = convc.compile(conv, shapes={"x": x.shape})(x)
    np.testing.assert_allclose(on_image, on_pixels.reshape(1, 4, 5, 2).transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


# -- pooling -----------------------------------------------------------------------------------------------------------


def test_max_pooling() -> None:
    assert run(nn.MaxPool2D(2, strides=1), X3) == [[4, 5], [7, 8]]


def test_average_pooling() -> None:
    assert run(nn.AvgPool2D(2, strides=1), X3) == [[2, 3], [5, 6]]


def test_pooling_windows_do_not_overlap_by_default() -> None:
    image = np.arange(16).reshape(4, 4)
    assert run(nn.MaxPool2D(3), image) == [[10]]
    assert run(nn.MaxPool2D(3, padding=1, strides=2), image) == [[5, 7], [13, 15]]
    assert run(nn.MaxPool2D((2, 3), padding=(1, 2), strides=(2, 3)), image) == [[0, 3], [8, 11], [12, 15]]


def test_pooling_treats_channels_apart() -> None:
    x = np.stack([np.arange(16).reshape(4, 4), np.arange(16).reshape(4, 4) + 1])[None].astype(np.float32)
    pooled = convc.compile(nn.MaxPool2D(3, padding=1, strides=2), shapes={"x": x.shape})(x)
    assert pooled.tolist() == [[[[5, 7], [13, 15]], [[6, 8], [14, 16]]]]


def test_max_pooling_bears_a_shift_of_one_pixel() -> None:
    """With max pooling, an edge is found at the same place when the image moves by a pixel.

    Without pooling it is not.
    """
    image = np.array([[1, 1, 0, 0, 0]] * 4)
    moved = np.array([[1, 1, 1, 0, 0]] * 4)
    edges = kernel([[1, -1]])
    assert run(edges, image) == [[0, 1, 0, 0]] * 4
    assert run(edges, moved) == [[0, 0, 1, 0]] * 4
    pooled = nn.Sequential(edges, nn.MaxPool2D(2, strides=1))
    assert run(pooled, image) == [[1, 1, 0]] * 3
    assert run(pooled, moved) == [[0, 1, 1]] * 3


# -- cost --------------------------------------------------------------------------------------------------------------


def test_cost_of_a_convolution() -> None:
    """The cost of a convolution of 100 to 100 channels, 5x5 kernels and 64x64 pixels.

    The lecture's 1 GFLOP counts each multiply-add once; convc counts two operations.
    """
    layer = nn.Conv2D(100, kernel_size=5, padding="same", use_bias=False)
    shapes = {"x": (1, 100, 64, 64)}
    assert layer.summary(shapes).flops == 2 * 1_024_000_000
    ten = nn.Sequential(*[nn.Conv2D(100, kernel_size=5, padding="same", use_bias=False) for _ in range(10)])
    flops = ten.summary(shapes).flops
    assert flops is not None
    million_examples = flops // 2 * 1_000_000  # multiply-adds: the lecture's 10 PF
    assert million_examples == 10_240_000_000_000_000
    assert int(million_examples / 0.15e12 / 3600) == 18, "hours on a CPU of 0.15 TF"
    assert int(million_examples / 12e12 / 60) == 14, "minutes on a GPU of 12 TF"


def test_a_dense_layer_on_a_photo_has_billions_of_parameters() -> None:
    """A dense layer on 36 million pixel values with 100 hidden units has billions of parameters.

    Their values are never allocated.
    """
    mlp = nn.Sequential(nn.Dense(100, activation="relu"), nn.Dense(1))
    tracemalloc.start()
    parameters = mlp.parameters({"x": (1, 36_000_000)})
    summary = mlp.summary({"x": (1, 36_000_000)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parameters["0.weight"].shape == (100, 36_000_000)
    assert parameters["0.weight"].numel == 3_600_000_000
    assert parameters["0.weight"].nbytes == 14_400_000_000
    assert summary.parameters == 3_600_000_000 + 100 + 100 + 1
    assert peak < 10_000_000, "bytes of Python's memory"


# -- LeNet -------------------------------------------------------------------------------------------------------------


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2D(20, kernel_size=5, activation="tanh"),
        nn.AvgPool2D(2),
        nn.Conv2D(50, kernel_size=5, activation="tanh"),
        nn.AvgPool2D(2),
        nn.Flatten(),
        nn.Dense(500, activation="tanh"),
        nn.Dense(10),
    )


def test_lenet_shapes() -> None:
    net = lenet()
    assert isinstance(net, nn.Sequential)
    assert [out_shape(nn.Sequential(*net.layers[: i + 1]), 1, 1, 28, 28) for i in range(len(net))] == [
        (1, 20, 24, 24),
        (1, 20, 12, 12),
        (1, 50, 8, 8),
        (1, 50, 4, 4),
        (1, 800),
        (1, 500),
        (1, 10),
    ]


def test_lenet_parameters() -> None:
    shapes = {"x": (1, 1, 28, 28)}
    assert {name: t.shape for name, t in lenet().parameters(shapes).items()} == {
        "0.weight": (20, 1, 5, 5),
        "0.bias": (20,),
        "2.weight": (50, 20, 5, 5),
        "2.bias": (50,),
        "5.weight": (500, 800),
        "5.bias": (500,),
        "6.weight": (10, 500),
        "6.bias": (10,),
    }
    assert lenet().summary(shapes).parameters == 520 + 25_050 + 400_500 + 5_010


def test_lenet_against_onnxruntime() -> None:
    net = lenet()
    x = np.random.default_rng(0).standard_normal((1, 1, 28, 28), np.float32)
    y = convc.compile(net, shapes={"x": x.shape})(x)
    (want,) = run_onnxruntime(convc.to_onnx(net.to_graph({"x": x.shape})), {"x": x})
    assert y.shape == (1, 10)
    np.testing.assert_allclose(y, want, MODEL_RTOL, MODEL_ATOL)
