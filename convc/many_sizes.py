"""Models of several sizes: those compiled ahead, in one artifact or about to be, and those compiled as sizes come."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convc.ir.errors import ArtifactError, InputError
from convc.ir.passes.fix_shapes import checked_shapes

from .artifact import OpenPort, write_artifact
from .kept import Keep, Kept
from .model import CompiledModel, Model
from .reader import narrowed
from .sizes import Shapes, joined, readable, shapes_of


class ManySizes(Model):
    """What has a compiled model for each size that it takes."""

    _inputs: tuple[OpenPort, ...]
    _outputs: tuple[OpenPort, ...]

    @property
    def inputs(self) -> tuple[OpenPort, ...]:
        """Name, shape and dtype of each input. A size that is open has a name; one of several is given with all: ``224|320``."""
        return self._inputs

    @property
    def outputs(self) -> tuple[OpenPort, ...]:
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
        self._by_shapes = {tuple(p.shape for p in m.inputs): m for m in here}
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


class DynamicModel(ManySizes):
    """A network whose sizes follow from the arrays it is called with: it is compiled for each that comes, and keeps the last ones.

    Several threads may call it; one compiles a new size while those that need the same one wait.
    """

    _kind = "DynamicModel"

    def __init__(
        self,
        name: str,
        inputs: Sequence[OpenPort],
        outputs: Sequence[OpenPort],
        make: Callable[[Mapping[str, tuple[int, ...]]], CompiledModel],
        keep: Keep,
    ) -> None:
        """``make`` compiles for given shapes, by name."""
        self.name = name
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._make = make
        self.kept = Kept(keep)
        """The sizes in memory."""

    def at(self, shapes: Mapping[str, Sequence[int]]) -> CompiledModel:
        """The model compiled for these shapes, by the inputs' names; raises ``ShapeError`` when they do not fit."""
        fixed = narrowed(self._inputs, checked_shapes(shapes))
        return self._get(tuple(_sizes(p) for p in fixed))

    def _pick(self, arrays: Sequence[Any]) -> CompiledModel:
        return self._get(shapes_of(self._inputs, arrays))

    def _get(self, shapes: Shapes) -> CompiledModel:
        return self.kept.get(shapes, lambda: self._make(dict(zip(self._input_names, shapes, strict=True))))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Raises ``ArtifactError``: an artifact is of fixed sizes."""
        ports = ", ".join(map(str, self._inputs))
        raise ArtifactError(
            f"sizes of the model are open ({ports}): compile it for those that the file is to hold, with shapes=[...] "
            "(--shape, once a size)"
        )


def _sizes(port: OpenPort) -> tuple[int, ...]:
    if any(isinstance(size, str) for size in port.shape):
        raise InputError(f"the shape of input '{port.name}' is missing; the model takes {port}")
    return tuple(int(size) for size in port.shape)


def _named(names: Sequence[str], shapes: Shapes) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes, strict=True))
