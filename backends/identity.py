"""What identifies compiled code in the cache on disk: the compiler, and the ops that are not convc's own."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import uuid
from importlib import import_module
from pathlib import Path

from convc.ir.graph import Graph
from convc.ir.op import Op, from_outside
from convc.version import __version__

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy", "ml-dtypes", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime")
"""The packages, apart from convc itself, that compute weights or generate code."""


@functools.cache
def compiler() -> str:
    """A text that identifies this compiler: a hash of convc's source code, and the versions of the packages it uses."""
    digest = hashlib.sha256(__version__.encode())
    for package in ("convc", "convc.ir", "convc.backends"):
        folder = Path(import_module(package).__path__[0])
        for file in sorted(f for f in folder.rglob("*") if f.suffix in (".py", ".ll")):
            digest.update(f"{package}/{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
    return " ".join([digest.hexdigest(), *(f"{p} {_version(p)}" for p in _PACKAGES)])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def foreign_ops(graph: Graph) -> str:
    """A text that identifies the source of the ops of a graph that are not convc's own; empty when there are none."""
    ops = sorted(_ops(graph), key=lambda op: op.name)
    return "".join(f"{op.name} {_source(op)}\n" for op in ops if from_outside(op))


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
