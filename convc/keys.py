"""The key of a compiled model in the cache on disk: a hash of all that decides what is compiled."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import convc
import convc.backends
import convc.ir
from convc.ir.graph import Graph
from convc.ir.text import print_graph

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
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{package.__name__}/{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
    return " ".join([digest.hexdigest(), *(f"{p} {_version(p)}" for p in _PACKAGES)])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
