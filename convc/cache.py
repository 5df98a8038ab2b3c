"""Compiled models kept on disk, for all processes of a user: a bounded number of bytes, the ones used longest ago deleted first.

They are artifacts in ``compiled/`` in the cache folder (``database.py``), named by their keys. ``$CONVC_CACHE_BYTES`` is the
most that they take together, by default 4 GiB. A file that is damaged, or is not what its name says, is compiled anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import convc
import convc.backends
import convc.ir
from convc.ir.errors import CompileError, ConvcError
from convc.ir.graph import Graph
from convc.ir.text import print_graph

from .runtime.artifact import artifact_chunks, read_artifact
from .runtime.files import cache_folder, write_aside
from .runtime.load import load_parts
from .runtime.model import CompiledModel

LIMIT = 4 << 30
"""Bytes, when nobody says."""
PATIENCE = 10.0
"""Seconds to wait for another process that writes; after that nothing is kept."""
LEFTOVER = 3600.0
"""Seconds after which a file that was not finished belongs to a process that died."""


@dataclass(frozen=True)
class DiskCache:
    """Artifacts by key in one folder, together at most ``limit`` bytes. Safe to use from several processes."""

    folder: Path
    limit: int

    def load(self, key: str, threads: int | None) -> CompiledModel | None:
        """The model under a key; ``None`` when there is none, or none that is sound."""
        path = self._path(key)
        try:
            (part,) = read_artifact(path)
            if part.description.key != key:
                return None
            plain = replace(part, description=replace(part.description, key=""))  # saved again, it is as if compiled
            (model,) = load_parts(path, [plain], threads, 0)
            with contextlib.suppress(OSError):  # another process may have deleted it meanwhile
                os.utime(path)
            return model
        except (ConvcError, OSError, ValueError):
            return None

    def store(self, key: str, model: CompiledModel) -> None:
        """Keep a model, if it can be: what hinders it is said in a warning, since nothing is wrong with the model itself."""
        try:
            part = model.part()
            chunks = artifact_chunks([part._replace(description=replace(part.description, key=key))])
            size = sum(map(len, chunks))
            if size > self.limit:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                self._make_room(size, self._path(key))
                write_aside(self._path(key), *chunks)
        except (ConvcError, OSError, ValueError) as e:
            warnings.warn(f"convc keeps no compiled model in '{self.folder}': {e}", stacklevel=2)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.convc"

    def _make_room(self, size: int, path: Path) -> None:
        """Delete what was used longest ago until so many bytes more are within the limit."""
        for part in self.folder.glob(".convc-*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > LEFTOVER:
                    part.unlink()
        held = []
        for file in self.folder.glob("*.convc"):
            with contextlib.suppress(OSError):
                stat = file.stat()
                held.append((stat.st_mtime_ns, stat.st_size, file))
        total = sum(s for _, s, file in held if file != path)
        for _, nbytes, file in sorted(held):
            if total + size <= self.limit:
                return
            if file != path:
                file.unlink(missing_ok=True)
                total -= nbytes

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time delete and write; raises ``OSError`` when another one does not finish."""
        try:
            import fcntl
        except ImportError:  # not on Windows: the limit may then be passed for a moment
            yield
            return
        with open(self.folder / "lock", "w") as f:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise OSError(f"another process has held its lock for {PATIENCE:g} s") from None
                    time.sleep(0.02)
            yield  # closing the file opens the lock


def disk_cache() -> DiskCache | None:
    """The cache on disk; ``None`` when ``CONVC_CACHE`` is set to nothing. Raises ``CompileError`` for a limit that is no number."""
    folder = cache_folder()
    text = os.environ.get("CONVC_CACHE_BYTES", str(LIMIT))
    if not text.isdecimal():
        raise CompileError(f"CONVC_CACHE_BYTES is '{text}', and must be a number of bytes")
    return DiskCache(folder / "compiled", int(text)) if folder else None


def through(
    cache: DiskCache | None, key: Callable[[], str], threads: int | None, make: Callable[[], CompiledModel]
) -> CompiledModel:
    """The model under a key, from the cache or made and put there."""
    if cache is None:
        return make()
    name = key()
    found = cache.load(name, threads)
    if found is None:
        found = make()
        cache.store(name, found)
    return found


FORMAT = "convc-cache-1"


_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy", "nvidia-cuda-nvrtc")
"""What computes weights or makes code, apart from convc itself."""


def cache_key(graph: Graph, options: Mapping[str, Any]) -> str:
    """SHA-256 over a graph of static shapes, the content of its constants, what it is compiled for (JSON), and the compiler."""
    digest = hashlib.sha256(f"{FORMAT}\n{compiler()}\n".encode())
    digest.update(json.dumps(options, sort_keys=True).encode())
    digest.update(f"\n{print_graph(graph)}\n{graph.output_names}\n".encode())
    for name, constant in graph.constants.items():
        digest.update(f"{name} {constant.digest}\n".encode())
    return digest.hexdigest()


@functools.cache
def compiler() -> str:
    """What is the same for equal compilers only: a hash of convc's own source, and the versions of what it builds on."""
    digest = hashlib.sha256(convc.__version__.encode())
    for package in (convc, convc.ir, convc.backends):
        folder = Path(package.__path__[0])
        for file in sorted(f for f in folder.rglob("*") if f.suffix in (".py", ".ll")):
            digest.update(f"{package.__name__}/{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
    return " ".join([digest.hexdigest(), *(f"{p} {_version(p)}" for p in _PACKAGES)])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
