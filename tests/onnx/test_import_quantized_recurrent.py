"""Import of quantized operands, recurrent layers and transforms, compared with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from support import compare, models
from support.malformed import raises
from support.models import node, one_node
from support.oracles import run_onnxruntime, run_reference

import convc
from convc import ModelFileError, UnsupportedOpError

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def bytes_of(dtype: Any, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def model(op: str, inputs: list[np.ndarray | None], outputs: int, opset: int, free: int, **attrs: Any) -> Any:
    """A model of one node, and its feeds.

    The first ``free`` inputs of the node are the model's, and the others are constants.
    """
    return one_node(op, inputs, free=free, outputs=outputs, opset=opset, **attrs)


def check(op: str, inputs: list[Any], outputs: int = 1, opset: int = 17, free: int = 1, **attrs: Any) -> None:
    oracle = attrs.pop("oracle", run_onnxruntime)
    made, feeds = model(op, inputs, outputs, opset, free, **attrs)
    compare.check(made, feeds, oracle, f"{op} {attrs}")


# -- quantized --------------------------------------------------------------------------------------------------------

SCALE, ZERO = np.float32(0.02), np.uint8(117)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("weights", [np.uint8, np.int8])
def test_qlinear_conv(weights: Any, each: bool) -> None:
    """A weight has one scale for all output channels, or one for each.

    In ONNX Runtime a signed weight then has no zero point.
    """
    w_scale = rng.uniform(0.001, 0.02, 6).astype(np.float32) if each else np.float32(0.004)
    w_zero = np.zeros(6, weights) if each else weights(3)
    data = [bytes_of(np.uint8, 2, 4, 9, 8), SCALE, ZERO, bytes_of(weights, 6, 2, 3, 3), w_scale, w_zero]
    bias = rng.integers(-999, 999, 6).astype(np.int32)
    for rest in ([np.float32(0.9), np.uint8(100)], [np.float32(0.9), np.uint8(100), bias]):
        check("QLinearConv", [*data, *rest], group=2, pads=[1, 0, 1, 2], strides=[2, 1])


def test_qlinear_matmul() -> None:
    a, b = bytes_of(np.uint8, 3, 5, 7), bytes_of(np.int8, 7, 4)
    check("QLinearMatMul", [a, SCALE, ZERO, b, np.float32(0.01), np.int8(-4), np.float32(0.3), np.uint8(9)])
    columns = [rng.uniform(0.01, 0.02, 4).astype(np.float32), np.array([1, 0, -4, 90], np.int8)]
    check("QLinearMatMul", [a, SCALE, ZERO, b, *columns, np.float32(0.3), np.uint8(9)])


def test_matmul_integer() -> None:
    a, b = bytes_of(np.uint8, 2, 5, 7), bytes_of(np.int8, 7, 4)
    check("MatMulInteger", [a, b])
    check("MatMulInteger", [a, b, np.uint8(9), np.int8(-3)])
    check("MatMulInteger", [a, b, np.uint8(9), np.array([1, 2, -3, 4], np.int8)])


@pytest.mark.parametrize("shapes", [((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4))], ids=str)
@pytest.mark.parametrize("form", [(), (1,)], ids=str)
def test_one_zero_point_in_any_form(shapes: tuple[tuple[int, ...], ...], form: tuple[int, ...]) -> None:
    """A single zero point or scale is a number or a vector of one, for vectors too; the result has no axis for it."""
    a, b = (bytes_of(np.uint8, *shape) for shape in shapes)
    zero = np.full(form, 9, np.uint8)
    for other in (np.uint8(3), np.full(form, 3, np.uint8)):
        check("MatMulInteger", [a, b, zero, other])
        scale = np.full(form, 0.02, np.float32)
        check("QLinearMatMul", [a, scale, zero, b, scale, other, scale * 10, zero])


def test_zero_points_of_rows_and_columns_with_all_their_axes() -> None:
    a, b = bytes_of(np.uint8, 5, 2, 3), bytes_of(np.uint8, 5, 3, 4)
    rows, columns = bytes_of(np.uint8, 5, 2, 1), bytes_of(np.uint8, 5, 1, 4)
    made, feeds = one_node("MatMulInteger", [a, b, rows, columns])
    compare.check(made, feeds, run_reference)
    scales = [rng.uniform(0.01, 0.02, x.shape).astype(np.float32) for x in (rows, columns)]
    operands = [a, scales[0], rows, b, scales[1], columns, np.float32(0.3), np.uint8(9)]
    compare.check(*one_node("QLinearMatMul", operands), run_reference)


def test_zero_points_of_the_rows_of_a_vector_are_refused() -> None:
    made, _ = one_node("MatMulInteger", [bytes_of(np.uint8, 3), bytes_of(np.uint8, 3, 4), bytes_of(np.uint8, 3)])
    with raises(ModelFileError, "MatMulInteger node 'n1'", "[3] does not fit an operand of rank 1"):
        convc.compile(made)


def test_conv_integer_with_weights_at_run_time() -> None:
    check("ConvInteger", [bytes_of(np.uint8, 1, 2, 6, 6), bytes_of(np.uint8, 3, 2, 3, 3), ZERO], free=2, opset=10)


# -- recurrent --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers(op: str, gates: int, direction: str) -> None:
    d, steps, batch, size, hidden = 1 + (direction == "bidirectional"), 6, 3, 5, 8
    x, w, r = floats(steps, batch, size), floats(d, gates * hidden, size), floats(d, gates * hidden, hidden)
    b, h, c = floats(d, 2 * gates * hidden), floats(d, batch, hidden), floats(d, batch, hidden)
    lengths, peepholes = np.array([6, 2, 4], np.int32), floats(d, 3 * hidden)
    outputs = 3 if op == "LSTM" else 2
    states, last = ([h, c], [peepholes]) if op == "LSTM" else ([h], [])
    for inputs in ([x, w, r], [x, w, r, b], [x, w, r, b, lengths, *states, *last]):
        check(op, inputs, outputs, opset=14, direction=direction, hidden_size=hidden)
    if op == "GRU":
        check(op, [x, w, r, b, None, h], 2, opset=14, direction=direction, hidden_size=hidden, linear_before_reset=1)


def test_recurrent_layers_take_everything_at_run_time() -> None:
    x, w, r, b = floats(4, 2, 3), floats(1, 20, 3), floats(1, 20, 5), floats(1, 40)
    check("LSTM", [x, w, r, b, np.array([1, 4], np.int32), floats(1, 2, 5), floats(1, 2, 5)], 3, free=7, hidden_size=5)


def test_unknown_activations_are_refused() -> None:
    made, _ = model(
        "RNN", [floats(4, 2, 3), floats(1, 5, 3), floats(1, 5, 5)], 1, 17, 1, hidden_size=5, activations=["Sine"]
    )
    with raises(UnsupportedOpError, "RNN node 'n1'", "'Sine'", "Softsign"):
        convc.load_onnx(made)


# -- transforms, and the rest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 8, 13])
@pytest.mark.parametrize(("inverse", "onesided", "parts"), [(0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 2)])
def test_dft(inverse: int, onesided: int, parts: int, length: int | None) -> None:
    """The signal is cropped to the shorter lengths and padded to the longer ones."""
    x = floats(2, 10, 3, parts)
    given = [x] if length is None else [x, np.array(length)]
    check("DFT", given, inverse=inverse, onesided=onesided, axis=1, oracle=run_reference if length else run_onnxruntime)


@pytest.mark.parametrize("size", [5, 6])
def test_real_inverse_dft(size: int) -> None:
    """The inverse transform of one-sided data gives real results of even and odd length. ONNX Runtime lacks it."""
    spectrum = np.fft.rfft(floats(2, size), axis=1)
    x = np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)
    check("DFT", [x, np.array(size)], inverse=1, onesided=1, axis=1, oracle=run_reference)


@pytest.mark.parametrize(
    ("length", "points", "inverse", "onesided", "parts", "opset"),
    [
        (360, 360, 0, 0, 2, 20), (4096, 4096, 0, 1, 1, 17), (6000, 3001, 1, 1, 2, 20),
        (3000, 5000, 0, 0, 2, 20),  # split
        (2053, 2053, 0, 1, 1, 20), (4099, 2050, 1, 1, 2, 17), (4106, 100, 1, 0, 2, 20), (2053, 5000, 0, 0, 2, 20),
        # prime factors that are too large for a matrix
    ],
)  # fmt: skip
def test_long_dft(length: int, points: int, inverse: int, onesided: int, parts: int, opset: int) -> None:
    """Against numpy's transforms in float64: the error is that of a few roundings."""
    x = floats(2, points, parts)
    attrs = {"inverse": inverse, "onesided": onesided, **({"axis": 1} if opset < 20 else {})}
    inputs = [x, np.array(length)] + ([np.array(1)] if opset >= 20 else [])
    made, feeds = model("DFT", inputs, 1, opset, 1, **attrs)
    got = convc.compile(made, threads=1)(*feeds.values())
    z = x.astype(np.float64) @ [1, 1j][:parts]
    if inverse and onesided:
        want = np.fft.irfft(z, length, axis=1)[..., None]
    else:
        want = (np.fft.ifft if inverse else np.fft.fft)(z, length, axis=1)
        want = np.stack([want.real, want.imag], -1)[:, : length // 2 + 1 if onesided else length]
    assert got.shape == want.shape
    assert abs(got - want).max() < 2e-6 * abs(want).max()


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(onesided: int) -> None:
    step, window = np.array(7), np.hanning(12).astype(np.float32)
    for signal in (floats(2, 40, 1), floats(2, 40)):  # of rank 2 as PyTorch's exporter writes it
        oracle = run_onnxruntime if signal.ndim == 3 else stft
        check("STFT", [signal, step, window], onesided=onesided, oracle=oracle)
        check("STFT", [signal, step, None, np.array(12)], onesided=onesided, oracle=oracle)
    check("STFT", [floats(2, 40, 2), step, window], onesided=0)


def stft(made: Any, feeds: Any) -> list[np.ndarray]:
    """The transforms of the windows of a signal ``[batch, length]``, which ONNX Runtime and the reference refuse."""
    (node,), weights = made.graph.node, {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    x, step, window, length = (weights.get(name, feeds.get(name)) for name in (*node.input, "")[:4])
    length = len(window) if length is None else int(length)
    frames = np.stack([x[:, i : i + length] for i in range(0, x.shape[1] - length + 1, int(step))], 1)
    z = (np.fft.rfft if node.attribute[0].i else np.fft.fft)(frames * (1.0 if window is None else window))
    return [np.stack([z.real, z.imag], -1).astype(np.float32)]


def test_stft_of_long_windows() -> None:
    window = np.hanning(2100).astype(np.float32)
    check("STFT", [floats(2, 5000), np.array(900), window], oracle=stft, onesided=1)


def test_stft_of_a_short_signal_is_refused() -> None:
    made, _ = model("STFT", [floats(2, 10), np.array(3), None, np.array(12)], 1, 17, 1)
    with raises(ModelFileError, "STFT node", "windows of 12 points do not fit in a signal of 10"):
        convc.load_onnx(made)


def test_max_unpool() -> None:
    indices = np.array([[[[5, 7], [13, 15]]]])
    check("MaxUnpool", [floats(1, 1, 2, 2), indices], kernel_shape=[2, 2], strides=[2, 2], free=2)


def test_batch_norm_of_the_batch() -> None:
    vectors = [floats(3), floats(3), floats(3), np.abs(floats(3))]
    check("BatchNormalization", [floats(4, 3, 5, 2), *vectors], 3, training_mode=1, momentum=0.8, oracle=run_reference)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_sequence_of_no_steps(op: str, gates: int, layout: int, direction: str) -> None:
    """The states stay as they were. ONNX Runtime gives zeros or ends the process."""
    ways, states = 1 + (direction == "bidirectional"), "hc" if op == "LSTM" else "h"
    shape = [2, ways, 5] if layout else [ways, 2, 5]
    data = {"x": [2, 0, 3] if layout else [0, 2, 3], **dict.fromkeys(states, shape)}
    weights = {name: np.ones((ways, gates * 5, n), np.float32) for name, n in (("w", 3), ("r", 5))}
    results = ["y", *(f"y_{s}" for s in states)]
    attrs = {"hidden_size": 5, "layout": layout, "direction": direction}
    made = models.model(
        [node(op, ["x", "w", "r", "", "", *states], results, **attrs)], data, " ".join(results), weights
    )
    feeds = {name: rng.standard_normal(size).astype(np.float32) for name, size in data.items()}
    got = convc.compile(made, threads=1).run(feeds)
    assert got["y"].shape == ((2, 0, ways, 5) if layout else (0, ways, 2, 5))
    for s in states:
        np.testing.assert_array_equal(got[f"y_{s}"], feeds[s])
