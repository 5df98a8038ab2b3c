"""Recognises files that are neither ONNX models nor artifacts, so that errors say what they are and what to do."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

HEAD = 512
"""The number of bytes at the start of a file that are looked at; the mark of a tar archive is the last of them."""

_TORCH = "torch.onnx.export(model, inputs, 'model.onnx')"
_TF2ONNX = "python -m tf2onnx.convert"
_KERAS = "a Keras model: write it as ONNX by model.export('model.onnx', format='onnx') (Keras 3)"
_PICKLE = f"a Python pickle, as torch.save writes it: load it in PyTorch and write it as ONNX by {_TORCH}"
_WEIGHTS = "which holds weights without a network: build the network in its framework, and write that as ONNX"

_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch the file by git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file; if it is {_KERAS}"),
    (b"7767517", "an ncnn network: give the ONNX file that it was converted from"),
    (b"ftrt", "a TensorRT engine, which runs in TensorRT only: give the ONNX file that it was made from"),
    (b"GGUF", "a GGUF file, which holds a language model's weights without a network: convc does not read it"),
    (b"\x7fELF", "a shared library, as convc wrote for CPUs before its artifacts: build it again from its model"),
    (b"\x89PNG", "a picture: a picture is given by --input"),
    (b"\xff\xd8\xff", "a picture: a picture is given by --input"),
    (b"\x93NUMPY", "an array: an array is given by --input"),
    (b"\x1f\x8b", "packed by gzip: unpack it first (gunzip, or tar xzf for a .tar.gz)"),
    (b"BZh", "packed by bzip2: unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "packed by xz: unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it first (unzstd)"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"graph @", "a graph in convc's text form: give it a name that ends in .txt"),
    (
        b"ir_version:",
        "an ONNX model as text: write it in binary form by onnx.save(onnx.load(path, format='textproto'))",
    ),
)
"""What files are, by their first bytes."""

_FLATBUFFERS = {
    b"TFL3": f"a TensorFlow Lite model: convert it by {_TF2ONNX} --tflite model.tflite --output model.onnx",
    b"ORTM": "a model in ONNX Runtime's own format (.ort): give the ONNX file that it was made from",
    b"ET12": "an ExecuTorch program: write the model as ONNX by " + _TORCH,
}
"""What FlatBuffers are, by the identifier after their first four bytes."""

_SUFFIXES = {
    ".pb": f"if it is a TensorFlow graph, convert it by {_TF2ONNX} --graphdef FILE --inputs NAME:0 --outputs NAME:0 "
    "--output model.onnx",
    ".mlmodel": "a Core ML model: give the ONNX file, or the model in its framework, that it was converted from",
    ".pdmodel": "a PaddlePaddle model: convert it by paddle2onnx --model_dir FOLDER --model_filename FILE "
    "--save_file model.onnx",
    ".caffemodel": f"a Caffe model, {_WEIGHTS}",
    ".weights": f"a Darknet model, {_WEIGHTS}",
    ".bin": f"a file of weights, as OpenVINO, ncnn and PyTorch write, {_WEIGHTS}",
    ".params": f"a file of weights, {_WEIGHTS}",
    ".pdiparams": f"a file of weights, {_WEIGHTS}",
    ".ckpt": f"a checkpoint, {_WEIGHTS}",
    ".npz": "a file of arrays: give the graph in text form that it belongs to (.txt), or the arrays by --input",
}
"""What files may be that nothing else tells, by their names."""


def foreign(source: str | os.PathLike[str] | bytes) -> str:
    """What a file, or the bytes of one, seems to be instead of a model, and what to do with it.

    The text follows "it is" or a colon. It is empty when nothing is known.
    """
    try:
        if isinstance(source, bytes):
            return _by_content(source[:HEAD], io.BytesIO(source))
        path = Path(source)
        if path.is_dir():
            return _folder(path)
        with path.open("rb") as f:
            found = _by_content(f.read(HEAD), f)
        return found or _SUFFIXES.get(path.suffix.lower(), "")
    except (OSError, ValueError):
        return ""


def _by_content(head: bytes, file: io.IOBase) -> str:
    """What a file is, by its first bytes or, for a zip archive, by the names of its members."""
    for mark, text in _BEGINNINGS:
        if head.startswith(mark):
            return text
    if head.startswith(b"PK\x03\x04"):
        return _zip(file)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    if head[4:8] in _FLATBUFFERS:
        return _FLATBUFFERS[head[4:8]]
    if head[8:10] == b'{"' and not any(head[5:8]):  # a header's length in 8 bytes, and the header
        return f"a file of safetensors, {_WEIGHTS}"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first (tar xf)"
    return _markup(head.lstrip(b"\xef\xbb\xbf \t\r\n").lower())


def _markup(text: bytes) -> str:
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a model, as a failed download leaves it: download the file itself"
    if text.startswith((b"<?xml", b"<net")):
        if b"<net" in text:
            return "an OpenVINO network: give the ONNX file, or the model in its framework, that it was converted from"
        return "XML, which is no model that convc reads"
    if text.startswith((b"{", b"[")):
        return "JSON, which is no model that convc reads: give an ONNX file"
    if text.startswith((b"import ", b"from ", b'"""', b"#!", b"def ")):
        return "a program: a model made in Python is given as FILE.py:NAME"
    return ""


def _zip(file: io.IOBase) -> str:
    """What a zip archive is, by the names of its members."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError):
        return "a truncated zip archive: download it again"
    if any(name.endswith("serialized_exported_program.json") or "/models/" in name for name in names):
        return f"a program of torch.export: load it by torch.export.load, and write it as ONNX by {_TORCH}"
    if any(name.endswith("constants.pkl") for name in names):
        return f"a TorchScript model: load it by torch.jit.load, and write it as ONNX by {_TORCH}"
    if any(name.endswith("data.pkl") for name in names):
        return f"a PyTorch checkpoint: load it in PyTorch and write it as ONNX by {_TORCH}"
    if "model.weights.h5" in names:
        return _KERAS
    if names and all(name.endswith(".npy") for name in names):
        return _SUFFIXES[".npz"]
    models = [name for name in names if name.endswith(".onnx")]
    return f"a zip archive, which holds '{models[0]}': unpack it first" if models else "a zip archive: unpack it first"


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return f"a TensorFlow SavedModel: convert it by {_TF2ONNX} --saved-model {path} --output model.onnx"
    if path.suffix == ".mlpackage":
        return _SUFFIXES[".mlmodel"]
    models = sorted(file.name for file in path.glob("*.onnx"))
    return f"a folder: give the file in it{f', such as {path / models[0]}' if models else ''}"
