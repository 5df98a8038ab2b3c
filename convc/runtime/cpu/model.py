"""A model compiled for a processor: this one, or another, for which it can only be saved."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convc.backends.cpu.link import link
from convc.backends.cpu.target import Target, host_target
from convc.backends.kernels import Kernel
from convc.ir.errors import ArtifactError, ConvcError, DeviceError, InputError

from ..artifact import Artifact
from ..description import Description
from ..load import lacking
from ..model import CompiledModel
from ..processors import available_processors
from .code import load_code
from .memory import Plan
from .program import Program


class CpuModel(CompiledModel):
    """Machine code for a processor. The weights are packed when it runs first, or at load.

    The details of its description: ``triple``, ``mcpu`` and ``features``, what it was compiled for; ``threads``, how many a
    call uses; and ``memory``, the plan of the memory that the code runs in (``backends/memory.py``).
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
        self._lock = threading.Lock()
        self._plan = Plan.of(description.details["memory"])
        self._running: Program | None = None

    @property
    def program(self) -> Program:
        """The model with its weights packed; raises ``DeviceError`` when it was compiled for another processor."""
        with self._lock:
            if self._running is None:
                missing = lacking(self._description.details)
                if missing:
                    raise DeviceError(f"the model {missing}: save it, and load it there")
                self._running = Program(
                    self._module,
                    self._plan,
                    self._weights,
                    self._ports,
                    self._made,
                    self.threads,
                    self._artifact.release if self._artifact else lambda: None,
                )
            return self._running

    @property
    def nbytes(self) -> int:
        """The memory it takes when it was called by one thread: packed weights, workspace, and the weights where none maps them."""
        kept = 0 if self._artifact else sum(w.nbytes for w in self._weights.values())
        return self._plan.packed + self._plan.workspace + kept

    def _compute(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return (self._running or self.program)(arrays)

    def _code(self) -> bytes:
        details = self._description.details
        return link(self._module, Target("cpu", details["mcpu"], details["triple"]), host_target())


def load_cpu_model(path: str | os.PathLike[str], artifact: Artifact, threads: int | None) -> CpuModel:
    """A model from a part of an artifact that runs here; raises ``ArtifactError`` when it does not start."""
    try:
        module = load_code(artifact.code)
    except Exception as e:  # TVM and the dynamic loader raise errors of many kinds
        raise ArtifactError(f"'{path}' cannot be loaded: {e}") from e
    try:
        model = CpuModel(module, artifact.description, artifact.weights, threads, artifact=artifact)
        _ = model.program
        return model
    except ConvcError:
        raise
    except Exception as e:
        raise ArtifactError(f"'{path}' does not start: {e}") from e
