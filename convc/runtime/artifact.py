"""The artifact: one file that holds machine code, weights and a description.

    code of each part | weights, each aligned to 64 bytes | description (JSON) | its length and offset, SHA-256, magic

A part is a model compiled for one target, and for one shape of each input or for open sizes; most artifacts have one.
The code for a CPU is a
shared library. The code for GPUs is a sequence of modules for each architecture. Parts share equal weights.

The hash covers all bytes before it. It is checked before any other part of the file is used, so that a truncated or
edited file is an error. It is a tree of SHA-256 hashes, which several threads compute at once (``hashing.py``).

The weights in the file are those of the model, not packed. They are mapped, and the artifact's own code packs them once
at load. Their pages are then given back to the system; saving a loaded model reads its file again. A file that was
replaced or deleted since stays readable; one that was changed in place is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convc.ir.dtypes import dtype_of, numpy_dtype
from convc.ir.errors import ArtifactError
from convc.ir.shapes import StatedSize

from ..version import __version__
from .description import Description, Part, Port
from .files import write_aside
from .foreign import foreign
from .hashing import tree_hash, tree_hash_of_file
from .processors import available_processors

_MARK = b"convc-artifact-"
"""The beginning of the magic of every format version."""
FORMAT = 8
"""The format version that is written and read."""
MAGIC = _MARK + str(FORMAT).encode()
_FOOTER = struct.Struct("<QQ32s16s")
_PLACE = struct.Struct("<QQ")
_ALIGN = 64
_LONGEST = 64 << 20
"""The longest description, in bytes, that is read of an artifact of another format."""


def write_artifact(path: str | os.PathLike[str], parts: Sequence[Part]) -> None:
    """Write models as one artifact.

    A failed write leaves no file, or the one that was there. Raises ``ArtifactError``.
    """
    try:
        write_aside(path, *artifact_chunks(parts))
    except (OSError, ValueError) as e:
        raise ArtifactError(f"cannot write '{path}': {getattr(e, 'strerror', None) or e}") from None


def artifact_chunks(parts: Sequence[Part]) -> list[bytes | memoryview]:
    """The bytes of an artifact, in pieces to be written one after another."""
    chunks: list[bytes | memoryview] = []
    described, held, position = [], _Weights(), 0
    for part in parts:
        weights = {name: held.index(array) for name, array in sorted(part.weights.items())}
        described.append(asdict(part.description) | {"weights": weights, "code": (position, len(part.code))})
        chunks.append(part.code)
        position += len(part.code)
    places = []
    for array in held.arrays:
        gap = -position % _ALIGN
        chunks += [bytes(gap), array.reshape(-1).view(np.uint8).data]
        places.append((dtype_of(array), array.shape, position + gap))
        position += gap + array.nbytes
    text = json.dumps({"parts": described, "weights": places}, sort_keys=True).encode()
    end = _PLACE.pack(len(text), position)
    return [*chunks, text, _FOOTER.pack(len(text), position, tree_hash([*chunks, text, end]), MAGIC)]


class _Weights:
    """The weights of an artifact. Arrays of equal dtype, shape and content are stored once."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def index(self, array: np.ndarray) -> int:
        array = np.ascontiguousarray(array).reshape(array.shape)
        digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data if array.size else b"").digest()
        place = self._known.setdefault((dtype_of(array), array.shape, digest), len(self.arrays))
        if place == len(self.arrays):
            self.arrays.append(array)
        return place


class Source:
    """The file that an artifact was read from, which stays open as long as its parts are used."""

    def __init__(self, path: str | os.PathLike[str], descriptor: int, hashed: int, digest: bytes) -> None:
        """``digest`` is the hash of the first ``hashed`` bytes of the open file. The descriptor is duplicated."""
        self._path = path
        self._descriptor = os.dup(descriptor)
        self._hashed, self._digest = hashed, digest
        self._state = _state(self._descriptor)
        weakref.finalize(self, os.close, self._descriptor)

    def check(self) -> None:
        """Raise ``ArtifactError`` when the file was changed since it was read.

        The file is read for it only where its times say that it may have been changed.
        """
        try:
            state = _state(self._descriptor)
            same = state == self._state or (
                state[0] == self._state[0] and _hash(self._descriptor, self._hashed) == self._digest
            )
        except OSError as e:
            raise ArtifactError(f"cannot read '{self._path}' again: {e.strerror or e}") from None
        if not same:
            raise ArtifactError(
                f"'{self._path}' was changed in place since the model was loaded from it, and what the model needs "
                "of it is lost: load it again (a new file that is moved to its place does no harm)"
            )
        self._state = state


def _state(descriptor: int) -> tuple[int, int, int]:
    """The size of a file, and the times at which its content and its entry were changed."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _hash(descriptor: int, size: int) -> bytes:
    return tree_hash_of_file(descriptor, size, min(4, available_processors()))


@dataclass(frozen=True)
class Artifact:
    """A part that was read from an artifact.

    Its weights, by name, and its machine code are read-only views of the mapped file.
    """

    description: Description
    weights: Mapping[str, np.ndarray]
    code: memoryview
    mapping: mmap.mmap
    source: Source

    def part(self) -> Part:
        """The part as it can be written again. Raises ``ArtifactError`` when the file was changed in place."""
        self.source.check()
        return Part(self.description, self.code, self.weights)

    def release(self) -> None:
        """Give the mapped pages back to the system; they are read from the file again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


