"""Compiled models of one network for several sizes, which are saved together as one artifact."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.ir.errors import InputError
from convc.ir.shapes import Bound, StatedSize, described, mismatch

from .description import Part, Port
from .model import CompiledModel, Model, any_array, check_dtype


class ManySizes(Model):
    """A network with a compiled model for each combination of sizes that it takes."""

    _inputs: tuple[Port, ...]
    _outputs: tuple[Port, ...]

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each input.

        A dynamic size is its name; one size out of several is text that lists them: ``224|320``.
        """
        return self._inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each output, as far as they are known before the model is called."""
        return self._outputs

    def _run(self, arrays: Sequence[Any]) -> tuple[list[Any], Sequence[str]]:
        if len(arrays) != len(self.inputs):
            raise self._wrong_count(len(arrays))
        read = [readable(port, array) for port, array in zip(self.inputs, arrays, strict=True)]
        model, taken = self._pick(read)
        return model._run(taken)

    @abstractmethod
    def _pick(self, arrays: Sequence[Any]) -> tuple[CompiledModel, Sequence[Any]]:
        """The compiled model for these inputs, which have a shape and a dtype, and those of them that it takes.

        Raises ``InputError`` when there is none.
        """


class ModelSet(ManySizes):
    """Compiled models of one network, for several shapes of its inputs, for several processors, or for both.

    It runs the models for this processor. Saving writes all models into one artifact, in which they share equal
    weights.
    """

    _kind = "ModelSet"

    def __init__(self, models: Sequence[CompiledModel], here: Sequence[CompiledModel]) -> None:
        """``here`` holds the models that run on this machine, one for each shape of the inputs."""
        self._models = tuple(models)
        self._by_shapes = {tuple(p.shape for p in m.inputs): m for m in here}
        self.name = models[0].name
        self._inputs, self._outputs = (
            tuple(map(joined, zip(*ports, strict=True)))
            for ports in ((m.inputs for m in models), (m.outputs for m in models))
        )

    @property
    def made_for(self) -> str:  # type: ignore[override]
        """The targets and the precisions that the models are compiled for, in words."""
        return "; ".join(dict.fromkeys(m.made_for for m in self._models))

    @property
    def models(self) -> tuple[CompiledModel, ...]:
        """All compiled models, also those for other processors."""
        return self._models

    def _pick(self, arrays: Sequence[Any]) -> tuple[CompiledModel, Sequence[Any]]:
        shapes = tuple(tuple(map(int, array.shape)) for array in arrays)
        if shapes in self._by_shapes:
            return self._by_shapes[shapes], arrays
        for stated, model in self._by_shapes.items():
            bound: Bound = {}
            if not any(mismatch("", s, shape, bound) for s, shape in zip(stated, shapes, strict=True)):
                return model, arrays
        given = _named(self._input_names, shapes)
        held = "; ".join(_named(self._input_names, s) for s in self._by_shapes) or "none that this processor runs"
        raise InputError(f"the model was not compiled for {given}; it holds {held}")

    def _parts(self) -> Sequence[Part]:
        return [m.part() for m in self._models]


def _named(names: Sequence[str], shapes: Sequence[Sequence[StatedSize]]) -> str:
    return ", ".join(f"{name} {described(shape)}" for name, shape in zip(names, shapes, strict=True))


Shapes = tuple[tuple[int, ...], ...]
"""The shapes of all inputs, in order."""


def readable(port: Port, given: Any) -> Any:
    """The input itself when it has a ``shape`` and a ``dtype``, and else a numpy array of it.

    Raises ``InputError`` for what cannot be read.
    """
    return given if hasattr(given, "shape") and hasattr(given, "dtype") else any_array(port, given)


def shapes_of(ports: Sequence[Port], arrays: Sequence[Any]) -> Shapes:
    """The shapes of inputs that have a ``shape`` and a ``dtype``.

    Raises ``InputError``, naming the input, the axis and the size, when they do not fit the ports or contradict each
    other.
    """
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
    """One port for the same port of several models. A size that differs between them becomes text that lists all."""
    first = ports[0]
    if any(len(p.shape) != len(first.shape) for p in ports):
        return Port(first.name, ("...",), first.dtype)
    axes = [dict.fromkeys(sizes) for sizes in zip(*(p.shape for p in ports), strict=True)]
    return Port(first.name, tuple(next(iter(s)) if len(s) == 1 else "|".join(map(str, s)) for s in axes), first.dtype)
