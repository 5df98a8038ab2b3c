"""The cache of compiled models on disk, which all processes of a user share.

Every entry is an artifact in the subfolder ``compiled`` of the cache folder (``runtime/files.py``), named by its key.
Together the entries take at most ``$CONVC_CACHE_BYTES`` bytes, such as ``4G``, by default 4 GiB; those that were used
longest ago are deleted to make room. When an entry is damaged, or does not hold the model that its name says, the model
is compiled anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import convc
import convc.backends
import convc.ir
from convc.ir.errors import CompileError, ConvcError, warn
from convc.ir.graph import Graph
from convc.ir.op import Op, from_outside
from convc.ir.text import print_graph

from .runtime.artifact import artifact_chunks, read_artifact
from .runtime.files import cache_folder, write_aside
from .runtime.load import load_parts
from .runtime.model import CompiledModel

LIMIT = 4 << 30
"""The default size limit in bytes."""
PATIENCE = 10.0
"""The number of seconds to wait for another process that writes to the cache. After them the model is not stored."""
LEFTOVER = 3600.0
"""An unfinished file that is older than this many seconds was left by a process that died, and is deleted."""


@dataclass(frozen=True)
class DiskCache:
    """A folder of artifacts, named by key, of at most ``limit`` bytes in all. Several processes may use it at once."""

    folder: Path
    limit: int

    def load(self, key: str, threads: int | None) -> CompiledModel | None:
        """The model stored under a key; ``None`` when there is none, or when it cannot be read."""
        path = self._path(key)
        try:
            (part,) = read_artifact(path)
            if part.description.key != key:
                return None
            plain = replace(part, description=replace(part.description, key=""))  # the key is not part of the model
            (model,) = load_parts(path, [plain], threads, None)
            with contextlib.suppress(OSError):  # another process may have deleted the file meanwhile
                os.utime(path)
            return model
        except (ConvcError, OSError, ValueError):
            return None

    def store(self, key: str, model: CompiledModel) -> None:
        """Store a model under a key, unless it is larger than the limit.

        A failure is reported as a warning, not as an error, because the model itself is sound.
        """
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
            warn(f"convc keeps no compiled model in '{self.folder}': {e}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.convc"

    def _make_room(self, size: int, path: Path) -> None:
        """Delete the least recently used artifacts until ``size`` more bytes, to be written to ``path``, fit the limit.

        Unfinished files of processes that died are deleted as well.
        """
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
        """Hold the folder's lock, so that one process at a time deletes and writes.

        Raises ``OSError`` when another process holds the lock for more than ``PATIENCE`` seconds.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no fcntl; without the lock the limit may be exceeded for a moment
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
            yield  # closing the file releases the lock


def disk_cache() -> DiskCache | None:
    """The cache on disk; ``None`` when ``CONVC_CACHE`` turns it off (``cache_folder``).

    Raises ``CompileError`` when ``CONVC_CACHE_BYTES`` is not a number of bytes.
    """
    folder = cache_folder()
    limit = _bytes(os.environ.get("CONVC_CACHE_BYTES", str(LIMIT)))
    return DiskCache(folder / "compiled", limit) if folder else None


def _bytes(text: str) -> int:
    """A number of bytes such as ``4294967296``, ``4G``, ``4 GiB`` or ``0.5g``; units are powers of 1024."""
    m = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{0,9})?)\s*(?:([KMGT])(?:i?B)?|B)?\s*", text, re.IGNORECASE | re.ASCII)
    if m is None:
        raise CompileError(f"CONVC_CACHE_BYTES is '{text}', and must be a number of bytes, such as 4294967296 or 4G")
    return int(float(m[1]) * 1024 ** " KMGT".index((m[2] or " ").upper())) if m[2] or "." in m[1] else int(m[1])


def through(
    cache: DiskCache | None, key: Callable[[], str], threads: int | None, make: Callable[[], CompiledModel]
) -> CompiledModel:
    """The model under a key, loaded from the cache or else made and stored there. Without a cache it is always made."""
    if cache is None:
        return make()
    name = key()
    found = cache.load(name, threads)
    if found is None:
        found = make()
        cache.store(name, found)
    return found


FORMAT = "convc-cache-1"


_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy", "ml-dtypes", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime")
"""The packages, apart from convc itself, that compute weights or generate code."""


def cache_key(graph: Graph, options: Mapping[str, Any]) -> str:
    """The key of a compiled model: a SHA-256 hash, in hexadecimal, of all that determines it.

    The hash covers the graph, whose shapes are static, the content of its constants, the options, which are
    JSON-compatible, the compiler, and the source of ops that are not convc's own.
    """
    digest = hashlib.sha256(f"{FORMAT}\n{compiler()}\n".encode())
    digest.update(json.dumps(options, sort_keys=True).encode())
    digest.update(f"\n{print_graph(graph)}\n{graph.output_names}\n".encode())
    for constant in graph.all_constants():
        digest.update(f"{constant.digest}\n".encode())
    for op in sorted(_ops(graph), key=lambda op: op.name):
        if from_outside(op):
            digest.update(f"{op.name} {_source(op)}\n".encode())
    return digest.hexdigest()


def _ops(graph: Graph) -> set[type[Op]]:
    """The classes of all ops of a graph, and of the graphs among the attributes of its nodes."""
    inner = [_ops(body) for node in graph.nodes for body in node.op.bodies()]
    return {type(node.op) for node in graph.nodes}.union(*inner)


def _source(op: type) -> str:
    """What determines an op that is not convc's own: a hash of its file, or, without one, text that never recurs."""
    try:
        return hashlib.sha256(Path(inspect.getsourcefile(op) or "").read_bytes()).hexdigest()
    except (OSError, TypeError):
        return uuid.uuid4().hex


@functools.cache
def compiler() -> str:
    """A text that identifies this compiler: a hash of convc's source code, and the versions of the packages it uses."""
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
