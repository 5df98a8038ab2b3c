"""A compiled model: called with arrays, saved to one file, loaded from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from convc.backends.build import Kernel, export_library
from convc.backends.memory import Plan
from convc.backends.runtime import Program, from_dlpack, load_module
from convc.backends.target import host_target
from convc.ir.errors import ArtifactError, ConvcError, InputError

from .artifact import Artifact, Description, Port, read_artifact, write_artifact


class CompiledModel:
    """Machine code with its weights, ready to run on this machine.

    Called with one array an input, in order; returns one array, or a tuple when the model has several outputs. Arrays are
    numpy's or anything with DLPack (``__dlpack__``), which is read without a copy when it is contiguous and aligned to 64 bytes.
    """

    def __init__(
        self,
        module: Any,
        description: Description,
        weights: Mapping[str, np.ndarray],
        threads: int | None = None,
        kernels: Sequence[Kernel] = (),
        artifact: Artifact | None = None,
    ) -> None:
        self._module = module
        self._description = description
        self._weights = weights
        self._artifact = artifact
        self.kernels = tuple(kernels)
        """The kernels the model is made of, with the schedule rule of each; empty for one loaded from a file."""
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise InputError(f"threads must be an integer of at least 1, not {threads!r}")
        self.threads = threads or description.threads or available_processors()
        self._input_names = [p.name for p in self.inputs]
        self._output_names = [p.name for p in self.outputs]
        self._ports = [(p.shape, np.dtype(p.dtype)) for p in self.inputs]
        self._program = Program(
            module,
            Plan.of(description.memory),
            weights,
            self._ports,
            [(p.shape, np.dtype(p.dtype)) for p in self.outputs],
            self.threads,
            artifact.release if artifact else lambda: None,
        )

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each input."""
        return self._description.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, shape and dtype of each output."""
        return self._description.outputs

    def __call__(self, *arrays: Any) -> Any:
        """Run; raises ``InputError`` naming the input whose shape or dtype is wrong."""
        results = self._run(arrays)
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run on inputs by name; returns outputs by name."""
        try:
            arrays = [feeds[name] for name in self._input_names]
        except (LookupError, TypeError):
            arrays = []
        if len(arrays) != len(self._input_names) or len(feeds) != len(arrays):
            self._refuse(feeds)
        return dict(zip(self._output_names, self._run(arrays), strict=True))

    def _run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        ports = self._ports
        if len(arrays) != len(ports):
            raise InputError(f"the model takes {len(ports)} inputs ({', '.join(self._input_names)}), not {len(arrays)}")
        for array, (shape, dtype) in zip(arrays, ports, strict=True):
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                arrays = [_array(*pair) for pair in zip(self.inputs, arrays, strict=True)]
                break
        return self._program(arrays)

    def _refuse(self, feeds: Any) -> None:
        """Raise the error that says what is wrong with inputs by name."""
        if not isinstance(feeds, Mapping):
            example = self._input_names[0] if self._input_names else "x"
            raise InputError(
                f"run takes inputs by name, as {{'{example}': array}}; call the model to give them in order"
            )
        for name in feeds:
            if name not in self._input_names:
                raise InputError(f"the model has no input '{name}'; its inputs are {', '.join(self._input_names)}")
        missing = [name for name in self._input_names if name not in feeds]
        raise InputError(f"input '{missing[0]}' is missing; the model takes {', '.join(self._input_names)}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as one file. Linking needs a C compiler on this machine; the file then needs none."""
        write_artifact(
            path, self._artifact.library if self._artifact else self._link(), self._description, self._weights
        )

    def _link(self) -> bytes:
        try:
            with TemporaryDirectory(prefix="convc-") as folder:
                library = Path(folder) / "model.so"
                export_library(self._module, library)
                return library.read_bytes()
        except OSError as e:
            raise ArtifactError(f"cannot link the artifact in a temporary folder: {e}") from None

    def __repr__(self) -> str:
        def ports(some: Sequence[Port]) -> str:
            return ", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" for p in some)

        return f"<convc.CompiledModel {self._description.name} ({ports(self.inputs)}) -> ({ports(self.outputs)})>"


def load(path: str | os.PathLike[str], threads: int | None = None) -> CompiledModel:
    """A model saved earlier; raises ``ArtifactError`` when the file is damaged or was compiled for another processor."""
    artifact = read_artifact(path)
    description = artifact.description
    host = host_target()
    missing = sorted(set(description.features) - host.features)
    if missing:
        raise ArtifactError(
            f"'{path}' was compiled for {description.mcpu} and needs what this processor ({host.mcpu}) lacks: {', '.join(missing)}"
        )
    try:
        module = load_module(Path(path).resolve())
    except Exception as e:  # TVM and the dynamic loader raise errors of many kinds
        raise ArtifactError(f"'{path}' cannot be loaded: {e}") from e
    try:
        return CompiledModel(module, description, artifact.weights, threads, artifact=artifact)
    except ConvcError:
        raise
    except Exception as e:
        raise ArtifactError(f"'{path}' does not start: {e}") from e


def available_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _array(port: Port, given: Any) -> np.ndarray:
    """Anything as a numpy array of the port's shape and dtype, without a copy where it has DLPack. Raises ``InputError``."""
    if not hasattr(given, "__dlpack__"):
        given = _as_numpy(port, given)
    elif not isinstance(given, np.ndarray) and given.__dlpack_device__()[0] not in _HOST_MEMORY:
        raise InputError(f"input '{port.name}' is not in the processor's memory: copy it there first")
    try:
        array = given if isinstance(given, np.ndarray) else from_dlpack(given)
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(f"input '{port.name}' cannot be read by DLPack: {e}") from e
    if array.shape != port.shape:
        raise InputError(
            f"input '{port.name}' has shape {list(array.shape)}; the model was compiled for {list(port.shape)}"
        )
    if str(array.dtype) != port.dtype:
        raise InputError(f"input '{port.name}' has dtype {array.dtype}; the model takes {port.dtype}: convert it first")
    return array


_HOST_MEMORY = (1, 3)
"""DLPack's device types of memory that the processor reads: plain, and pinned for a GPU."""


def _as_numpy(port: Port, data: Any) -> np.ndarray:
    """Lists and numbers as an array of the port's dtype; fractions are not cut off to fit integers."""
    try:
        array = np.asarray(data, port.dtype)
        if array.dtype.kind in "biu" and np.asarray(data).dtype.kind not in "biu":
            raise ValueError("it holds numbers that are not integers")
        return array
    except (TypeError, ValueError, OverflowError) as e:
        raise InputError(f"input '{port.name}' cannot be read as an array of {port.dtype}: {e}") from None
