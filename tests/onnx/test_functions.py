"""Ops that convc compiles by the function body of their ONNX schema, compared with ONNX Runtime or onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compare
from support.models import one_node
from support.oracles import run_onnxruntime, run_reference

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.uniform(-2, 2, shape).astype(np.float32)


def check(
    op: str,
    inputs: list[np.ndarray],
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


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_celu(alpha: float) -> None:
    check("Celu", [floats(2, 7)], alpha=alpha)


@pytest.mark.parametrize(
    ("shape", "axes"), [([10, 7, 3], None), ([4, 9], [0, 1]), ([5, 5], [-1, 0]), ([20, 8, 3], [0, 1, 2])]
)
def test_center_crop_pad(shape: list[int], axes: list[int] | None) -> None:
    sizes = np.array(shape)
    check("CenterCropPad", [floats(20, 8, 3), sizes], constants=1, oracle="reference", axes=axes)


@pytest.mark.parametrize("align_corners", [0, 1])
def test_affine_grid(align_corners: int) -> None:
    check("AffineGrid", [floats(2, 2, 3), np.array([2, 3, 4, 5])], constants=1, align_corners=align_corners)
    check("AffineGrid", [floats(1, 3, 4), np.array([1, 3, 2, 4, 5])], constants=1, align_corners=align_corners)


def test_small_activations() -> None:
    check("ThresholdedRelu", [floats(3, 4)], alpha=0.5)
    check("Shrink", [floats(3, 4)], lambd=0.5, bias=0.25)
    check("HardSwish", [floats(3, 4)])
    check("Softsign", [floats(3, 4)])
    check("Mish", [floats(3, 4)])
    check("Clip", [floats(3, 4), np.float32(-0.5), np.float32(1.0)], constants=2)
    check("PRelu", [floats(2, 3, 4), floats(3, 1)], constants=1)
    check("LogSoftmax", [floats(3, 4)])
