"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import tempfile
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


def write_aside(path: str | os.PathLike[str], *chunks: bytes | memoryview) -> None:
    """Write beside the target, then rename over it, so that an interrupted write never leaves half a file.

    A link is followed; a device or a pipe is written to as it is. Raises ``OSError``, or ``ValueError`` for a malformed path.
    """
    target = Path(os.path.realpath(path))
    if not os.fspath(path) or target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as f:
            f.writelines(chunks)
        return
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".convc-", suffix=".part")
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as f:
            f.writelines(chunks)
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
