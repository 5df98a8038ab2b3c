"""The large weights of an ONNX file, read apart from the rest, which protobuf parses: protobuf would copy them twice.

A message is a sequence of fields. Each has a key, which is its number times 8 plus its kind as a varint, and a value: a
varint (kind 0), 8 bytes (1), a length and as many bytes (2), or 4 bytes (5). See
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

LARGE = 4096
"""Data of at least this many bytes is read apart."""
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""The numbers of ``ModelProto.graph``, ``GraphProto.initializer`` and ``TensorProto.raw_data``."""
VARINT, LONG, BYTES, SHORT = 0, 1, 2, 5


@dataclass(frozen=True)
class Outside:
    """What belongs to a model but is not in its ``ModelProto``.

    ``folder`` is where external data must lie, or ``None`` when the model did not come from a file. ``weights`` holds
    the bytes of large tensors by what stands in ``raw_data`` in their place.
    """

    folder: Path | None = None
    weights: Mapping[bytes, np.ndarray] = field(default_factory=dict)


def read_apart(file: BinaryIO) -> tuple[bytes, dict[bytes, np.ndarray]]:
    """The content of a file with other bytes in place of the data of large initializers, and this data by those bytes.

    The bytes are drawn at random, so that no file can hold them. A file that is no plain model is given as it is.
    """
    try:
        return _Reader(file).model()
    except ValueError:
        file.seek(0)
        return file.read(), {}


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number and kind, and where it starts, where its value starts, and where both end."""

    number: int
    kind: int
    start: int
    value: int
    end: int


class _Reader:
    """Reads one file. Its methods raise ``ValueError`` for what is no message, and where the file ends too soon."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.secret = os.urandom(16)
        self.weights: dict[bytes, np.ndarray] = {}

    def model(self) -> tuple[bytes, dict[bytes, np.ndarray]]:
        return self.message(0, self.file.seek(0, os.SEEK_END), [GRAPH, INITIALIZER, RAW_DATA]), self.weights

    def message(self, start: int, end: int, way: list[int]) -> bytes:
        """The bytes of a message without the data of large weights.

        ``way`` gives the numbers of the fields that lead to such data, in this message and the one within.
        """
        number, *inner = way
        parts, done = [], start
        for f in self.fields(start, end):
            if f.number != number or f.kind != BYTES or f.end - f.value < LARGE:
                continue
            parts.append(self.bytes(done, f.start))
            body = self.message(f.value, f.end, inner) if inner else self.apart(f)
            parts += [_varint(number << 3 | BYTES), _varint(len(body)), body]
            done = f.end
        return b"".join([*parts, self.bytes(done, end)])

    def apart(self, f: _Field) -> bytes:
        """Read the data of a tensor, and return what stands for it."""
        data = np.empty(f.end - f.value, np.uint8)
        self.file.seek(f.value)
        if self.file.readinto(data.data) != data.size:  # type: ignore[attr-defined]
            raise ValueError("the file ends too soon")
        name = self.secret + len(self.weights).to_bytes(8, "little")
        self.weights[name] = data
        return name

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of a message, in their order."""
        at = start
        while at < end:
            key, value = self.number(at)
            kind, size = key & 7, 0
            if kind == VARINT:
                _, value = self.number(value)
            elif kind in (LONG, SHORT):
                size = 8 if kind == LONG else 4
            elif kind == BYTES:
                size, value = self.number(value)
            else:
                raise ValueError(f"no field has the kind {kind}")
            if value + size > end:
                raise ValueError("a field is longer than its message")
            yield _Field(key >> 3, kind, at, value, value + size)
            at = value + size

    def number(self, at: int) -> tuple[int, int]:
        """The varint at a place, which holds seven bits to a byte, the lowest first, and the place behind it."""
        self.file.seek(at)
        value = 0
        for i, byte in enumerate(self.file.read(10)):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value, at + i + 1
        raise ValueError("a number has no end")

    def bytes(self, start: int, end: int) -> bytes:
        """Some bytes of the file."""
        self.file.seek(start)
        data = self.file.read(end - start)
        if len(data) != end - start:
            raise ValueError("the file ends too soon")
        return data


def _varint(number: int) -> bytes:
    """A number as a varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
