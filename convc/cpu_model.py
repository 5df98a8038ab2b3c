"""A model compiled for a processor: this one, or another, for which it can only be saved."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convc.backends.kernels import Kernel
from convc.backends.link import link, load_code
from convc.backends.memory import Plan
from convc.backends.runtime import Program
from convc.backends.target import Target, host_target
from convc.ir.errors import ArtifactError, ConvcError, DeviceError, InputError

from .artifact import Artifact, Description
from .many_sizes import ModelSet
from .model import CompiledModel, Model
from .processors import available_processors


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
                lacking = _lacking(self._description.details)
                if lacking:
                    raise DeviceError(f"the model {lacking}: save it, and load it there")
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


def _lacking(details: Mapping[str, Any]) -> str:
    """What stands in the way of running here, as the end of a sentence; empty when nothing does."""
    host = host_target()
    family = Target("cpu", details["mcpu"], details["triple"]).family
    lacking = host.lacks(family, details["features"])
    return (
        lacking and f"was compiled for {details['mcpu']} and needs what this processor ({host.mcpu}) lacks: {lacking}"
    )


def best_here(described: Sequence[Description]) -> list[int]:
    """Which of some models run here best: for each size, the one that uses most of the processor's features."""
    best: dict[Any, int] = {}
    for i, d in enumerate(described):
        if d.kind == "cpu" and _lacking(d.details):
            continue
        known = described[best.setdefault(d.inputs, i)]
        if d.kind == "cpu" and len(d.details["features"]) > len(known.details["features"]):
            best[d.inputs] = i
    return list(best.values())


def fitting(path: str | os.PathLike[str], parts: Sequence[Artifact]) -> list[Artifact]:
    """The parts that run here best; raises ``ArtifactError``, naming what is missing, when none does."""
    described = [part.description for part in parts]
    try:
        best = best_here(described)
        reasons = "; it ".join(dict.fromkeys(_lacking(d.details) for d in described))
    except (LookupError, TypeError, AttributeError) as e:
        raise ArtifactError(f"'{path}' has a damaged description: {e!r}") from None
    if not best:
        raise ArtifactError(f"'{path}' {reasons}")
    return [parts[i] for i in best]


def model_of(models: Sequence[CompiledModel]) -> Model:
    """One compiled model as it is, and several as a set, which runs those that suit this processor best."""
    if len(models) == 1:
        return models[0]
    return ModelSet(models, [models[i] for i in best_here([m.description for m in models])])


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
