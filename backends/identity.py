"""What determines compiled code in the cache on disk: the compiler, and nothing that is not convc's own."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from convc.ir.graph import Graph
from convc.ir.op import from_outside
from convc.version import LOADED, __version__

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy", "ml-dtypes", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime")
"""The packages, apart from convc itself, that compute weights or generate code."""


@functools.cache
def compiler() -> str:
    """A text that identifies this compiler: a hash of convc's source code, and the versions of the packages it uses."""
    digest = hashlib.sha256(__version__.encode())
    for package, folder in _folders():
        for file in sorted(Path(path) for path, _ in _sources(str(folder))):
            digest.update(f"{package}/{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
    return " ".join([digest.hexdigest(), *(f"{p} {v}" for p, v in _versions(_PACKAGES).items())])


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages by their names, ``none`` for those that are not installed.

    They stand in the names of the folders that installers leave (``numpy-2.1.0.dist-info``). The module
    ``importlib.metadata``, which reads these folders, takes long to load and is asked about the others only.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        with suppress(OSError):
            for name in os.listdir(place or "."):
                if m := re.fullmatch(r"([\w.]+)-([\w.+!]+)\.dist-info", name):
                    found.setdefault(_normal(m[1]), m[2])
    return {p: found.get(_normal(p)) or _version(p) for p in packages}


def _normal(package: str) -> str:
    """The name of a package as PEP 503 normalizes it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def is_current() -> bool:
    """Whether convc's source on disk is still what this process has loaded, or will load when it needs it.

    It is not once a file was edited, or another version was installed, while the process runs. Then nothing identifies
    this compiler.
    """
    try:
        return _times() == _times_at_first()
    except OSError:  # a file was removed meanwhile
        return False


@functools.cache
def _times_at_first() -> dict[str, int] | None:
    """``_times`` when it was first asked for; ``None`` when a file had changed since convc was loaded."""
    times = _times()
    return times if max(os.stat(path).st_ctime_ns for path in times) <= LOADED else None


def _times() -> dict[str, int]:
    """When each file of convc's source was written, by its path."""
    return {path: stat.st_mtime_ns for _, folder in _folders() for path, stat in _sources(str(folder))}


def _folders() -> list[tuple[str, Path]]:
    """The packages that hold convc's source, and their folders."""
    return [(p, Path(import_module(p).__path__[0])) for p in ("convc", "convc.ir", "convc.backends")]


def _sources(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The files of convc's source in a folder and its subfolders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _sources(entry.path)
            elif entry.name.endswith((".py", ".ll")) and not entry.name.startswith("."):  # an editor makes such files
                yield entry.path, entry.stat()


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def is_own(graph: Graph) -> bool:
    """Whether all ops of a graph are convc's own.

    What another op computes may depend on anything: on other files, on variables around its class, on the environment.
    The text of the graph does not determine its code, which is not kept on disk therefore.
    """
    return not any(from_outside(type(op)) for op in graph.all_ops())
