"""torchvision's detectors against ONNX Runtime, in slow tests.

The ONNX files are in the folder that the environment variable CONVC_DETECTORS names. Without it, `detectors.py` writes
them, where torch and torchvision are installed.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.oracles import run_onnxruntime
from support.tolerances import DETECTED, assert_close

import convc

NAMES = ("ssd300_vgg16", "retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn",
         "keypointrcnn_resnet50_fpn")  # fmt: skip


def detector(name: str, folder: Path, none: bool) -> tuple[onnx.ModelProto, np.ndarray]:
    """A detector and its picture. With ``none`` it finds no box. The test is skipped where the file cannot be had."""
    given = os.environ.get("CONVC_DETECTORS")
    path = Path(given or folder) / f"{name}{'-none' if none else ''}.onnx"
    if not path.exists():
        if given or importlib.util.find_spec("torchvision") is None:
            pytest.skip(f"no {path.name}: give CONVC_DETECTORS=FOLDER with the files of detectors.py, or torchvision")
        import detectors

        detectors.export(name, path, 0.9999 if none else None)
    return onnx.load(path), np.load(path.with_suffix(".npy"))


@pytest.mark.slow
@pytest.mark.parametrize("none", [False, True], ids=["some", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_detector(name: str, none: bool, tmp_path: Path) -> None:
    """One model gives right boxes for several pictures, and none where there is none; so does its artifact."""
    model, picture = detector(name, tmp_path, none)
    made = convc.compile(model)
    made.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc")
    other = np.random.default_rng(0).random(picture.shape, dtype=np.float32)
    for x in (picture, other):
        want = run_onnxruntime(model, {"x": x})
        assert (len(want[0]) == 0) == none
        for got in (made(x), loaded(x)):
            for g, w in zip(got, want, strict=True):
                assert_close(g, w, name, DETECTED)
