"""Writing files whole or not at all, and the folder of what convc keeps for later."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path


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


def cache_folder() -> Path | None:
    """The folder of what convc keeps for later; ``None`` when there is to be none."""
    folder = os.environ.get("CONVC_CACHE", os.path.expanduser("~/.cache/convc"))
    return Path(folder) if folder else None
