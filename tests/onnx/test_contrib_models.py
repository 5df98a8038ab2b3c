"""Models that ONNX Runtime has saved after optimising or quantizing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from support.malformed import raises
from support.models import model, node
from support.oracles import LEVELS, optimised, run_onnxruntime
from support.real_models import ZOO, zoo_model
from support.small_models import MODELS, mobilenet, resnet
from support.tolerances import MODEL_ATOL, MODEL_RTOL

import convc
from convc.ir.contrib.blocked import block_of, host_block

LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"
DOMAIN = "com.microsoft.nchwc"

rng = np.random.default_rng(0)


def feeds_of(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    held = {t.name for t in proto.graph.initializer}
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input}
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items() if name not in held}


def operators(proto: onnx.ModelProto) -> set[str]:
    return {f"{n.domain}::{n.op_type}" for n in proto.graph.node}


def agree(saved: onnx.ModelProto, original: onnx.ModelProto) -> None:
    feeds = feeds_of(original)
    got = convc.compile(saved, threads=2, tuning=None).run(feeds).values()
    for y, want in zip(got, run_onnxruntime(original, feeds), strict=True):
        atol = MODEL_ATOL * max(1.0, float(want.std()))
        np.testing.assert_allclose(y, want, rtol=MODEL_RTOL, atol=atol)


@pytest.mark.parametrize("level", LEVELS)
def test_lenet(level: str) -> None:
    original = onnx.load(LENET)
    agree(optimised(original, level), original)


@pytest.mark.parametrize(
    ("build", "level"),
    [(resnet, "ORT_ENABLE_ALL"), (mobilenet, "ORT_ENABLE_EXTENDED"), (mobilenet, "ORT_ENABLE_ALL")],
)
def test_small_networks(build: Callable[[int, int], onnx.ModelProto], level: str) -> None:
    """Twelve channels are not whole blocks."""
    original = build(1, 12)
    saved = optimised(original, level)
    assert "com.microsoft::FusedConv" in operators(saved) or f"{DOMAIN}::Conv" in operators(saved)
    agree(saved, original)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS[2:])
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_all_small_networks(build: Callable[[int, int], onnx.ModelProto], level: str) -> None:
    original = build(1, 20)
    agree(optimised(original, level), original)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, level: str, tmp_path: Path) -> None:
    """torchvision's networks as ONNX Runtime saves them, against the networks as they are."""
    original = zoo_model(name, tmp_path)
    agree(optimised(original, level), original)


# -- quantized --------------------------------------------------------------------------------------------------------


class Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        pictures = np.random.default_rng(0).standard_normal((2, 1, 1, 28, 28)).astype(np.float32)
        self.left = iter([{"x": x} for x in pictures])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


QUANTIZED: dict[str, dict[str, Any]] = {
    "pairs": {"quant_format": QuantFormat.QDQ, "per_channel": True},
    "operators": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8},
    "16 bits": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt16},
    "own pairs of weights": {
        "quant_format": QuantFormat.QDQ, "extra_options": {"UseQDQContribOps": True, "AddQDQPairToWeight": True},
    },
}  # fmt: skip


@pytest.mark.parametrize("how", QUANTIZED)
def test_quantized_lenet(how: str, tmp_path: Path) -> None:
    """Each level of optimisation of the quantized model agrees with ONNX Runtime at that level."""
    path = tmp_path / "model.onnx"
    quantize_static(LENET, path, Images(), **QUANTIZED[how])
    done = set[frozenset[str]]()
    for level in LEVELS:
        saved = optimised(onnx.load(path), level)
        if frozenset(operators(saved)) not in done:
            done.add(frozenset(operators(saved)))
            agree_roughly(saved)


def test_dynamically_quantized_lenet(tmp_path: Path) -> None:
    quantize_dynamic(LENET, tmp_path / "model.onnx", weight_type=QuantType.QUInt8)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_EXTENDED"):
        agree_roughly(optimised(onnx.load(tmp_path / "model.onnx"), level))


def agree_roughly(saved: onnx.ModelProto) -> None:
    """A number that lies between two of 8 bits may be rounded either way."""
    feeds = feeds_of(saved)
    (got,), (want,) = convc.compile(saved, threads=2).run(feeds).values(), run_onnxruntime(saved, feeds)
    assert np.abs(got - want).max() <= 0.05 * want.std()


# -- blocks of channels -----------------------------------------------------------------------------------------------


