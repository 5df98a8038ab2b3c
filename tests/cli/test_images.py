"""Pictures and arrays as inputs of ``convc run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.commands import Capture, run, write_samples

import convc
from convc.cli.images import read_picture
from convc.cli.run import assign
from convc.runtime.description import Port


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some models and inputs, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path)
    return tmp_path


def test_assign_names_with_equals_signs(folder: Path) -> None:
    assert assign(["a=b=f", "a=g"], ["a", "a=b"]) == [{"a=b": "f", "a": "g"}]
    Path("k=v.npy").write_bytes(b"")
    assert assign(["k=v.npy", "x=k=v.npy"], ["x"]) == [{"x": "k=v.npy"}, {"x": "k=v.npy"}]
    assert assign([], []) == [{}]


def port(*shape: int, dtype: str = "float32") -> Port:
    return Port("x", shape, dtype)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_picture_in_colour(picture: Path) -> None:
    x = read_picture(picture, port(1, 3, 2, 2))
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x[0], [[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[0, 0], [1, 1]]])


def test_picture_in_grey(picture: Path) -> None:
    x = read_picture(picture, port(1, 1, 2, 2))
    np.testing.assert_allclose(x[0, 0], np.array([[76, 150], [29, 255]]) / 255, atol=1 / 255)


def test_picture_with_channels_last_and_bytes(picture: Path) -> None:
    x = read_picture(picture, port(1, 2, 2, 3, dtype="uint8"))
    assert x.dtype == np.uint8
    assert x[0, 0, 1].tolist() == [0, 255, 0]


def test_picture_mean_and_std(picture: Path) -> None:
    x = read_picture(picture, port(1, 3, 2, 2), mean=(0.5, 0, 0), std=(0.5,))
    assert x[0, :, 0, 0].tolist() == [1, 0, 0]
    assert x[0, :, 0, 1].tolist() == [-1, 2, 0]


def test_picture_is_resized(picture: Path) -> None:
    assert read_picture(picture, port(1, 3, 5, 7)).shape == (1, 3, 5, 7)


def test_picture_of_16_bits_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32896], [65535, 257]], np.uint16)).save(tmp_path / "deep.png")
    x = read_picture(tmp_path / "deep.png", port(1, 1, 2, 2, dtype="uint8"))
    assert x[0, 0].tolist() == [[0, 128], [255, 1]]


def test_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "turned.png", exif=exif)
    assert read_picture(tmp_path / "turned.png", port(1, 1, 2, 1))[0, 0].tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("shape", "options", "part"),
    [
        ((1, 2, 8, 8), {}, "does not take a picture"),
        ((2, 3, 8, 8), {}, "does not take a picture"),
        ((1, 3), {}, "does not take a picture"),
        ((1, 3, 2, 2), {"mean": (1, 2)}, "2 numbers"),
        ((1, 3, 2, 2), {"std": (0,)}, "std"),
    ],
)
def test_picture_that_does_not_fit(picture: Path, shape: tuple[int, ...], options: dict[str, Any], part: str) -> None:
    with pytest.raises(convc.InputError, match=part):
        read_picture(picture, port(*shape), **options)


def test_torn_picture(picture: Path) -> None:
    data = picture.read_bytes()
    for length in range(len(data) // 2):
        picture.write_bytes(data[:length])
        with pytest.raises(convc.InputError, match=r"p\.png"):
            read_picture(picture, port(1, 3, 2, 2))


def test_pictures_without_pillow(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(convc.InputError, match="pip install pillow"):
        read_picture(picture, port(1, 3, 2, 2))


def test_run_pictures(folder: Path, picture: Path, capsys: Capture) -> None:
    assert run("run", "grey.onnx", "--input", str(picture), "--mean", "0", "--std=0.5") == 0
    out = capsys.readouterr().out
    assert out.startswith("y: float32[1, 1, 2, 2] = ")
    assert "2.  " in out or "2.]" in out


def test_proportions_are_kept(tmp_path: Path) -> None:
    """Of a wide picture with thirds of black, grey and white, each way to fit shows what it promises."""
    pixels = np.repeat(np.array([0, 102, 255], np.uint8), 80)[None].repeat(60, 0)
    Image.fromarray(pixels).save(tmp_path / "wide.png")

    def fitted(**how: Any) -> list[float]:
        x = read_picture(tmp_path / "wide.png", port(1, 1, 12, 12), **how)[0, 0]
        return [round(float(v), 2) for v in (x[6, 0], x[6, 6], x[6, 11], x[0, 6])]

    assert fitted() == fitted(fit="crop") == [0.4, 0.4, 0.4, 0.4]
    assert fitted(fit="stretch") == [0, 0.4, 1, 0.4]
    assert fitted(fit="pad") == [0, 0.4, 1, 0]
    assert fitted(resize=60) == [0.4, 0.4, 0.4, 0.4]
    with pytest.raises(convc.InputError, match="--resize 11 is less than the model's picture of 12x12"):
        fitted(resize=11)


def test_the_recipe_of_imagenet(tmp_path: Path) -> None:
    """``--resize 256`` is torchvision's Resize(256) and CenterCrop(224), within the differences of their filters."""
    rows, columns = np.mgrid[:300, :500]
    Image.fromarray(((rows + columns) % 256).astype(np.uint8)).resize((500, 300)).save(tmp_path / "p.png")
    x = read_picture(tmp_path / "p.png", port(1, 1, 224, 224), resize=256)[0, 0]
    with Image.open(tmp_path / "p.png") as picture:
        scaled = picture.resize((427, 256), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(x, np.asarray(scaled)[16:240, 101:325] / np.float32(255), rtol=1e-6)
