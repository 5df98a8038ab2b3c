"""The command line in tests: a folder of small models, and commands run in this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from convc.cli import main

from .models import model

Capture = pytest.CaptureFixture[str]


def save(path: Path, nodes: Sequence[onnx.NodeProto], inputs: dict[str, Sequence[Any]], **weights: Any) -> Path:
    """Write a model of float32 inputs that returns ``y``."""
    constants = {name: np.asarray(w, np.float32) for name, w in weights.items()}
    outputs = [o for o in ("y", "z") if any(o in n.output for n in nodes)]
    onnx.save(model(nodes, inputs, " ".join(outputs), constants, opset=22, ir_version=10), path)
    return path


def write_samples(folder: Path) -> None:
    """Write small models and inputs for them into a folder."""
    w = np.arange(2 * 3).reshape(2, 3, 1, 1)
    save(folder / "conv.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [1, 3, 4, 4]}, w=w)
    save(folder / "open.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3]})
    save(folder / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]})
    save(folder / "grey.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 1, 2, 2]})
    save(folder / "two.onnx", [helper.make_node("Add", ["a", "b"], ["y"])], {"a": [2], "b": [2]})
    both = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Add", ["x", "x"], ["z"])]
    save(folder / "both.onnx", both, {"x": [1, 3]})
    np.save(folder / "x.npy", np.array([[-1, 2, 3]], np.float32))
    np.save(folder / "a.npy", np.array([1, 2], np.float32))
    np.save(folder / "wide.npy", np.zeros((1, 4), np.float32))
    np.save(folder / "double.npy", np.zeros((1, 3)))


def run(*args: str) -> int:
    """Run a command and return its exit code, including that of wrong usage."""
    try:
        return main(args)
    except SystemExit as e:
        return int(e.code or 0)


def spawn(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "convc", *args], stderr=subprocess.PIPE, **options)
