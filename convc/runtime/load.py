"""``convc.load``: a model from its artifact, whatever it was compiled for."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from convc.ir.errors import ArtifactError

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
    models = load_parts(path, read_artifact(path), threads, device)
    return models[0] if len(models) == 1 else ModelSet(models, models)


def load_parts(
    path: str | os.PathLike[str], parts: Sequence[Artifact], threads: int | None, device: int
) -> list[CompiledModel]:
    """The models of the parts that suit this machine best; raises ``ArtifactError``, naming what is missing, when none does."""
    described = [part.description for part in parts]
    try:
        best = best_here(described)
        reasons = "; it ".join(dict.fromkeys(_runtime(d.kind).lacks(d) for d in described))
    except (LookupError, TypeError, AttributeError) as e:
        raise ArtifactError(f"'{path}' has a damaged description: {e!r}") from None
    if not best:
        raise ArtifactError(f"'{path}' {reasons}")
    return [_runtime(described[i].kind).load(path, parts[i], threads, device) for i in best]


def best_here(described: Sequence[Description]) -> list[int]:
    """Which of some models run here best: for each size, the one that suits the machine best. None may run here."""
    best: dict[Any, tuple[int, int]] = {}
    for i, d in enumerate(described):
        worth = _runtime(d.kind).suits(d)
        if worth >= 0 and (d.inputs not in best or worth > best[d.inputs][0]):
            best[d.inputs] = (worth, i)
    return [i for _, i in best.values()]


def model_of(models: Sequence[CompiledModel]) -> Model:
    """One compiled model as it is, and several as a set, which runs those that suit this machine best."""
    if len(models) == 1:
        return models[0]
    return ModelSet(models, [models[i] for i in best_here([m.description for m in models])])


def facts(description: Description) -> list[tuple[str, str]]:
    """What there is to know of a compiled model besides its ports, as names and values for people to read."""
    found: list[tuple[str, str]] = _runtime(description.kind).facts(description)
    return found


def _runtime(kind: str) -> ModuleType:
    """The module that runs code of a kind: ``lacks`` and ``suits`` judge a description, ``load`` makes the model."""
    name = f"{__package__}.{kind}.model"
    if not (isinstance(kind, str) and kind.isidentifier() and importlib.util.find_spec(f"{__package__}.{kind}")):
        raise ArtifactError(f"it was compiled for '{kind}', which this version of convc does not know: update convc")
    return import_module(name)
