"""Models that are compiled when they are called: for the sizes of their inputs, and the values of small ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.ir.errors import ArtifactError, InputError, NotConstantError, lacking
from convc.ir.passes.fix_shapes import checked_shapes
from convc.ir.passes.fix_values import checked_value

from .reader import narrowed
from .runtime.description import Part, Port
from .runtime.model import CompiledModel, host_array
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
    """A network that is compiled when it is called, for each combination of sizes, and of values of small inputs that
    decide shapes or control flow.

    It keeps the models that were used last. Several threads may call it at once: one of them compiles for new sizes,
    while the others that need the same sizes wait.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        make: Callable[[Mapping[str, tuple[int, ...]], Mapping[str, np.ndarray]], CompiledModel],
        keep: Keep,
        by_value: Sequence[str] = (),
        made_for: str = "",
        why: str = "",
    ) -> None:
        """``make`` compiles the network for the shapes of inputs, and the values of some of them, given by name.

        ``by_value`` names the inputs for whose values it is compiled, as far as they are known. ``make`` raises
        ``NotConstantError`` when it needs the values of more of them. ``made_for`` says in words what target it is for.
        ``why`` says why no code takes its open sizes as arguments.
        """
        self.made_for = made_for
        self.name = name
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._make = make
        self._by_value = frozenset(by_value)
        self.why = why
        """Why no code takes the network's open sizes as arguments."""
        self.kept = Kept(keep)
        """The compiled models in memory."""

    @property
    def by_value(self) -> tuple[str, ...]:
        """The names of the inputs for whose values the network is compiled, as far as they are known.

        These are small inputs that decide shapes or control flow, such as the sizes that a Resize reads.
        """
        return tuple(p.name for p in self._inputs if p.name in self._by_value)

    @property
    def _takes_values(self) -> bool:  # type: ignore[override]
        return bool(self._by_value)

    def __repr__(self) -> str:
        values = f", compiled for each value of {', '.join(self.by_value)}" if self.by_value else ""
        return super().__repr__().removesuffix(">") + values + ">"

    def at(self, shapes: Mapping[str, Sequence[int]], values: Mapping[str, Any] | None = None) -> CompiledModel:
        """The model for the given shapes of inputs, and the values of some of them, by name.

        The model takes the inputs whose values are not given. Raises ``ShapeError`` when a shape does not fit its
        input, and ``InputError`` when a value does not, or when a dynamic size is left open. ``NotConstantError``
        says which values are missing.
        """
        ports = {p.name: p for p in self._inputs}
        for name in values or {}:
            if name not in ports:
                raise InputError(f"values names input {lacking(name, ports)}")
        fixed = {
            name: checked_value(name, np.dtype(ports[name].dtype), ports[name].shape, value)
            for name, value in (values or {}).items()
        }
        given = {**{name: value.shape for name, value in fixed.items()}, **checked_shapes(shapes)}
        return self._get(tuple(_sizes(p) for p in narrowed(self._inputs, given)), fixed)

    def _pick(self, arrays: Sequence[Any]) -> tuple[CompiledModel, Sequence[Any]]:
        shapes = shapes_of(self._inputs, arrays)
        given = dict(zip(self._input_names, arrays, strict=True))
        ports = {p.name: p for p in self._inputs}
        while True:
            values = {name: host_array(ports[name], given[name]) for name in self.by_value}
            try:
                model = self._get(shapes, values)
            except NotConstantError as e:
                more = {name for name in e.inputs if name in ports} - set(values)
                if not more:
                    raise
                self._by_value |= more  # a name that another thread finds at the same time and loses is found again
            else:
                return model, [array for name, array in given.items() if name not in values]

    def _get(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> CompiledModel:
        key = shapes, tuple((name, value.tobytes()) for name, value in sorted(values.items()))
        sizes = dict(zip(self._input_names, shapes, strict=True))
        return self.kept.get(key, lambda: self._make(sizes, values))

    def _parts(self) -> Sequence[Part]:
        """Raises ``ArtifactError``: a file cannot compile."""
        open_ports = [str(p) for p in self._inputs if p.is_open and p.name not in self._by_value]
        if open_ports:
            raise ArtifactError(
                f"sizes of the model are open ({', '.join(open_ports)}), and code that takes them as arguments cannot "
                f"be made ({self.why}): compile it for those sizes that the file is to hold, with shapes=[...] "
                "(--shape, once a size)"
            )
        given = ", ".join(f"'{name}': ..." for name in self.by_value)
        options = " ".join(f"--value {name}=..." for name in self.by_value)
        raise ArtifactError(
            f"the model is compiled for the values of inputs when it is called: compile it for those that the file is "
            f"to hold, with values={{{given}}} ({options})"
        )


def _sizes(port: Port) -> tuple[int, ...]:
    if any(isinstance(size, str) for size in port.shape):
        raise InputError(f"the shape of input '{port.name}' is missing; the model takes {port}")
    return tuple(int(size) for size in port.shape)
