"""A model compiled for a processor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from convc.backends.build import Kernel, export_library
from convc.backends.memory import Plan
from convc.backends.runtime import Program, load_module
from convc.backends.target import host_target
from convc.ir.errors import ArtifactError, ConvcError, InputError

from .artifact import Artifact, Description
from .model import CompiledModel, available_processors


class CpuModel(CompiledModel):
    """Machine code for this processor.

    The details of its description: ``mcpu`` and ``features``, what it was compiled for; ``threads``, how many a call uses; and
    ``memory``, the plan of the memory that the code runs in (``backends/memory.py``).
    """

    def __init__(
        self,
        module: Any,
        description: Description,
        weights: Mapping[str, np.ndarray],
        threads: int | None = None,
        kernels: Sequence[Kernel] = (),
        artifact: Artifact | None = None,
    ) -> None:
        super().__init__(description, weights, kernels, artifact)
        self._module = module
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise InputError(f"threads must be an integer of at least 1, not {threads!r}")
        self.threads: int = threads or description.details["threads"] or available_processors()
        self._program = Program(
            module,
            Plan.of(description.details["memory"]),
            weights,
            self._ports,
            [(p.shape, np.dtype(p.dtype)) for p in self.outputs],
            self.threads,
            artifact.release if artifact else lambda: None,
        )

    def _compute(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._program(arrays)

    def _code(self) -> bytes:
        try:
            with TemporaryDirectory(prefix="convc-") as folder:
                library = Path(folder) / "model.so"
                export_library(self._module, library)
                return library.read_bytes()
        except OSError as e:
            raise ArtifactError(f"cannot link the artifact in a temporary folder: {e}") from None


def load_cpu_model(path: str | os.PathLike[str], artifact: Artifact, threads: int | None) -> CpuModel:
    """A model from its artifact; raises ``ArtifactError`` when it is for another processor or does not start."""
    description = artifact.description
    host = host_target()
    try:
        mcpu, features = description.details["mcpu"], set(description.details["features"])
    except (LookupError, TypeError) as e:
        raise ArtifactError(f"'{path}' has a damaged description: {e!r}") from None
    missing = sorted(features - host.features)
    if missing:
        raise ArtifactError(
            f"'{path}' was compiled for {mcpu} and needs what this processor ({host.mcpu}) lacks: {', '.join(missing)}"
        )
    try:
        module = load_module(Path(path).resolve())
    except Exception as e:  # TVM and the dynamic loader raise errors of many kinds
        raise ArtifactError(f"'{path}' cannot be loaded: {e}") from e
    try:
        return CpuModel(module, description, artifact.weights, threads, artifact=artifact)
    except ConvcError:
        raise
    except Exception as e:
        raise ArtifactError(f"'{path}' does not start: {e}") from e
