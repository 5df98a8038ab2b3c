"""``convc.load``, which loads a compiled model from its artifact, on whatever device it runs."""

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


def load(path: str | os.PathLike[str], threads: int | None = None, *, device: int | None = None) -> Model:
    """Load a model from an artifact.

    ``threads`` is the number of threads that a call uses, for models compiled for CPUs. ``device`` is the number of the
    GPU, for models compiled for GPUs, by default 0. Raises ``InputError`` when the one is given for the other.

    Of an artifact for several CPU targets, the code that suits this processor best is loaded. An artifact for several
    sizes gives a ``ModelSet`` of all of them, which chooses by the shapes of its inputs.

    Raises ``ArtifactError`` when the file is damaged or holds no code for this processor. A GPU or a driver that is
    missing is reported at the first call, as a ``DeviceError``, so that a model can be inspected on any machine.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArtifactError(f"load takes the path of an artifact, not {path!r}")
    parts = read_artifact(path)
    models = load_parts(path, parts, threads, device)
    model = models[0] if len(models) == 1 else ModelSet(models, models)
    model._file = parts
    return model


def load_parts(
    path: str | os.PathLike[str], parts: Sequence[Artifact], threads: int | None, device: int | None
) -> list[CompiledModel]:
    """Load those parts of an artifact that suit this machine best, one for each shape of the inputs.

    Raises ``ArtifactError``, with what the processor lacks, when this machine can run none of them.
    """
    described = [part.description for part in parts]
    try:
        best = best_here(described)
        reasons = "; it ".join(dict.fromkeys(_runtime(d.kind).lacks(d) for d in described))
    except (LookupError, TypeError, AttributeError) as e:
        raise ArtifactError(f"'{path}' has a damaged description") from e
    if not best:
        raise ArtifactError(f"'{path}' {reasons}")
    return [_runtime(described[i].kind).load(path, parts[i], threads, device) for i in best]


def best_here(described: Sequence[Description]) -> list[int]:
    """The indices of the models that run best on this machine, one for each shape of the inputs.

    The list is empty when this machine can run none of them.
    """
    best: dict[Any, tuple[int, int]] = {}
    for i, d in enumerate(described):
        worth = _runtime(d.kind).suits(d)
        if worth >= 0 and (d.inputs not in best or worth > best[d.inputs][0]):
            best[d.inputs] = (worth, i)
    return [i for _, i in best.values()]


def model_of(models: Sequence[CompiledModel]) -> Model:
    """A single compiled model itself, or a ``ModelSet`` of several, which runs those that suit this machine best."""
    if len(models) == 1:
        return models[0]
    return ModelSet(models, [models[i] for i in best_here([m.description for m in models])])


def facts(description: Description) -> list[tuple[str, str]]:
    """Facts about a compiled model other than its inputs and outputs, as names and values to be printed.

    Raises ``ArtifactError`` when the description is damaged.
    """
    try:
        found: list[tuple[str, str]] = _runtime(description.kind).facts(description)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise ArtifactError(f"the description of '{description.name}' is damaged: {e}") from e
    return found


def _runtime(kind: str) -> ModuleType:
    """The module of the runtime for code of a kind.

    Its functions ``lacks`` and ``suits`` judge a description, ``facts`` explains it, and ``load`` makes the model.
    Raises ``ArtifactError`` for an unknown kind.
    """
    name = f"{__package__}.{kind}.model"
    if not (isinstance(kind, str) and kind.isidentifier() and importlib.util.find_spec(f"{__package__}.{kind}")):
        raise ArtifactError(f"it was compiled for '{kind}', which this version of convc does not know: update convc")
    return import_module(name)
