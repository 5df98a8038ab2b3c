"""Compiled models in the cache on disk (``backends/store.py``).

Every entry is an artifact that is named by its key. When an entry is damaged, or does not hold the model that its name
says, the model is compiled anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from convc.backends.identity import compiler
from convc.backends.store import Store
from convc.ir.errors import ConvcError, warn
from convc.ir.graph import Graph
from convc.ir.text import print_graph

from .runtime.artifact import artifact_chunks, read_artifact
from .runtime.load import load_parts
from .runtime.model import CompiledModel


def load(files: Store, key: str, threads: int | None) -> CompiledModel | None:
    """The model stored under a key; ``None`` when there is none, or when it cannot be read."""
    path = files.path(_file(key))
    try:
        (part,) = read_artifact(path)
        if part.description.key != key:
            return None
        plain = replace(part, description=replace(part.description, key=""))  # the key is not part of the model
        (model,) = load_parts(path, [plain], threads, None)
        files.used(path.name)
        return model
    except (ConvcError, OSError, ValueError):
        return None


def keep(files: Store, key: str, model: CompiledModel) -> None:
    """Store a model under a key. A failure is reported as a warning, because the model itself is sound."""
    try:
        part = model.part()
        chunks = artifact_chunks([part._replace(description=replace(part.description, key=key))])
    except (ConvcError, OSError, ValueError) as e:
        warn(f"convc keeps no compiled model in '{files.folder}': {e}")
    else:
        files.write({_file(key): chunks})


def _file(key: str) -> str:
    return f"{key}.convc"


def through(
    cache: Store | None, key: Callable[[], str], threads: int | None, make: Callable[[], CompiledModel]
) -> CompiledModel:
    """The model under a key, loaded from the cache or else made and stored there. Without a cache it is always made."""
    if cache is None:
        return make()
    name = key()
    found = load(cache, name, threads)
    if found is None:
        found = make()
        keep(cache, name, found)
    return found


FORMAT = "convc-cache-1"


def cache_key(graph: Graph, options: Mapping[str, Any]) -> str:
    """The key of a compiled model: a SHA-256 hash, in hexadecimal, of all that determines it.

    The hash covers the graph, whose shapes are static, the content of its constants, the options, which are
    JSON-compatible, and the compiler. The ops of the graph must be convc's own (``is_own``).
    """
    digest = hashlib.sha256(f"{FORMAT}\n{compiler()}\n".encode())
    digest.update(json.dumps(options, sort_keys=True).encode())
    digest.update(f"\n{print_graph(graph)}\n{graph.output_names}\n".encode())
    for constant in graph.all_constants():
        digest.update(f"{constant.digest}\n".encode())
    return digest.hexdigest()
