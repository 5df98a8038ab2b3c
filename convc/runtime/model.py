"""Compiled models, which are called with arrays and saved to one file; a subclass for each kind of device runs them."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from convc.ir.errors import NOT_AN_ARRAY, InputError, SizeError, plural
from convc.ir.shapes import mismatch

from .artifact import Artifact, write_artifact
from .description import Description, Part, Port
from .dlpack import as_numpy


class Model(ABC):
    """A compiled network, for one shape of each input, for several, or for any.

    It is called with one array per input, in order, and returns one array, or a tuple when there are several outputs.
    An input is a numpy array, an object that supports DLPack (``__dlpack__``), which is read without a copy when it is
    contiguous, or nested lists of numbers.
    """

    name: str
    """The name of the network."""

    optional: Sequence[Port] = ()
    """The inputs that have a value already: weights that an ONNX file also lists as inputs.

    ``run`` takes them beside the others, and compiles the network again for it. A saved model has none.
    """
    _taking: Callable[[frozenset[str]], Model] | None = None
    """Gives the same network with some of the optional inputs among its inputs."""

    _takes_values = False
    """Whether it is compiled for the values of some inputs."""

    _file: Sequence[Artifact] = ()
    """The parts of the artifact that it was loaded from, with those for other machines; empty for other models."""

    @property
    @abstractmethod
    def inputs(self) -> Sequence[Port]:
        """Name, shape and dtype of each input."""

    @property
    @abstractmethod
    def outputs(self) -> Sequence[Port]:
        """Name, shape and dtype of each output."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, an artifact.

        A model that was loaded is written as its file was, with the code for other machines, unless that file was
        changed in place since. Raises ``ArtifactError``.
        """
        write_artifact(path, [part.part() for part in self._file] or self._parts())

    @abstractmethod
    def _parts(self) -> Sequence[Part]:
        """The model as an artifact stores it. Raises ``ArtifactError`` when it cannot be saved."""

    @abstractmethod
    def _run(self, arrays: Sequence[Any]) -> tuple[list[Any], Sequence[str]]:
        """The outputs in order, and their names. Raises ``InputError`` for inputs that do not fit."""

    def __call__(self, *arrays: Any) -> Any:
        """Run the model. Raises ``InputError``, naming the input, when a shape or dtype is wrong."""
        results, _ = self._run(arrays)
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model on inputs by name, and return the outputs by name.

        Raises ``InputError`` for inputs that do not fit.
        """
        try:
            arrays = [feeds[name] for name in self._input_names]
        except (LookupError, TypeError):
            arrays = []
        if len(arrays) != len(self._input_names) or len(feeds) != len(arrays):
            return self._with_more(feeds).run(feeds)
        results, names = self._run(arrays)
        return dict(zip(names, results, strict=True))

    @cached_property
    def _input_names(self) -> list[str]:
        return [p.name for p in self.inputs]

    def _with_more(self, feeds: Any) -> Model:
        """The model that takes these optional inputs too.

        Raises the ``InputError`` that explains what is wrong with the names of inputs when there is none.
        """
        if not isinstance(feeds, Mapping):
            example = self._input_names[0] if self._input_names else "x"
            raise InputError(
                f"run takes inputs by name, as {{'{example}': array}}; call the model to give them in order"
            )
        more = frozenset(name for name in feeds if name not in self._input_names)
        if self._taking is not None and more and more <= {p.name for p in self.optional}:
            return self._taking(more)
        for name in feeds:
            if name in more:
                known = ", ".join(self._input_names) or "none"
                raise InputError(f"the model has no input '{name}'; its inputs are {known}")
        missing = [name for name in self._input_names if name not in feeds]
        raise InputError(f"input '{missing[0]}' is missing; the model takes {', '.join(self._input_names)}")

    def _wrong_count(self, given: int) -> InputError:
        names = self._input_names
        return InputError(f"the model takes {plural(len(names), 'input')} ({', '.join(names)}), not {given}")

    def __repr__(self) -> str:
        def ports(some: Sequence[Port]) -> str:
            return ", ".join(map(str, some))

        made_for = f" for {self.made_for}" if self.made_for else ""
        return f"<convc.{self._kind} {self.name} ({ports(self.inputs)}) -> ({ports(self.outputs)}){made_for}>"

    _kind = "Model"
    made_for = ""
    """The target and the precision that the model is compiled for, in words."""


