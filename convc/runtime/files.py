"""Atomic writing of files, temporary folders, and the location of the cache folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_temporary: set[str] = set()
"""The temporary files and folders that exist now."""


@contextlib.contextmanager
def temporary_folder(prefix: str = "convc-") -> Iterator[Path]:
    """A temporary folder, which is removed in the end, and by ``remove_temporary``."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        _temporary.add(folder)
        try:
            yield Path(folder)
        finally:
            _temporary.discard(folder)


def remove_temporary() -> None:
    """Remove the temporary files and folders of this process, which is about to end at once."""
    for path in list(_temporary):
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)


def write_aside(path: str | os.PathLike[str], *chunks: bytes | memoryview) -> None:
    """Write chunks to a file atomically, so that an interrupted write never leaves half a file.

    The data goes to a temporary file in the same folder, which is then renamed. A symbolic link is followed. A device
    or a pipe is written to directly. Raises ``OSError``, and ``ValueError`` for a malformed path or what is none.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError("a path is a text or a pathlib.Path")
    target = Path(os.path.realpath(path))
    if not os.fspath(path) or target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as f:
            f.writelines(chunks)
        return
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".convc-", suffix=".part")
    aside = Path(name)
    _temporary.add(name)
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
    finally:
        _temporary.discard(name)


def cache_folder() -> Path | None:
    """The folder of compiled models and tuning databases: ``$CONVC_CACHE``, by default ``~/.cache/convc``.

    It is ``None`` when the variable is one of the words ``NO_CACHE``, whatever their case.
    """
    folder = os.environ.get("CONVC_CACHE", "~/.cache/convc").strip()
    return None if folder.lower() in NO_CACHE else Path(os.path.expanduser(folder))


NO_CACHE = ("", "off", "0", "no", "false", "none")
"""The values of ``CONVC_CACHE`` that stand for no folder at all. ``./off`` is a folder."""
