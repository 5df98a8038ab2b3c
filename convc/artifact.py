"""The artifact: one file with machine code, weights and a description.

It is machine code with more bytes behind it:

    code | weights, each aligned to 64 bytes | description (JSON) | its length, offset and CRC-32, magic

For processors the code is a shared library, and the dynamic loader ignores what is behind it; for GPUs it is modules for
each architecture, one behind another. The description says what it is, and holds its length and CRC-32 too, so that a
damaged file is refused and not run. The weights are not summed: they are not read before they are used.

Weights lie in the file as the model had them; they are mapped, packed once at load by the artifact's own code, and their
pages given back then: a model that is saved again reads its file again.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from convc.ir.errors import ArtifactError
from convc.ir.types import dtype_of, numpy_dtype

from .files import write_aside

MAGIC = b"convc-artifact-3"
_FOOTER = struct.Struct("<QQQ16s")
_ALIGN = 64


@dataclass(frozen=True)
class Port:
    """One input or output of a compiled model: its name, shape, and numpy dtype by name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Description:
    """What an artifact is: its ports, the kind of its code, and its weights' places in the file."""

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    kind: str
    """``cpu`` or ``cuda``."""
    details: Mapping[str, Any]
    """What is to be known of code of that kind, as JSON keeps it: see ``cpu_model.py`` and ``cuda_model.py``."""
    weights: tuple[tuple[str, str, tuple[int, ...], int], ...] = ()
    """(name, dtype, shape, offset from the start of the file) for each weight."""
    code: tuple[int, int] = (0, 0)
    """The length and CRC-32 of the machine code."""


def write_artifact(
    path: str | os.PathLike[str],
    code: bytes | memoryview,
    description: Description,
    weights: Mapping[str, np.ndarray],
) -> None:
    """Write code, weights and description as one file, whole or not at all; raises ``ArtifactError`` when it cannot."""
    chunks: list[bytes | memoryview] = [code]
    position = len(chunks[0])
    places = []
    for name, array in weights.items():
        gap = -position % _ALIGN
        chunks.append(bytes(gap))
        position += gap
        places.append((name, dtype_of(array), tuple(array.shape), position))
        chunks.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        position += array.nbytes
    summed = {"weights": places, "code": (len(chunks[0]), crc32(chunks[0]))}
    text = json.dumps(asdict(description) | summed, sort_keys=True).encode()
    chunks += [text, _FOOTER.pack(len(text), position, crc32(text), MAGIC)]
    try:
        write_aside(path, *chunks)
    except (OSError, ValueError) as e:
        raise ArtifactError(f"cannot write '{path}': {getattr(e, 'strerror', None) or e}") from None


@dataclass(frozen=True)
class Artifact:
    """A file that was read: its description; its weights by name and its machine code, both mapped and read-only."""

    description: Description
    weights: Mapping[str, np.ndarray]
    code: memoryview
    mapping: mmap.mmap

    def release(self) -> None:
        """Give the mapped pages back; they are read again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Map an artifact; raises ``ArtifactError`` when the file is none, torn, or not what was written."""
    where = Path(path)
    try:
        size = where.stat().st_size
        with where.open("rb") as f:
            f.seek(max(0, size - _FOOTER.size))
            tail = f.read()
            if len(tail) != _FOOTER.size or not tail.endswith(MAGIC):
                raise ArtifactError(f"'{path}' is not a convc artifact, or it is torn: it lacks the closing mark")
            length, offset, checksum, _ = _FOOTER.unpack(tail)
            if offset + length + _FOOTER.size != size:
                raise ArtifactError(f"'{path}' is torn: its length does not match its description")
            f.seek(offset)
            text = f.read(length)
            mapping = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as e:
        raise ArtifactError(f"cannot read '{path}': {getattr(e, 'strerror', None) or e}") from None
    if crc32(text) != checksum:
        raise ArtifactError(f"'{path}' has a damaged description: it is not what was written; build it again")
    try:
        description = _description(json.loads(text))
        data = np.frombuffer(mapping, np.uint8)
        code = data[: description.code[0]].data
        if crc32(code) != description.code[1]:
            raise ArtifactError(f"'{path}' has damaged machine code: it is not what was written; build it again")
        weights = {name: _weight(data, dtype, shape, at, offset) for name, dtype, shape, at in description.weights}
        return Artifact(description, weights, code, mapping)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as e:
        raise ArtifactError(f"'{path}' has a damaged description: {e!r}") from None


def is_artifact(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends as an artifact does."""
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - len(MAGIC)))
            return f.read() == MAGIC
    except (OSError, ValueError):
        return False


def _description(raw: dict[str, Any]) -> Description:
    ports = {
        key: tuple(Port(p["name"], tuple(p["shape"]), p["dtype"]) for p in raw[key]) for key in ("inputs", "outputs")
    }
    weights = tuple((name, dtype, tuple(shape), int(at)) for name, dtype, shape, at in raw["weights"])
    length, checksum = raw["code"]
    if not isinstance(raw["details"], dict):
        raise TypeError("its details are no object")
    return Description(**(raw | ports | {"weights": weights, "code": (length, checksum)}))


def _weight(data: np.ndarray, dtype: str, shape: tuple[int, ...], at: int, end: int) -> np.ndarray:
    kind = numpy_dtype(dtype)
    count = int(np.prod(shape, dtype=object))
    if min(shape, default=0) < 0 or at < 0 or at + count * kind.itemsize > end:
        raise ValueError("a weight lies outside the file")
    return np.asarray(data[at : at + count * kind.itemsize]).view(kind).reshape(shape)
