"""The examples work as described."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.real_models import package_models

import convc

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.append(str(EXAMPLES))


def test_lenet_reads_digits() -> None:
    """The shipped LeNet recognises every shipped digit."""
    lenet = convc.compile(EXAMPLES / "lenet.onnx")
    for digit in range(10):
        with Image.open(EXAMPLES / "digits" / f"digit_{digit}.png") as picture:
            pixels = np.asarray(picture, np.float32)[None, None] / 255
        assert lenet(pixels).argmax() == digit


def test_filters() -> None:
    """Filters give the expected pictures.

    A point becomes the kernel, an even picture is unchanged up to its border, and a ramp has its slope.
    """
    filters = import_module("filters")
    kernel = filters.gaussian(1.0)
    point = np.zeros((1, 9, 11), np.float32)
    point[0, 4, 5] = 1
    np.testing.assert_allclose(filters.convolve(point, kernel)[0, 0, 1:8, 2:9], kernel, rtol=1e-5)
    even = np.full((3, 6, 7), 0.25, np.float32)
    for each in (kernel, filters.SHARPEN):
        np.testing.assert_allclose(filters.convolve(even, each), even[:, None], rtol=1e-5)
    ramp = np.broadcast_to(np.arange(7, dtype=np.float32), (1, 6, 7))
    across, down = filters.convolve(ramp, filters.SOBEL, filters.SOBEL.T)[0]
    np.testing.assert_allclose(across[:, 1:-1], 8.0)
    np.testing.assert_allclose(down, 0.0)


def test_finding_lines() -> None:
    """The text reader's own arithmetic is right: regions of a mask, and the box around a slanted region."""
    reader = import_module("read_text")
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)  # touching at corners counts
    regions = reader.components(mask)
    assert sorted(int(np.sum(ends - starts)) for _, starts, ends in regions) == [1, 2, 2, 2]
    slope = np.radians(30)
    along = np.linspace(0, 100, 400)
    edge = np.outer(along, [np.cos(slope), np.sin(slope)])
    bar = np.concatenate([edge, edge + np.array([0, 10])])
    corners = reader.text_box(bar, grow=0.0)
    assert corners is not None
    top = corners[1] - corners[0]
    assert np.degrees(np.arctan2(top[1], top[0])) == pytest.approx(30, abs=3)
    assert np.linalg.norm(top) == pytest.approx(106, abs=3)
    assert reader.text_box(bar[:1]) is None


@pytest.mark.slow
def test_read_text() -> None:
    """PP-OCR reads the shipped page."""
    reader = import_module("read_text").TextReader(package_models("rapidocr_onnxruntime", "models"))
    with Image.open(EXAMPLES / "page.png") as page:
        lines = [line.text.replace(" ", "") for line in reader(page)]
    assert lines[:4] == [
        "Region-basedsegmentation",
        "Letusfirstdeterminemarkersofthecoinsandthe",
        "background.Thesemarkersarepixelsthatwecanlabel",
        "unambiguouslyaseitherobjectorbackground.Here,",
    ]
