"""Reading model files within their limits."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from convc.ir.limits import check


def read_bytes(path: Path, limit: str) -> bytes:
    """A file's bytes; raises ``LimitError`` when they are more than the limit of that name, before they are read."""
    check(limit, path.stat().st_size, f"'{path}'")
    return path.read_bytes()


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name; raises what zip and numpy raise for a damaged one, ``LimitError`` for one that unpacks to
    more than the limit ``file_bytes``.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        check("file_bytes", sum(m.file_size for m in z.infolist()), "the .npz, unpacked,")
        check("nodes", len(z.infolist()), "the .npz")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)
