"""torchvision's convolutional families as ONNX files with seeded random weights: `python tests/model_zoo.py OUTDIR
[NAME...]`.

Needs torch, torchvision and onnx (TorchScript exporter) and no network. The weights are random, but the values inside
the networks are like those of trained ones: BatchNorm statistics come from a batch (see `calibrate`), scales and shifts
are drawn around 1 and 0, and the last layer is scaled so that the logits have deviation 1. The default sizes are those
the networks were published with; `--size 96` makes cheaper files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn

OPSET = 17
SIZES = {
    "alexnet": 224,
    "convnext_tiny": 224,
    "densenet121": 224,
    "efficientnet_b0": 224,
    "googlenet": 224,
    "inception_v3": 299,
    "mnasnet1_0": 224,
    "mobilenet_v2": 224,
    "mobilenet_v3_large": 224,
    "regnet_y_400mf": 224,
    "resnet18": 224,
    "resnet50": 224,
    "shufflenet_v2_x1_0": 224,
    "squeezenet1_1": 224,
    "vgg16": 224,
}
"""The height and width of each network's input, a float32 [1, 3, size, size]."""
WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True}
ARGUMENTS = {"googlenet": WITHOUT_AUXILIARY, "inception_v3": WITHOUT_AUXILIARY}


def build(name: str, size: int) -> nn.Module:
    """Build the network in eval mode with seeded weights, which are drawn as the module's docstring describes."""
    torch.manual_seed(sum(name.encode()))
    net = torchvision.models.get_model(name, weights=None, **ARGUMENTS.get(name, {})).eval()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.1)
        for key, parameter in net.named_parameters():
            if "layer_scale" in key:  # ConvNeXt's initial 1e-6 would hide what its blocks compute
                parameter.uniform_(0.1, 1.0)
        images = torch.randn(4, 3, size, size)
        net(images)
        for hook in hooks:
            hook.remove()
        last = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
        spread = net(images).std()
        last.weight /= spread
        if last.bias is not None:
            last.bias /= spread
    return net


def calibrate(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Give a BatchNorm the statistics of its first batch: the mean square as its variance, and a mean near 0.

    Subtracting the true mean in every layer would make random networks magnify rounding errors from layer to layer,
    which trained ones do not (Yang et al., "A Mean Field Theory of Batch Normalization", 2019): sixfold in
    inception_v3.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    power = inputs[0].square().mean((0, 2, 3))
    norm.running_var.copy_(power)
    norm.running_mean.copy_(0.1 * power.sqrt() * torch.randn_like(power))


def export(name: str, path: Path, size: int | None = None) -> None:
    """Write one network as an ONNX file.

    Its input is "x", float32 [1, 3, size, size], and its output "logits", float32 [1, 1000]. An .npz file beside it has
    an input and the logits of the same network in float64, to measure errors against.
    """
    size = size or SIZES[name]
    net = build(name, size)
    sample = torch.randn(1, 3, size, size)
    names = {"input_names": ["x"], "output_names": ["logits"]}
    torch.onnx.export(net, (sample,), str(path), opset_version=OPSET, dynamo=False, **names)
    with torch.no_grad():
        exact = net.double()(sample.double())
    np.savez(path.with_suffix(".npz"), x=sample.numpy(), logits=exact.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(SIZES)}")
    parser.add_argument("--size", type=int, help="height and width of the input (default: the published one)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SIZES:
        path = arguments.folder / f"{name}.onnx"
        export(name, path, arguments.size)
        print(path, flush=True)


if __name__ == "__main__":
    main()
