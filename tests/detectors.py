"""torchvision's detectors as ONNX files with seeded random weights: `python tests/detectors.py OUTDIR [NAME...]`.

Needs torch, torchvision and onnx (TorchScript exporter) and no network. The last layers are scaled so that scores have
a spread like that of trained ones: boxes are found, and few scores are nearly equal. A picture is given to the
exporter, and written beside the file as .npy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import detection

OPSET = 17
SIZES = {
    "ssd300_vgg16": 300,
    "retinanet_resnet50_fpn": 160,
    "fasterrcnn_resnet50_fpn": 160,
    "maskrcnn_resnet50_fpn": 160,
    "keypointrcnn_resnet50_fpn": 160,
}
"""The height and width of each detector's picture, a float32 [3, size, size]."""
MOST = 8
"""The number of boxes that detectors with regions keep."""


def build(name: str, threshold: float | None) -> nn.Module:
    """Build a detector in eval mode, which keeps boxes of scores above a threshold."""
    torch.manual_seed(0)
    options: dict[str, object] = {"weights": None, "weights_backbone": None}
    options["num_classes"] = 2 if name.startswith("keypoint") else 6
    if "rcnn" in name:
        options |= {"box_score_thresh": 0.1 if threshold is None else threshold, "box_detections_per_img": MOST}
    else:
        options["score_thresh"] = 0.05 if threshold is None else threshold
    if not name.startswith("ssd"):
        options |= {"min_size": SIZES[name], "max_size": SIZES[name]}
    return getattr(detection, name)(**options).eval()


def spread(net: nn.Module, picture: torch.Tensor, layers: Sequence[nn.Module], deviation: float) -> None:
    """Scale the weights of layers so that their results for a picture have this standard deviation."""
    for layer in layers:
        made: list[torch.Tensor] = []
        hook = layer.register_forward_hook(lambda *found, made=made: made.append(found[-1].flatten()))
        net([picture])
        hook.remove()
        layer.weight.mul_(deviation / float(torch.cat(made).std()))


def export(name: str, path: Path, threshold: float | None = None) -> None:
    """Write a detector as an ONNX file, whose input is "x"."""
    net = build(name, threshold)
    picture = torch.rand(3, SIZES[name], SIZES[name])
    with torch.no_grad():
        if name.startswith("ssd"):
            for head, deviation in ((net.head.classification_head, 1.0), (net.head.regression_head, 0.3)):
                spread(net, picture, list(head.module_list), deviation)
        elif name.startswith("retinanet"):
            spread(net, picture, [net.head.classification_head.cls_logits], 1.2)
            spread(net, picture, [net.head.regression_head.bbox_reg], 0.3)
            net.head.classification_head.cls_logits.bias.fill_(-2.5)
        else:
            boxes = net.roi_heads.box_predictor
            spread(net, picture, [net.rpn.head.cls_logits, boxes.cls_score], 1.5)
            spread(net, picture, [net.rpn.head.bbox_pred, boxes.bbox_pred], 0.4)
        torch.onnx.export(net, ([picture],), str(path), opset_version=OPSET, dynamo=False, input_names=["x"])
    np.save(path.with_suffix(".npy"), picture.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"default: all of {', '.join(SIZES)}")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SIZES:
        export(name, arguments.folder / f"{name}.onnx")
        export(name, arguments.folder / f"{name}-none.onnx", threshold=0.9999)
        print(arguments.folder / f"{name}.onnx", flush=True)


if __name__ == "__main__":
    main()
