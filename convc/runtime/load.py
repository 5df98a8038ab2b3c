"""``convc.load``: a model from its artifact, whatever it was compiled for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from convc.backends.cpu.target import Target, host_target
from convc.ir.errors import ArtifactError, InputError

from .artifact import Artifact, read_artifact
from .description import Description
from .model import CompiledModel, Model
from .model_set import ModelSet


def load(path: str | os.PathLike[str], threads: int | None = None, *, device: int = 0) -> Model:
    """A model saved earlier. ``threads`` is for one compiled for a processor, ``device`` chooses the GPU for one that runs there.

    Of an artifact for several processors, what suits this one best is loaded; one of several sizes is loaded with all of them,
    and picks by the shapes of its inputs.

    Raises ``ArtifactError`` when the file is damaged or was compiled for other processors. What is missing to run on a GPU is
    said at the first call (``DeviceError``), so that a model can be looked at on any machine.
    """
    parts = read_artifact(path)
    models = load_parts(path, parts, threads, device)
    return models[0] if len(models) == 1 else ModelSet(models, models)


def load_parts(
    path: str | os.PathLike[str], parts: Sequence[Artifact], threads: int | None, device: int
) -> list[CompiledModel]:
    """The models of the parts that are for this machine."""
    kinds = {part.description.kind for part in parts}
    if kinds == {"cpu"}:
        from .cpu.model import load_cpu_model

        return [load_cpu_model(path, part, threads) for part in fitting(path, parts)]
    if kinds == {"cuda"}:
        from .cuda.model import load_cuda_model

        if threads is not None:
            raise InputError(f"'{path}' runs on a GPU: threads is for models compiled for a processor")
        return [load_cuda_model(path, part, device) for part in parts]
    what = " and ".join(sorted(kinds)) or "nothing"
    raise ArtifactError(f"'{path}' was compiled for '{what}', which this version of convc does not know: update convc")


def lacking(details: Mapping[str, Any]) -> str:
    """What stands in the way of running here, as the end of a sentence; empty when nothing does."""
    host = host_target()
    family = Target("cpu", details["mcpu"], details["triple"]).family
    missing = host.lacks(family, details["features"])
    return (
        missing and f"was compiled for {details['mcpu']} and needs what this processor ({host.mcpu}) lacks: {missing}"
    )


def best_here(described: Sequence[Description]) -> list[int]:
    """Which of some models run here best: for each size, the one that uses most of the processor's features."""
    best: dict[Any, int] = {}
    for i, d in enumerate(described):
        if d.kind == "cpu" and lacking(d.details):
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
        reasons = "; it ".join(dict.fromkeys(lacking(d.details) for d in described))
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
