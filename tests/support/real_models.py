"""Published networks: those of torchvision, of the onnx package, and of PP-OCR."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

LIGHT = tuple(sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx")))
"""The networks of the onnx package, which have ``ConstantOfShape`` nodes in place of weights."""
ZOO = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet1_0",
    "mobilenet_v2",
    "mobilenet_v3_large", "regnet_y_400mf", "resnet18", "resnet50", "shufflenet_v2_x1_0", "squeezenet1_1", "vgg16",
)  # fmt: skip


def zoo_model(name: str, folder: Path) -> onnx.ModelProto:
    """One of torchvision's networks.

    It comes from the folder CONVC_ZOO, or model_zoo.py makes it in ``folder``. The test is skipped where neither is
    possible.
    """
    given = os.environ.get("CONVC_ZOO")
    path = Path(given or folder) / f"{name}.onnx"
    if not path.exists():
        if given or importlib.util.find_spec("torchvision") is None:
            pytest.skip(f"no {path.name}: give CONVC_ZOO=FOLDER with the files of model_zoo.py, or install torchvision")
        import model_zoo

        model_zoo.export(name, path)
    return onnx.load(path)


def zoo_truth(name: str, folder: Path) -> dict[str, np.ndarray]:
    """An input of the existing ``zoo_model(name, folder)``, and its logits in float64.

    The test is skipped where the file is missing.
    """
    path = Path(os.environ.get("CONVC_ZOO") or folder) / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no {path.name}: make it with model_zoo.py")
    with np.load(path) as data:
        return dict(data)


def with_random_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its ``ConstantOfShape`` nodes replaced by random initializers.

    Matrices and filters preserve the variance of their input. Scales and variances of channels are around 1, and biases
    around 0.
    """
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    readers = {name: (node, i) for node in model.graph.node for i, name in enumerate(node.input)}
    rng = np.random.default_rng(0)
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        reader, index = readers[node.output[0]]
        if reader.op_type == "Unsqueeze":
            reader, index = readers[reader.output[0]]
        if len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif reader.op_type == "Mul" or (reader.op_type == "BatchNormalization" and index in (1, 4)):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.standard_normal(shape) * 0.1
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def with_logits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model that also returns the input of its last Softmax or Sigmoid, since probabilities hide errors."""
    last = next((node for node in reversed(model.graph.node) if node.op_type in ("Softmax", "Sigmoid")), None)
    if last is not None:
        model.graph.output.append(helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    return model


def package_models(package: str, folder: str) -> Path:
    """The folder of the networks that a Python package carries. The test is skipped where it is not installed."""
    if (spec := importlib.util.find_spec(package)) is None or spec.origin is None:
        pytest.skip(f"needs pip install --no-deps {package.replace('_', '-')}")
    return Path(spec.origin).parent / folder
