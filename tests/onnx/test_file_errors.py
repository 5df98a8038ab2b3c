"""Files that are missing, truncated or damaged, and external data outside the model's folder.

There is one tiny test per mistake.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from support.malformed import model, node, raises

import convc
from convc import ConvcError, ModelFileError


def test_missing_file() -> None:
    with raises(ModelFileError, "nowhere.onnx", "No such file"):
        convc.load_onnx("nowhere.onnx")


def test_folder_for_a_file(tmp_path: Path) -> None:
    with raises(ModelFileError, str(tmp_path), "a folder: give the file in it"):
        convc.load_onnx(tmp_path)


def test_path_with_a_zero_byte() -> None:
    with raises(ModelFileError, "cannot read", "null byte"):
        convc.load_onnx("a\0b.onnx")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with raises(ModelFileError, "m.onnx", "empty"):
        convc.load_onnx(tmp_path / "m.onnx")


def test_broken_protobuf(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x00\xffgarbage" * 9)
    with raises(ModelFileError, "m.onnx", "not an ONNX model"):
        convc.load_onnx(tmp_path / "m.onnx")


def test_truncated_file_at_every_length() -> None:
    data = model(node("Conv", "x w", "a"), node("Relu", "a", name="n2")).SerializeToString()
    for length in range(len(data)):
        try:
            convc.load_onnx(data[:length])
        except ConvcError:
            continue
        except Exception as e:
            raise AssertionError(f"{length} bytes") from e


def test_flipped_bytes() -> None:
    """A flipped byte anywhere in a file gives a model or a ``ConvcError``."""
    data = model(node("Conv", "x w", "a", strides=[2, 2]), node("Relu", "a", name="n2")).SerializeToString()
    rng = np.random.default_rng(0)
    spots = [i for i in range(len(data)) if data[i : i + 4] != b"\x00\x00\x80\x3f"]
    for i in rng.choice(spots, 300):
        damaged = bytearray(data)
        damaged[i] ^= int(rng.integers(1, 256))
        try:
            convc.load_onnx(bytes(damaged))
        except ConvcError:
            continue
        except Exception as e:
            raise AssertionError(f"byte {i} set to {damaged[i]}") from e


def test_truncated_tensor() -> None:
    proto = model(node("Conv", "x w"))
    proto.graph.initializer[0].raw_data = b"abc"
    with raises(ModelFileError, "tensor 'w' is damaged"):
        convc.load_onnx(proto)


def test_tensor_of_negative_size() -> None:
    proto = model(node("Conv", "x w"))
    proto.graph.initializer[0].dims[0] = -1
    with raises(ModelFileError, "tensor 'w'", "negative size"):
        convc.load_onnx(proto)


def external(folder: Path, location: str, **entries: str) -> Path:
    """A model whose weight is declared to lie in another file."""
    proto = model(node("Conv", "x w"))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


DATA = np.ones((4, 3, 3, 3), np.float32).tobytes()


def test_external_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"1234" + DATA)
    graph = convc.load_onnx(external(tmp_path, "w.bin", offset="4"))
    np.testing.assert_array_equal(graph.constants["w"].array, np.ones((4, 3, 3, 3)))


def test_missing_external_data(tmp_path: Path) -> None:
    with raises(ModelFileError, "tensor 'w'", "'w.bin'", "missing"):
        convc.load_onnx(external(tmp_path, "w.bin"))


def test_external_data_of_a_model_without_a_folder(tmp_path: Path) -> None:
    with raises(ModelFileError, "tensor 'w'", "load the model from its path"):
        convc.load_onnx(external(tmp_path, "w.bin").read_bytes())


@pytest.mark.parametrize("entries", [{}, {"offset": "9" * 30}, {"offset": "-4"}], ids=["length", "far", "before"])
def test_external_data_too_short(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(DATA[:-1])
    with raises(ModelFileError, "tensor 'w'", "'w.bin'", "too short"):
        convc.load_onnx(external(tmp_path, "w.bin", **entries))


def test_external_data_with_a_bad_offset(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(DATA)
    with raises(ModelFileError, "tensor 'w'", "cannot be read"):
        convc.load_onnx(external(tmp_path, "w.bin", offset="x"))


@pytest.mark.parametrize("location", ["../secret", "{}/secret", "sub/../../secret", "link", "linked/secret", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    folder = tmp_path / "model"
    path = external(folder, location.format(tmp_path))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    with raises(ModelFileError, "tensor 'w'", "outside the model's folder"):
        convc.load_onnx(path)


@pytest.mark.parametrize("location", [".", "pipe"])
def test_external_data_that_is_no_file(tmp_path: Path, location: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with raises(ModelFileError, "tensor 'w'", "missing"):
        convc.load_onnx(external(tmp_path, location))
