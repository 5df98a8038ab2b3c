"""Compiled models kept in memory by their sizes: a bounded number of them, each made once however many threads ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from .model import CompiledModel


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
