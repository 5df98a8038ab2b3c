"""Models of several sizes, compiled ahead: one for each size, in one artifact."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.ir.errors import InputError
from convc.ir.sizes import Bound, mismatch

from .artifact import write_artifact
from .description import Port
from .model import CompiledModel, Model, any_array, check_dtype


class ManySizes(Model):
    """What has a compiled model for each size that it takes."""

    _inputs: tuple[Port, ...]
    _outputs: tuple[Port, ...]

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each input. A size that is open has a name; one of several is given with all: ``224|320``."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each output, as far as they are known."""
        return self._outputs

    def _run(self, arrays: Sequence[Any]) -> tuple[list[Any], Sequence[str]]:
        if len(arrays) != len(self.inputs):
            raise self._wrong_count(len(arrays))
        read = [readable(port, array) for port, array in zip(self.inputs, arrays, strict=True)]
        return self._pick(read)._run(read)

    @abstractmethod
    def _pick(self, arrays: Sequence[Any]) -> CompiledModel:
        """The compiled model for readable inputs; raises ``InputError`` when there is and can be none."""


class ModelSet(ManySizes):
    """Compiled models of one network: one for each of several sizes, and for each of several processors.

    It runs those for this processor; saving writes them all into one artifact, where they share their weights.
    """

    _kind = "ModelSet"

    def __init__(self, models: Sequence[CompiledModel], here: Sequence[CompiledModel]) -> None:
        """``here`` are those of the models that run here, one a size."""
        self._models = tuple(models)
        self._by_shapes = {tuple(p.sizes for p in m.inputs): m for m in here}
        self.name = models[0].name
        self._inputs, self._outputs = (
            tuple(map(joined, zip(*ports, strict=True)))
            for ports in ((m.inputs for m in models), (m.outputs for m in models))
        )

    @property
    def models(self) -> tuple[CompiledModel, ...]:
        """The compiled models."""
        return self._models

    def _pick(self, arrays: Sequence[Any]) -> CompiledModel:
        shapes = tuple(tuple(map(int, array.shape)) for array in arrays)
        if shapes not in self._by_shapes:
            given = _named(self._input_names, shapes)
            held = "; ".join(_named(self._input_names, s) for s in self._by_shapes) or "none that this processor runs"
            raise InputError(f"the model was not compiled for {given}; it holds {held}")
        return self._by_shapes[shapes]

    def save(self, path: str | os.PathLike[str]) -> None:
        write_artifact(path, [m.part() for m in self._models])


def _named(names: Sequence[str], shapes: Shapes) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes, strict=True))


Shapes = tuple[tuple[int, ...], ...]
"""The shape of each input, in order."""


def readable(port: Port, given: Any) -> Any:
    """An input whose ``shape`` and ``dtype`` can be read: it, where it has both, and else a numpy array of it."""
    return given if hasattr(given, "shape") and hasattr(given, "dtype") else any_array(port, given)


def shapes_of(ports: Sequence[Port], arrays: Sequence[Any]) -> Shapes:
    """The shapes of readable inputs, which agree with the ports; raises ``InputError`` naming the input, the axis and the size."""
    bound: Bound = {}
    shapes = []
    for port, array in zip(ports, arrays, strict=True):
        shape = tuple(int(size) for size in array.shape)
        name = str(array.dtype).rpartition(".")[2]  # torch.float32
        if isinstance(array, np.ndarray) or name in np.sctypeDict:
            check_dtype(port, name)
        wrong = mismatch(f"input '{port.name}'", port.shape, shape, bound)
        if wrong:
            raise InputError(wrong)
        shapes.append(shape)
    return tuple(shapes)


def joined(ports: Sequence[Port]) -> Port:
    """One port of several models of a network: where their sizes differ, all of them as a name."""
    first = ports[0]
    if any(len(p.shape) != len(first.shape) for p in ports):
        return Port(first.name, ("...",), first.dtype)
    axes = [dict.fromkeys(sizes) for sizes in zip(*(p.shape for p in ports), strict=True)]
    return Port(first.name, tuple(next(iter(s)) if len(s) == 1 else "|".join(map(str, s)) for s in axes), first.dtype)