class CompiledModel(Model):
    """Machine code with its weights, for one shape of each input, or for sizes that are open."""

    _kind = "CompiledModel"

    def __init__(
        self,
        description: Description,
        weights: Mapping[str, np.ndarray],
        kernels: Sequence[Any] = (),
        artifact: Artifact | None = None,
    ) -> None:
        self._description = description
        self._weights = weights
        self._artifact = artifact
        self.name = description.name
        self.kernels = tuple(kernels)
        """The kernels, each with the name of the schedule rule that made it; empty for a model loaded from a file."""
        self._output_names = [p.name for p in self.outputs]
        self._ports = [(None if p.is_open else p.sizes, np.dtype(p.dtype)) for p in self.inputs]
        self._otherwise: Model | None = None
        """Compiles the network again, for sizes that the code does not take; an artifact has none."""

    @property
    def description(self) -> Description:
        """The description that an artifact holds of the model."""
        return self._description

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each input."""
        return self._description.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each output."""
        return self._description.outputs

    @property
    def made_for(self) -> str:  # type: ignore[override]
        """The target and the precision that the model is compiled for, in words."""
        return self._description.made_for

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The approximate memory in bytes that the model takes when it runs."""

    def _run(self, arrays: Sequence[Any]) -> tuple[list[Any], Sequence[str]]:
        ports = self._ports
        if len(arrays) != len(ports):
            raise self._wrong_count(len(arrays))
        for array, (shape, dtype) in zip(arrays, ports, strict=True):
            if type(array) is not np.ndarray or array.dtype != dtype or (array.shape != shape and shape is not None):
                arrays = self._read(arrays)
                break
        try:
            return self._compute(arrays), self._output_names
        except SizeError as e:
            if self._otherwise is None or not (e.is_assumed or self._otherwise._takes_values):
                raise
            return self._otherwise._run(arrays)

    def _read(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """The inputs in the form that ``_compute`` takes. Raises ``InputError`` for those that do not fit."""
        return [host_array(port, array) for port, array in zip(self.inputs, arrays, strict=True)]

    @abstractmethod
    def _compute(self, arrays: Sequence[Any]) -> list[Any]:
        """Run the code on inputs of the right dtypes, and shapes as far as these are fixed.

        Returns the outputs. Raises ``InputError`` for open sizes that do not fit.
        """

    @abstractmethod
    def _code(self) -> bytes | memoryview:
        """The machine code, as an artifact stores it."""

    def part(self) -> Part:
        """The model as an artifact stores it."""
        if self._artifact:
            return self._artifact.part()
        return Part(self._description, self._code(), self._weights)

    def _parts(self) -> Sequence[Part]:
        return [self.part()]


def host_array(port: Port, given: Any) -> np.ndarray:
    """An input as a numpy array of the port's shape and dtype.

    Arrays in host memory that support DLPack are not copied. Raises ``InputError`` when the input does not fit.
    """
    array = any_array(port, given)
    check(port, array.shape, str(array.dtype))
    return array


def any_array(port: Port, given: Any) -> np.ndarray:
    """An input as a numpy array, whose shape is not checked.

    Arrays in host memory that support DLPack are read without a copy. Lists and numbers take the port's dtype. Raises
    ``InputError`` for what cannot be read.
    """
    if isinstance(given, np.ndarray):
        return given
    if not hasattr(given, "__dlpack__"):
        return _as_numpy(port, given)
    if given.__dlpack_device__()[0] not in _HOST_MEMORY:
        raise InputError(f"input '{port.name}' is not in the processor's memory: copy it there first")
    try:
        return as_numpy(given)
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(f"input '{port.name}' cannot be read by DLPack: {e}") from e


def check(port: Port, shape: tuple[int, ...], dtype: str) -> None:
    """Raise ``InputError`` when an input has another shape or dtype than the model was compiled for."""
    wrong = mismatch(f"input '{port.name}'", port.shape, shape)
    if wrong:
        raise InputError(wrong)
    check_dtype(port, dtype)


def check_dtype(port: Port, dtype: str) -> None:
    """Raise ``InputError`` when an input has another dtype than the model takes."""
    if re.match(r"[<>|]?[US]\d", dtype):
        raise InputError(f"input '{port.name}' holds text; the model takes {port.dtype}")
    if dtype != port.dtype:
        raise InputError(f"input '{port.name}' has dtype {dtype}; the model takes {port.dtype}: convert it first")


_HOST_MEMORY = (1, 3)
"""DLPack's types of memory that the CPU can read: ordinary memory, and memory pinned for a GPU."""


def _as_numpy(port: Port, data: Any) -> np.ndarray:
    """Lists and numbers as an array of the port's dtype.

    Raises ``InputError`` for fractions where the dtype is an integer.
    """
    try:
        array = np.asarray(data, port.dtype)
        if array.dtype.kind in "biu" and np.asarray(data).dtype.kind not in "biu":
            why = "it holds numbers that are not integers"
        else:
            return array
    except OverflowError:
        why = "it holds a number that is too large"
    except (TypeError, ValueError):
        why = NOT_AN_ARRAY
    raise InputError(f"input '{port.name}' cannot be read as an array of {port.dtype}: {why}") from None