def blocked(w: np.ndarray, block: int, inputs: bool) -> np.ndarray:
    """A weight ``O I H W``, filled up to whole blocks of outputs, and of inputs, in MLAS's order."""
    o, i = (-w.shape[0] % block, -w.shape[1] % block if inputs else 0)
    w = np.pad(w, ((0, o), (0, i), (0, 0), (0, 0)))
    outer, inner, height, width = w.shape
    if inputs:
        parts = w.reshape(outer // block, block, inner // block, block, height, width).transpose(0, 2, 4, 5, 3, 1)
    else:
        parts = w.reshape(outer // block, block, inner, height, width).transpose(0, 2, 3, 4, 1)
    return np.ascontiguousarray(parts).reshape(w.shape)


def in_blocks(block: int, channels: Sequence[int]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A network of a convolution, a depthwise one and a third one, plain and with channels in blocks of this size."""
    first, second = channels
    w0, w1, w2 = (
        rng.standard_normal(s).astype(np.float32) for s in ((first, 3, 3, 3), (first, 1, 3, 3), (second, first, 1, 1))
    )
    plain = [
        node("Conv", ["x", "w0", "b"], ["a"]),
        node("Conv", ["a", "w1"], ["c"], group=first),
        node("Conv", ["c", "w2"], ["y"]),
    ]
    bias = rng.standard_normal(first).astype(np.float32)
    padded = first + -first % block
    theirs = [
        node("Conv", ["x", "w0", "b"], ["a"], domain=DOMAIN),
        node("Conv", ["a", "w1"], ["c"], domain=DOMAIN, group=padded),
        node("Conv", ["c", "w2"], ["d"], domain=DOMAIN),
        node("ReorderOutput", ["d"], ["y"], domain=DOMAIN, channels=second),
    ]
    held = {
        "w0": blocked(w0, block, False), "w1": blocked(w1, block, False), "w2": blocked(w2, block, True),
        "b": np.pad(bias, (0, padded - first)),
    }  # fmt: skip
    inputs = {"x": [1, 3, 9, 8]}
    return model(plain, inputs, "y", {"w0": w0, "w1": w1, "w2": w2, "b": bias}), model(theirs, inputs, "y", held)


@pytest.mark.parametrize("channels", [(20, 12), (24, 40), (8, 16), (36, 64)])
@pytest.mark.parametrize("block", [8, 16])
def test_blocks_of_either_size(block: int, channels: tuple[int, int]) -> None:
    """The channels show the size of the blocks, on whatever processor the file was made."""
    original, saved = in_blocks(block, channels)
    if block_of(saved.graph) != block:
        assert -channels[0] % 16 == -channels[0] % 8, "the channels fit one size only"
        pytest.fail("the size of the blocks was not found")
    agree(saved, original)


def test_channels_that_fit_both_sizes() -> None:
    for block in (8, 16):
        assert block_of(in_blocks(block, (32, 64))[1].graph) == host_block()


def test_resizing_of_blocks() -> None:
    x = rng.standard_normal((1, 16, 4, 5)).astype(np.float32)
    for how in ({"mode": "nearest"}, {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}):
        nodes = [
            node("ReorderInput", ["x"], ["a"], domain=DOMAIN, channels_last=1),
            node("Upsample", ["a"], ["b"], domain=DOMAIN, scales=[1, 1, 2, 3], **how),
            node("GlobalMaxPool", ["b"], ["c"], domain=DOMAIN),
            node("ReorderOutput", ["b"], ["y"], domain=DOMAIN, channels=16, channels_last=1),
            node("ReorderOutput", ["c"], ["z"], domain=DOMAIN, channels=16),
        ]
        fed = {"x": np.moveaxis(x, 1, 3).copy()}
        y, z = convc.compile(model(nodes, fed, "y z")).run(fed).values()
        mode = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"} | how
        plain = model([node("Resize", ["x", "", "s"], ["y"], **mode)], {"x": x}, "y", {"s": np.float32([1, 1, 2, 3])})
        want = run_onnxruntime(plain, {"x": x})[0]
        np.testing.assert_allclose(y, np.moveaxis(want, 1, 3), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(z, want.max((2, 3), keepdims=True), rtol=1e-5, atol=1e-6)


def test_errors_of_blocks() -> None:
    w = rng.standard_normal((12, 3, 3, 3)).astype(np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], domain=DOMAIN, name="n1")
    with raises(convc.UnsupportedOpError, "Conv node 'n1': its weight [12, 3, 3, 3] does not consist of blocks"):
        convc.load_onnx(model([conv], {"x": [1, 3, 9, 8]}, "y", {"w": w}))
    with raises(convc.ModelFileError, "Conv node 'n1': its data [1, 4, 9, 8] does not have the 3 channels"):
        convc.load_onnx(model([conv], {"x": [1, 4, 9, 8]}, "y", {"w": w[:8]}))
    out = helper.make_node("ReorderOutput", ["x"], ["y"], domain=DOMAIN, name="n1", channels=20)
    with raises(convc.ModelFileError, "ReorderOutput node 'n1': data [1, 16, 9, 8] does not have 20 channels"):
        convc.load_onnx(model([out], {"x": [1, 16, 9, 8]}))
