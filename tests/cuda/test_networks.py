"""Whole networks built for a GPU and run in emulation, twice.

Memory is planned, kernels pack the weights, and every kernel is emulated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from emulator.network import run_network
from onnx import helper
from support import small_models
from support.oracles import run_onnxruntime
from support.tolerances import GPU_NETWORKS, assert_close

EXAMPLES = Path(__file__).parents[2] / "examples"


def lenet() -> onnx.ModelProto:
    return onnx.load(EXAMPLES / "lenet.onnx")


def resnet() -> onnx.ModelProto:
    """Two residual blocks. The input of the softmax is an output too, since it shows more errors than the result."""
    model = small_models.resnet(1, 24)
    softmax = next(n for n in model.graph.node if n.op_type == "Softmax")
    model.graph.output.append(helper.make_tensor_value_info(softmax.input[0], 1, None))
    return model


def mobilenet() -> onnx.ModelProto:
    """Inverted bottlenecks, one with squeeze-and-excitation, of channel counts that fill no tile."""
    return small_models.mobilenet(2, 10)


def unet() -> onnx.ModelProto:
    """One level down and up, by transposed convolution and by resizing, joined to the skip connection."""
    return small_models.unet(1, 12)


NETWORKS: tuple[Callable[[], onnx.ModelProto], ...] = (lenet, resnet, mobilenet, unet)
OTHERS = [m for m in small_models.MODELS if m.__name__ not in {n.__name__ for n in NETWORKS}]
BUILDS = [("sm_75", "fp32"), ("sm_80", "tf32"), ("sm_80", "fp16")]


def compare(model: onnx.ModelProto, gpu: str, precision: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        i.name: rng.standard_normal([d.dim_value or 2 for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in model.graph.input
    }
    got, want = run_network(model, feeds, gpu, precision), run_onnxruntime(model, feeds)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        scale = np.abs(b).max()
        assert_close(a / scale, b / scale, f"output {i} for {gpu} in {precision}", GPU_NETWORKS[precision])


@pytest.mark.parametrize(("gpu", "precision"), BUILDS, ids=[f"{g}-{p}" for g, p in BUILDS])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.__name__)
def test_network(network: Callable[[], onnx.ModelProto], gpu: str, precision: str) -> None:
    compare(network(), gpu, precision)


@pytest.mark.slow
@pytest.mark.parametrize(("gpu", "precision"), BUILDS, ids=[f"{g}-{p}" for g, p in BUILDS])
@pytest.mark.parametrize("network", OTHERS, ids=lambda n: n.__name__)
def test_other_networks(network: Callable[[int, int], onnx.ModelProto], gpu: str, precision: str) -> None:
    compare(network(1, 8), gpu, precision)
