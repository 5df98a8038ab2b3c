"""Ops that convc compiles by the function body of their ONNX schema, compared with ONNX Runtime or onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compare
from support.models import one_node
from support.oracles import run_onnxruntime, run_reference
from support.tolerances import assert_close

import convc
from convc.ir.errors import ModelFileError

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.uniform(-2, 2, shape).astype(np.float32)


def check(
    op: str,
    inputs: list[Any],
    outputs: int = 1,
    constants: int = 0,
    opset: int = 20,
    oracle: str = "onnxruntime",
    **attrs: Any,
) -> None:
    """Compile one node and compare it with the oracle. Its last ``constants`` inputs are initializers."""
    made, feeds = one_node(op, inputs, free=len(inputs) - constants, outputs=outputs, opset=opset, **attrs)
    compare.check(made, feeds, run_onnxruntime if oracle == "onnxruntime" else run_reference, f"{op} {attrs}")


LABELS = np.array([0, 4, 2, 4])
IMAGE_LABELS = rng.integers(0, 5, (2, 3, 4))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("op", ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
def test_losses(op: str, reduction: str) -> None:
    weights = np.abs(floats(5)) + np.float32(0.1)
    for shape, labels in (((4, 5), LABELS), ((2, 5, 3, 4), IMAGE_LABELS)):
        check(op, [floats(*shape), labels], reduction=reduction)
        check(op, [floats(*shape), labels, weights], reduction=reduction)
        check(op, [floats(*shape), labels, weights], reduction=reduction, ignore_index=4)
        check(op, [floats(*shape), labels], reduction=reduction, ignore_index=2)


def test_losses_ignore_a_label_that_is_no_class() -> None:
    check("SoftmaxCrossEntropyLoss", [floats(4, 5), np.array([0, -1, 2, -1])], ignore_index=-1)


def test_loss_with_log_probabilities() -> None:
    check("SoftmaxCrossEntropyLoss", [floats(4, 5), LABELS], outputs=2)


def test_mean_variance_normalization() -> None:
    check("MeanVarianceNormalization", [floats(2, 3, 4, 5)])
    check("MeanVarianceNormalization", [floats(2, 3, 4, 5)], axes=[1, 2, 3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("mean", [0, 100, 500])
def test_mean_variance_normalization_far_from_zero(dtype: type, mean: float) -> None:
    """The difference of squares of ONNX's function body would lose every digit."""
    x = (floats(2, 3, 8, 9) + np.float32(mean)).astype(dtype)
    made, _ = one_node("MeanVarianceNormalization", [x])
    wide = x.astype(np.float64)
    want = (wide - wide.mean((0, 2, 3), keepdims=True)) / wide.std((0, 2, 3), keepdims=True)
    assert_close(np.asarray(convc.compile(made, threads=1)(x)), want.astype(dtype))


HEADS = {"q_num_heads": 4, "kv_num_heads": 2}


@pytest.mark.parametrize(
    "attrs",
    [{}, HEADS, {"q_num_heads": 4}, {"is_causal": 1, **HEADS}, {"softcap": 2.0, "scale": 0.1, **HEADS}],
    ids=str,
)
def test_attention_of_rank_4(attrs: dict[str, Any]) -> None:
    """Numbers of heads that a node names besides operands of rank 4 change nothing."""
    operands = [floats(2, 4, 3, 8), floats(2, 2, 5, 8), floats(2, 2, 5, 6)]
    past = [floats(2, 2, 4, 8), floats(2, 2, 4, 6)]
    check("Attention", operands, opset=23, **attrs)
    check("Attention", [*operands, None, *past], outputs=3, opset=23, **attrs)
    check("Attention", [*operands, floats(2, 1, 3, 5)], opset=23, **attrs)


def test_attention_whose_numbers_of_heads_are_wrong() -> None:
    made, _ = one_node("Attention", [floats(2, 4, 3, 8)] * 3, opset=23, q_num_heads=2)
    with pytest.raises(ModelFileError, match="'q_num_heads' is 2, but 'x0' has 4 heads"):
        convc.load_onnx(made)


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_celu(alpha: float) -> None:
    check("Celu", [floats(2, 7)], alpha=alpha)


@pytest.mark.parametrize(
    ("shape", "axes"), [([10, 7, 3], None), ([4, 9], [0, 1]), ([5, 5], [-1, 0]), ([20, 8, 3], [0, 1, 2])]
)
def test_center_crop_pad(shape: list[int], axes: list[int] | None) -> None:
    sizes = np.array(shape)
    check("CenterCropPad", [floats(20, 8, 3), sizes], constants=1, oracle="reference", axes=axes)


@pytest.mark.parametrize("size", [(4, 5), (1, 3), (3, 1), (1, 1), (2, 3, 4), (1, 2, 2), (2, 1, 3), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("align_corners", [0, 1])
def test_affine_grid(align_corners: int, size: tuple[int, ...]) -> None:
    """Grids of batches of one and more, and of sizes of one, where ONNX Runtime places a lone element elsewhere.

    Onnx's reference divides by zero there, and places it right.
    """
    rank = len(size)
    for batch in (1, 2):
        inputs = [floats(batch, rank, rank + 1), np.array([batch, 3, *size])]
        with np.errstate(divide="ignore"):
            check("AffineGrid", inputs, constants=1, oracle="reference", align_corners=align_corners)
        if 1 not in size or not align_corners:
            check("AffineGrid", inputs, constants=1, align_corners=align_corners)


def test_an_affine_grid_too_large_is_refused_before_it_is_made() -> None:
    made, _ = one_node("AffineGrid", [floats(1, 2, 3), np.array([1, 1, 10**9, 10**9])], free=1)
    with pytest.raises(convc.LimitError, match="its grid of"):
        convc.compile(made)


def test_affine_grid_in_float16() -> None:
    """The grid of float16 maps is that of their values in float32, rounded; onnx's reference does not round it."""
    theta, size = floats(1, 2, 3).astype(np.float16), np.array([1, 1, 4, 5])
    made, _ = one_node("AffineGrid", [theta, size], free=1)
    want = run_reference(*one_node("AffineGrid", [theta.astype(np.float32), size], free=1))[0]
    assert_close(np.asarray(convc.compile(made, threads=1)(theta)), want.astype(np.float16))


def test_small_activations() -> None:
    check("ThresholdedRelu", [floats(3, 4)], alpha=0.5)
    check("Shrink", [floats(3, 4)], lambd=0.5, bias=0.25)
    check("HardSwish", [floats(3, 4)])
    check("Softsign", [floats(3, 4)])
    check("Mish", [floats(3, 4)])
    check("Clip", [floats(3, 4), np.float32(-0.5), np.float32(1.0)], constants=2)
    check("PRelu", [floats(2, 3, 4), floats(3, 1)], constants=1)
    check("LogSoftmax", [floats(3, 4)])
