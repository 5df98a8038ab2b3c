"""Reading the files of untrusted models within the limits on their sizes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from convc.ir.limits import check


def read_bytes(path: Path, limit: str) -> bytes:
    """The bytes of a file. Raises ``LimitError``, before reading, when they exceed the limit of this name."""
    check(limit, path.stat().st_size, f"'{path}'")
    return path.read_bytes()


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name.

    Raises ``LimitError`` when it unpacks to more bytes than the limit ``file_bytes`` or holds more arrays than the
    limit ``nodes``, and the errors of ``zipfile`` and numpy when it is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        check("file_bytes", sum(m.file_size for m in z.infolist()), "the .npz, unpacked,")
        check("nodes", len(z.infolist()), "the .npz")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)
