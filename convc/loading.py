"""``convc.load``: a model from its artifact, whatever it was compiled for."""

from __future__ import annotations

import os

from convc.ir.errors import ArtifactError, InputError

from .artifact import read_artifact
from .model import CompiledModel


def load(path: str | os.PathLike[str], threads: int | None = None, *, device: int = 0) -> CompiledModel:
    """A model saved earlier. ``threads`` is for one compiled for a processor, ``device`` chooses the GPU for one that runs there.

    Raises ``ArtifactError`` when the file is damaged or was compiled for another processor. What is missing to run on a GPU is
    said at the first call (``DeviceError``), so that a model can be looked at on any machine.
    """
    artifact = read_artifact(path)
    kind = artifact.description.kind
    if kind == "cpu":
        from .cpu_model import load_cpu_model

        return load_cpu_model(path, artifact, threads)
    if kind == "cuda":
        from .cuda_model import load_cuda_model

        if threads is not None:
            raise InputError(f"'{path}' runs on a GPU: threads is for models compiled for a processor")
        return load_cuda_model(path, artifact, device)
    raise ArtifactError(f"'{path}' was compiled for '{kind}', which this version of convc does not know: update convc")
