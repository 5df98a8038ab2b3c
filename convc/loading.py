"""``convc.load``: a model from its artifact, whatever it was compiled for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from convc.ir.errors import ArtifactError, InputError

from .artifact import Artifact, read_artifact
from .many_sizes import ModelSet
from .model import CompiledModel, Model


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
        from .cpu_model import fitting, load_cpu_model

        return [load_cpu_model(path, part, threads) for part in fitting(path, parts)]
    if kinds == {"cuda"}:
        from .cuda_model import load_cuda_model

        if threads is not None:
            raise InputError(f"'{path}' runs on a GPU: threads is for models compiled for a processor")
        return [load_cuda_model(path, part, device) for part in parts]
    what = " and ".join(sorted(kinds)) or "nothing"
    raise ArtifactError(f"'{path}' was compiled for '{what}', which this version of convc does not know: update convc")
