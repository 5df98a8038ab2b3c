"""The files of the cache on disk, which all processes of a user share.

They are in the subfolder ``compiled`` of the cache folder (``convc/runtime/files.py``): compiled models and compiled
kernels, each named by a hash of all that determines it. Together they take at most ``$CONVC_CACHE_BYTES`` bytes, such
as ``4G``, by default 4 GiB; those that were used longest ago are deleted to make room. Files of other names are left
alone.

The files are code, which runs with the rights of the process. A folder that another user may write to is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convc.ir.errors import CompileError, ConvcError, warn
from convc.runtime.files import cache_folder, write_aside

from .identity import is_current

LIMIT = 4 << 30
"""The default size limit in bytes."""
PATIENCE = 10.0
"""The number of seconds to wait for another process that writes to the cache. After them nothing is stored."""
LEFTOVER = 3600.0
"""An unfinished file that is older than this many seconds was left by a process that died, and is deleted."""
_MODE = 0o775
"""The permissions of folders and files, less those that the umask takes away. Other users may never write."""
LOCK = "lock"
"""The name of the file that a process holds a lock on while it deletes and writes."""
NAMES = re.compile(r"[0-9a-f]{64}\.convc|convc_[\w.-]+-[0-9a-f]{16}\.o|llvm-[0-9a-f]{24}\.json", re.ASCII)
"""The names of the files: models, kernels, and facts about processors."""
UNFINISHED = re.compile(r"\.convc-\w+\.part", re.ASCII)
"""The names of files that are being written (``write_aside``)."""


@dataclass(frozen=True)
class Store:
    """A folder of files of at most ``limit`` bytes in all. Several processes may use it at once."""

    folder: Path
    limit: int

    def path(self, name: str) -> Path:
        """The path of a file, which may not be there."""
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        """The content of a record, which counts as used now; ``None`` when there is none, or when it is damaged."""
        try:
            data = self.path(name).read_bytes()
        except OSError:
            return None
        content = data[_SEAL:]
        if data[:_SEAL] != _seal(name, content):
            return None
        self.used(name)
        return content

    def keep(self, records: Mapping[str, bytes]) -> None:
        """Write records, each behind a hash of its name and content, so that ``read`` notices damage."""
        self.write({name: [_seal(name, content), content] for name, content in records.items()})

    def used(self, name: str) -> None:
        """Note that a file is used now."""
        with contextlib.suppress(OSError):  # another process may have deleted the file meanwhile
            os.utime(self.path(name))

    def write(self, files: Mapping[str, Sequence[bytes | memoryview]]) -> None:
        """Write files, given as chunks by name, unless they are larger than the limit.

        A failure is reported as a warning, not as an error, because what was compiled is sound.
        """
        size = sum(len(chunk) for chunks in files.values() for chunk in chunks)
        if not files or size > self.limit:
            return
        try:
            with contextlib.suppress(FileExistsError):
                self.folder.parent.mkdir(_MODE, parents=True)
            self.folder.mkdir(_MODE, exist_ok=True)
            with self._lock():
                if self._make_room(size, files):
                    for name, chunks in files.items():
                        write_aside(self.path(name), *chunks, mode=_MODE & 0o666)
        except (ConvcError, OSError, ValueError) as e:
            warn(f"convc keeps nothing that it compiled in '{self.folder}': {e}")

    def _make_room(self, size: int, names: Mapping[str, object]) -> bool:
        """Delete the least recently used files until ``size`` more bytes, to be written to these names, fit the limit.

        Unfinished files of processes that died are deleted as well. Returns whether there is room now.
        """
        held, total = [], 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat = entry.stat(follow_symlinks=False)
                    unfinished = UNFINISHED.fullmatch(entry.name)
                    if unfinished and time.time() - stat.st_mtime > LEFTOVER:
                        os.unlink(entry.path)
                    elif unfinished:
                        total += stat.st_size
                    elif NAMES.fullmatch(entry.name) and entry.name not in names and entry.is_file():
                        held.append((stat.st_mtime_ns, stat.st_size, entry.path))
        total += sum(nbytes for _, nbytes, _ in held)
        for _, nbytes, path in sorted(held):
            if total + size <= self.limit:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= nbytes
        return total + size <= self.limit

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock, so that one process at a time deletes and writes.

        Raises ``OSError`` when another process holds the lock for more than ``PATIENCE`` seconds.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no fcntl; without the lock the limit may be exceeded for a moment
            yield
            return
        with open(self.folder / LOCK, "a", opener=lambda path, flags: os.open(path, flags, _MODE & 0o660)) as f:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise OSError(f"another process has held its lock for {PATIENCE:g} s") from None
                    time.sleep(0.02)
            try:
                yield
            finally:  # closing the file would not release it while a process that was forked meanwhile has it open too
                fcntl.flock(f, fcntl.LOCK_UN)


def store() -> Store | None:
    """The files of the cache; ``None`` when ``CONVC_CACHE`` turns it off (``cache_folder``).

    It is also ``None``, with a warning, when another user may write to the folder, or when nothing identifies this
    compiler (``is_current``). Raises ``CompileError`` when ``CONVC_CACHE_BYTES`` is not a number of bytes.
    """
    base = cache_folder()
    limit = _bytes(os.environ.get("CONVC_CACHE_BYTES", str(LIMIT)))
    if base is None:
        return None
    folder = base / "compiled"
    if danger := _danger(folder):
        warn(
            f"convc does not use the cache in '{folder}', whose files are code: {danger}. Set CONVC_CACHE to a folder "
            "of your own, or to off"
        )
        return None
    if not is_current():
        warn(
            "convc's source has changed since this process loaded it, so that the process no longer uses the cache on "
            "disk. Start it again to use the cache"
        )
        return None
    return Store(folder, limit)


def _danger(folder: Path) -> str:
    """Which other user may write to a folder, in words; empty when there is none but root, or no folder yet."""
    try:
        link, there = folder.lstat(), folder.stat()
    except OSError:
        return ""
    if not hasattr(os, "geteuid"):  # on Windows, which has other means
        return ""
    for owner in (link.st_uid, there.st_uid):
        if owner not in (0, os.geteuid()):
            return f"it belongs to another user, {owner}"
    return "every user may write to it (chmod o-w ends this)" if there.st_mode & 0o002 else ""


_SEAL = hashlib.sha256().digest_size


def _seal(name: str, content: bytes) -> bytes:
    """The bytes before the content of a record."""
    return hashlib.sha256(name.encode() + b"\n" + content).digest()


def _bytes(text: str) -> int:
    """A number of bytes such as ``4294967296``, ``4G``, ``4 GiB`` or ``0.5g``; units are powers of 1024."""
    m = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{0,9})?)\s*(?:([KMGT])(?:i?B)?|B)?\s*", text, re.IGNORECASE | re.ASCII)
    if m is None:
        raise CompileError(f"CONVC_CACHE_BYTES is '{text}', and must be a number of bytes, such as 4294967296 or 4G")
    return int(float(m[1]) * 1024 ** " KMGT".index((m[2] or " ").upper())) if m[2] or "." in m[1] else int(m[1])
