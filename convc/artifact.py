"""The artifact: one file with machine code, weights and a description.

It is a shared library with more bytes behind it, which the dynamic loader ignores:

    shared library | weights, each aligned to 64 bytes | description (JSON) | its length, offset and CRC-32, magic

The description holds the library's length and CRC-32 too, so that a damaged file is refused and not run. The weights are
not summed: they are not read before they are used.

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

MAGIC = b"convc-artifact-2"
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
    """What an artifact is: its ports, the machine it was compiled for, and its weights' places in the file."""

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    mcpu: str
    features: tuple[str, ...]
    threads: int | None
    memory: Mapping[str, Any]
    """The plan of the memory that the code runs in, and of how weights are packed: see ``backends/memory.py``."""
    weights: tuple[tuple[str, str, tuple[int, ...], int], ...] = ()
    """(name, dtype, shape, offset from the start of the file) for each weight."""
    library: tuple[int, int] = (0, 0)
    """The length and CRC-32 of the shared library."""


def write_artifact(
    path: str | os.PathLike[str],
    library: bytes | memoryview,
    description: Description,
    weights: Mapping[str, np.ndarray],
) -> None:
    """Write library, weights and description as one file, whole or not at all; raises ``ArtifactError`` when it cannot."""
    chunks: list[bytes | memoryview] = [library]
    position = len(chunks[0])
    places = []
    for name, array in weights.items():
        gap = -position % _ALIGN
        chunks.append(bytes(gap))
        position += gap
        places.append((name, dtype_of(array), tuple(array.shape), position))
        chunks.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        position += array.nbytes
    summed = {"weights": places, "library": (len(chunks[0]), crc32(chunks[0]))}
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
    library: memoryview
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
        library = data[: description.library[0]].data
        if crc32(library) != description.library[1]:
            raise ArtifactError(f"'{path}' has damaged machine code: it is not what was written; build it again")
        weights = {name: _weight(data, dtype, shape, at, offset) for name, dtype, shape, at in description.weights}
        return Artifact(description, weights, library, mapping)
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
    lists = {key: tuple(raw[key]) for key in ("features", "library")}
    return Description(**(raw | ports | lists | {"weights": weights}))


def _weight(data: np.ndarray, dtype: str, shape: tuple[int, ...], at: int, end: int) -> np.ndarray:
    kind = numpy_dtype(dtype)
    count = int(np.prod(shape, dtype=object))
    if min(shape, default=0) < 0 or at < 0 or at + count * kind.itemsize > end:
        raise ValueError("a weight lies outside the file")
    return np.asarray(data[at : at + count * kind.itemsize]).view(kind).reshape(shape)
