"""Atomic writing of files, temporary folders, and the location of the cache folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from convc.ir.errors import warn

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


def write_aside(path: str | os.PathLike[str], *chunks: bytes | memoryview, mode: int = 0o666) -> None:
    """Write chunks to a file atomically, so that an interrupted write never leaves half a file.

    The data goes to a temporary file in the same folder, which is then renamed. A symbolic link is followed. A device
    or a pipe is written to directly. ``mode`` are the permissions of a new file, less those that the umask takes away.
    Raises ``OSError``, and ``ValueError`` for a malformed path or what is none.
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
    aside = target.parent / f".convc-{secrets.token_hex(8)}.part"
    name = str(aside)
    _temporary.add(name)
    try:
        with open(name, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as f:
            f.writelines(chunks)
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        _temporary.discard(name)


def cache_folder() -> Path | None:
    """The folder of compiled models and tuning databases: ``$CONVC_CACHE``, by default ``~/.cache/convc``.

    It is ``None`` when the variable is one of the words ``NO_CACHE``, whatever their case. It is also ``None``, with a
    warning, when the user has no home folder.
    """
    folder = os.environ.get("CONVC_CACHE", "~/.cache/convc").strip()
    if folder.lower() in NO_CACHE:
        return None
    path = os.path.expanduser(folder)
    if path.startswith("~"):
        warn(f"convc has no cache: there is no home folder for '{folder}'. Set CONVC_CACHE to a folder, or to off")
        return None
    return Path(path)


NO_CACHE = ("", "off", "0", "no", "false", "none")
"""The values of ``CONVC_CACHE`` that stand for no folder at all. ``./off`` is a folder."""
