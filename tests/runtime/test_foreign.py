"""Files of other programs, given where a model or an artifact is wanted, are named with what to do."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.malformed import raises

import convc
from convc.runtime.foreign import foreign


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("inference.pdmodel"))
    return data.getvalue()


def saved_array() -> bytes:
    data = io.BytesIO()
    np.save(data, np.zeros(3))
    return data.getvalue()


GRAPH_DEF = b"\x0a\x11\x0a\x01x\x12\x0bPlaceholder"
FILES = {
    "net.pt": (zipped("net/data.pkl", "net/data/0"), "PyTorch checkpoint", "torch.onnx.export"),
    "script.pt": (zipped("net/data.pkl", "net/constants.pkl", "net/code/net.py"), "TorchScript", "torch.onnx.export"),
    "net.pt2": (zipped("serialized_exported_program.json"), "torch.export", "torch.onnx.export"),
    "old.pth": (pickle.dumps({"w": [1.0]}, protocol=2), "pickle", "torch.onnx.export"),
    "net.pkl": (pickle.dumps([1], protocol=5), "pickle", "PyTorch"),
    "net.tflite": (b"\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite", "tf2onnx.convert --tflite"),
    "net.pte": (b"\x1c\0\0\0ET12\x14\0", "ExecuTorch", "torch.onnx.export"),
    "net.ort": (b"\x1c\0\0\0ORTM\x14\0", "ONNX Runtime's own", "ONNX file"),
    "net.safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32"', "safetensors", "weights without a network"),
    "frozen.pb": (GRAPH_DEF, "TensorFlow graph", "tf2onnx.convert --graphdef"),
    "net.h5": (b"\x89HDF\r\n\x1a\n\0", "Keras", "format='onnx'"),
    "net.keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "Keras", "format='onnx'"),
    "net.mlmodel": (b"\x08\x04\x12\x03abc", "Core ML", "converted from"),
    "net.pdmodel": (b"\x0a\x03abc", "PaddlePaddle", "paddle2onnx"),
    "net.xml": (b'<?xml version="1.0"?>\n<net name="n" version="11">', "OpenVINO", "ONNX file"),
    "net.bin": (bytes(1000), "weights", "network"),
    "net.param": (b"7767517\n2 2\n", "ncnn", "ONNX file"),
    "net.engine": (b"ftrt\0\0", "TensorRT", "ONNX file"),
    "net.gguf": (b"GGUF\x03\0", "GGUF", "does not read it"),
    "pointer.onnx": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
        "Git LFS",
        "git lfs pull",
    ),
    "page.onnx": (b"\n<!DOCTYPE html>\n<html><head>", "web page", "download"),
    "page2.onnx": (b"<HTML>", "web page", "download"),
    "net.json": (b'{"format": "layers-model"}', "JSON", "ONNX file"),
    "net.onnx.gz": (gzip.compress(b"abc"), "gzip", "unpack"),
    "net.zip": (zipped("read.me", "folder/net.onnx"), "zip archive, which holds 'folder/net.onnx'", "unpack"),
    "torn.zip": (zipped("net/data.pkl")[:60], "truncated zip", "again"),
    "net.tar": (tarred(), "tar archive", "unpack"),
    "x.npy": (saved_array(), "array", "--input"),
    "x.png": (b"\x89PNG\r\n\x1a\n", "picture", "--input"),
    "old.so": (b"\x7fELF\x02\x01\x01", "shared library", "build it again"),
    "net.onnxtxt": (b"ir_version: 8\ngraph {\n", "as text", "onnx.load"),
    "net.py.onnx": (b"import torch\n", "program", "FILE.py:NAME"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_foreign_file_is_named(name: str, tmp_path: Path) -> None:
    """The compiler and the loader say what the file is and what to do, and its bytes are recognised as well."""
    data, what, fix = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    with raises(convc.ModelFileError, name, what, fix):
        convc.compile(path)
    with raises(convc.ArtifactError, name, what, fix):
        convc.load(path)
    if Path(name).suffix not in (".pb", ".mlmodel", ".pdmodel", ".bin"):
        with raises(convc.ModelFileError, what, fix):
            convc.compile(data)


def test_folders(tmp_path: Path) -> None:
    with raises(convc.ModelFileError, "a folder"):
        convc.compile(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"")
    with raises(convc.ModelFileError, "a folder", str(tmp_path / "net.onnx")):
        convc.compile(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with raises(convc.ModelFileError, "TensorFlow SavedModel", f"--saved-model {tmp_path}"):
        convc.compile(tmp_path)


def test_an_onnx_file_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    with raises(convc.ArtifactError, "m.onnx", "an ONNX model, which convc.compile (convc build) compiles"):
        convc.load(tmp_path / "m.onnx")


def test_what_is_unknown_has_no_name(tmp_path: Path) -> None:
    assert foreign(b"") == foreign(b"\x08\x08\x12\x07pytorch") == foreign(tmp_path / "nowhere") == ""
