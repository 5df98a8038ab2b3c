"""Models with dynamic shapes, which are compiled for each combination of sizes that they are called with."""

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
    """Bounds on what a ``DynamicModel`` keeps in memory: at most ``models`` models, of ``nbytes`` bytes together.

    The least recently used models are dropped first. The one used last is kept in any case.
    """

    models: int = 16
    nbytes: int = 2 << 30


class Kept:
    """A cache of compiled models in memory, bounded by a ``Keep``. Several threads may use it at once."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._models: OrderedDict[Hashable, Future[CompiledModel]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], CompiledModel]) -> CompiledModel:
        """The model for a key, which is made when the cache lacks it.

        When several threads ask for the same new model, one of them makes it and the others wait. All of them raise its
        error if it fails.
        """
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
        """The memory in bytes that the finished models take together."""
        with self._lock:
            return sum(f.result().nbytes for f in self._models.values() if _is_made(f))

    def _shrink(self) -> None:
        """Drop the least recently used models until the bounds hold. Models that are still being made do not count."""
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
    """A network with dynamic shapes, whose sizes are those of the arrays that it is called with.

    It is compiled for each new combination of sizes, and keeps the models that were used last. Several threads may call
    it at once: one of them compiles for new sizes, while the others that need the same sizes wait.
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
        """``make`` compiles the network for the shapes of all inputs, given by name."""
        self.name = name
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._make = make
        self.kept = Kept(keep)
        """The compiled models in memory."""

    def at(self, shapes: Mapping[str, Sequence[int]]) -> CompiledModel:
        """The model for the given shapes of inputs, by name.

        Raises ``ShapeError`` when a shape does not fit its input, and ``InputError`` when a dynamic size is left open.
        """
        fixed = narrowed(self._inputs, checked_shapes(shapes))
        return self._get(tuple(_sizes(p) for p in fixed))

    def _pick(self, arrays: Sequence[Any]) -> CompiledModel:
        return self._get(shapes_of(self._inputs, arrays))

    def _get(self, shapes: Shapes) -> CompiledModel:
        return self.kept.get(shapes, lambda: self._make(dict(zip(self._input_names, shapes, strict=True))))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Raise ``ArtifactError``, since an artifact holds models of static shapes only."""
        ports = ", ".join(map(str, self._inputs))
        raise ArtifactError(
            f"sizes of the model are open ({ports}): compile it for those that the file is to hold, with shapes=[...] "
            "(--shape, once a size)"
        )


def _sizes(port: Port) -> tuple[int, ...]:
    if any(isinstance(size, str) for size in port.shape):
        raise InputError(f"the shape of input '{port.name}' is missing; the model takes {port}")
    return tuple(int(size) for size in port.shape)
