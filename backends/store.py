"""The files of the cache on disk, which all processes of a user share.

They are in the subfolder ``compiled`` of the cache folder (``convc/runtime/files.py``): compiled models and compiled
kernels, each named by a hash of all that determines it. Together they take at most ``$CONVC_CACHE_BYTES`` bytes, such
as ``4G``, by default 4 GiB; those that were used longest ago are deleted to make room.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convc.ir.errors import CompileError, ConvcError, warn
from convc.runtime.files import cache_folder, write_aside

LIMIT = 4 << 30
"""The default size limit in bytes."""
PATIENCE = 10.0
"""The number of seconds to wait for another process that writes to the cache. After them nothing is stored."""
LEFTOVER = 3600.0
"""An unfinished file that is older than this many seconds was left by a process that died, and is deleted."""
LOCK = "lock"
"""The name of the file that a process holds a lock on while it deletes and writes."""


@dataclass(frozen=True)
class Store:
    """A folder of files of at most ``limit`` bytes in all. Several processes may use it at once."""

    folder: Path
    limit: int

    def path(self, name: str) -> Path:
        """The path of a file, which may not be there."""
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        """The content of a file, which counts as used now; ``None`` when there is none, or when it cannot be read."""
        try:
            data = self.path(name).read_bytes()
        except OSError:
            return None
        self.used(name)
        return data

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
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                self._make_room(size, files)
                for name, chunks in files.items():
                    write_aside(self.path(name), *chunks)
        except (ConvcError, OSError, ValueError) as e:
            warn(f"convc keeps nothing that it compiled in '{self.folder}': {e}")

    def _make_room(self, size: int, names: Mapping[str, object]) -> None:
        """Delete the least recently used files until ``size`` more bytes, to be written to these names, fit the limit.

        Unfinished files of processes that died are deleted as well.
        """
        held = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat = entry.stat()
                    if entry.name.endswith(".part"):
                        if time.time() - stat.st_mtime > LEFTOVER:
                            os.unlink(entry.path)
                    elif entry.name != LOCK and entry.name not in names:
                        held.append((stat.st_mtime_ns, stat.st_size, entry.path))
        total = sum(nbytes for _, nbytes, _ in held)
        for _, nbytes, path in sorted(held):
            if total + size <= self.limit:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= nbytes

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
        with open(self.folder / LOCK, "w") as f:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise OSError(f"another process has held its lock for {PATIENCE:g} s") from None
                    time.sleep(0.02)
            yield  # closing the file releases the lock


def store() -> Store | None:
    """The files of the cache; ``None`` when ``CONVC_CACHE`` turns it off (``cache_folder``).

    Raises ``CompileError`` when ``CONVC_CACHE_BYTES`` is not a number of bytes.
    """
    folder = cache_folder()
    limit = _bytes(os.environ.get("CONVC_CACHE_BYTES", str(LIMIT)))
    return Store(folder / "compiled", limit) if folder else None


def _bytes(text: str) -> int:
    """A number of bytes such as ``4294967296``, ``4G``, ``4 GiB`` or ``0.5g``; units are powers of 1024."""
    m = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{0,9})?)\s*(?:([KMGT])(?:i?B)?|B)?\s*", text, re.IGNORECASE | re.ASCII)
    if m is None:
        raise CompileError(f"CONVC_CACHE_BYTES is '{text}', and must be a number of bytes, such as 4294967296 or 4G")
    return int(float(m[1]) * 1024 ** " KMGT".index((m[2] or " ").upper())) if m[2] or "." in m[1] else int(m[1])
