"""A model of open sizes: compiled for each size that comes, a bounded number of them kept in memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from convc.ir.errors import ArtifactError, InputError
from convc.ir.passes.fix_shapes import checked_shapes

from .reader import narrowed
from .runtime.description import Port
from .runtime.model import CompiledModel
from .runtime.model_set import ManySizes, Shapes, shapes_of


@dataclass(frozen=True)
class Keep:
    """How much of a model of open sizes is kept in memory: so many compiled sizes, which together take so many bytes.

    The size used last is kept in any case; of the others, those go first that were not used for longest.
    """

    models: int = 16
    nbytes: int = 2 << 30


class Kept:
    """A cache with the policy of ``Keep``. Safe to use from several threads."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._models: OrderedDict[Hashable, Future[CompiledModel]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], CompiledModel]) -> CompiledModel:
        """The model for a key. Of the threads that ask for a new one, one makes it, and the others wait; they share its error."""
        with self._lock:
            held = self._models.get(key)
            made = held is None
            future = self._models[key] = Future() if held is None else held
            self._models.move_to_end(key)
        if not made:
            return future.result()
        try:
            model = make()
        except BaseException as e:
            with self._lock:
                if self._models.get(key) is future:
                    del self._models[key]
            future.set_exception(e)
            raise
        future.set_result(model)
        self._shrink()
        return model

    def __len__(self) -> int:
        with self._lock:
            return len(self._models)

    @property
    def nbytes(self) -> int:
        """What those that are made take together."""
        with self._lock:
            return sum(f.result().nbytes for f in self._models.values() if _is_made(f))

    def _shrink(self) -> None:
        """Drop the models used longest ago that are more than are to be kept; one that is being made is left alone."""
        with self._lock:
            made = [(key, f.result().nbytes) for key, f in self._models.items() if _is_made(f)]
            count, nbytes = len(made), sum(size for _, size in made)
            for key, size in made[:-1]:
                if count <= self._keep.models and nbytes <= self._keep.nbytes:
                    return
                del self._models[key]
                count, nbytes = count - 1, nbytes - size


def _is_made(future: Future[CompiledModel]) -> bool:
    return future.done() and future.exception() is None


class DynamicModel(ManySizes):
    """A network whose sizes follow from the arrays it is called with: it is compiled for each that comes, and keeps the last ones.

    Several threads may call it; one compiles a new size while those that need the same one wait.
    """

    _kind = "DynamicModel"

    def __init__(
        self,
        name: str,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
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


def _sizes(port: Port) -> tuple[int, ...]:
    if any(isinstance(size, str) for size in port.shape):
        raise InputError(f"the shape of input '{port.name}' is missing; the model takes {port}")
    return tuple(int(size) for size in port.shape)