def read_artifact(path: str | os.PathLike[str]) -> tuple[Artifact, ...]:
    """Map an artifact and return its parts.

    Raises ``ArtifactError`` when the file is not an artifact, is truncated, or does not match its hash.
    """
    where = Path(path)
    try:
        with where.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            f.seek(max(0, size - _FOOTER.size))
            tail = f.read(_FOOTER.size)
            mark = tail.rfind(_MARK)
            if mark < 0:
                raise ArtifactError(_no_artifact(where))
            if len(tail) != _FOOTER.size or tail[mark:] != MAGIC:
                raise ArtifactError(f"'{path}' {_of_another_format(f, tail, tail[mark + len(_MARK) :])}")
            length, offset, digest, _ = _FOOTER.unpack(tail)
            if offset + length + _FOOTER.size != size:
                raise ArtifactError(f"'{path}' is truncated: its length does not match its description")
            source = Source(path, f.fileno(), offset + length + _PLACE.size, digest)
            if _hash(f.fileno(), offset + length + _PLACE.size) != digest:
                raise ArtifactError(f"'{path}' is damaged: it is not what was written; build it again")
            f.seek(offset)
            text = f.read(length)
            mapping = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as e:
        raise ArtifactError(f"cannot read '{path}': {getattr(e, 'strerror', None) or e}") from None
    try:
        raw = json.loads(text)
        data = np.frombuffer(mapping, np.uint8)[:offset]
        weights = [_weight(data, *place) for place in raw["weights"]]
        parts = tuple(_part(part, data, weights, mapping, source) for part in raw["parts"])
        if not parts:
            raise ValueError("it holds no part")
        return parts
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as e:
        raise ArtifactError(f"'{path}' {_unreadable(text)}") from e


def _unreadable(text: bytes) -> str:
    """The error text for a description that cannot be understood, though the file is what was written."""
    with contextlib.suppress(Exception):
        made = str(json.loads(text)["parts"][0]["version"])
        if made != __version__:
            return (
                f"is an artifact of convc {made}, and this is convc {__version__}, which cannot read its description: "
                f"build it again from its model, or load it with convc {made}"
            )
    return "has a damaged description"


def _no_artifact(path: Path) -> str:
    """The error text for a file without the closing mark."""
    what = foreign(path)
    if not what and path.suffix == ".onnx":
        what = "an ONNX model, which convc.compile (convc build) compiles"
    if what:
        return f"'{path}' is not a convc artifact: {what}"
    return f"'{path}' is not a convc artifact, or it is truncated: it lacks the closing mark"


def _of_another_format(file: BinaryIO, tail: bytes, number: bytes) -> str:
    """The error text for an artifact of another format version.

    From version 4 to this one the description names the version of convc that wrote the artifact.
    """
    made = number.rstrip(b"\0").decode("ascii", "replace")
    try:
        length, offset, _, _ = _FOOTER.unpack(tail)
        file.seek(offset)
        version = json.loads(file.read(min(length, _LONGEST)))["parts"][0]["version"]
    except (LookupError, TypeError, ValueError, RecursionError, OSError, OverflowError, struct.error):
        version = None
    return (
        f"is an artifact of {f'convc {version}' if version else 'another version of convc'}, in format {made}, and "
        f"this is convc {__version__}, which reads format {FORMAT}: build it again from its model, or load it with "
        f"the convc that made it{f' (convc=={version})' if version and version != __version__ else ''}"
    )


def is_artifact(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends with the magic of an artifact, of any format version. Files that cannot be read do not."""
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - _FOOTER.size))
            return _MARK in f.read()
    except (OSError, ValueError):
        return False


def _part(
    raw: dict[str, Any], data: np.ndarray, weights: Sequence[np.ndarray], mapping: mmap.mmap, source: Source
) -> Artifact:
    at, length = raw.pop("code")
    if at < 0 or length < 0 or at + length > len(data):
        raise ValueError("code lies outside the file")
    held = {name: weights[i] for name, i in raw.pop("weights").items()}
    ports = {key: tuple(_port(**p) for p in raw[key]) for key in ("inputs", "outputs")}
    if not isinstance(raw["details"], dict):
        raise TypeError("its details are no object")
    return Artifact(Description(**(raw | ports)), held, data[at : at + length].data, mapping, source)


def _port(name: str, shape: Sequence[StatedSize], dtype: str) -> Port:
    fits = (isinstance(size, str) or (isinstance(size, int) and size >= 0) for size in shape)
    if not isinstance(name, str) or not all(fits):
        raise TypeError(f"an input or output is {name!r} of shape {shape!r}")
    np.dtype(dtype)  # raises TypeError when there is no such dtype
    return Port(name, tuple(shape), dtype)


def _weight(data: np.ndarray, dtype: str, shape: Sequence[int], at: int) -> np.ndarray:
    kind = numpy_dtype(dtype)
    end = at + int(np.prod(shape, dtype=object)) * kind.itemsize
    if min(shape, default=0) < 0 or at < 0 or end > len(data):
        raise ValueError("a weight lies outside the file")
    return np.asarray(data[at:end]).view(kind).reshape(shape)
