"""A compiled model: called with arrays, saved to one file, loaded from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from convc.backends.build import Kernel, export_library
from convc.backends.runtime import Program, load_executable, to_tensor
from convc.backends.target import host_target
from convc.ir.errors import ArtifactError, ConvcError, InputError

from .artifact import Description, Port, read_artifact, write_artifact


class CompiledModel:
    """Machine code with its weights, ready to run on this machine.

    Called with one array an input, in order; returns one array, or a tuple when the model has several outputs. Arrays are
    numpy's or anything with DLPack (``__dlpack__``), which is read without a copy when it is contiguous and aligned to 64 bytes.
    """

    def __init__(
        self,
        executable: Any,
        description: Description,
        weights: Mapping[str, np.ndarray],
        threads: int | None = None,
        kernels: Sequence[Kernel] = (),
        library: memoryview | None = None,
    ) -> None:
        self._executable = executable
        self._description = description
        self._weights = dict(weights)
        self._library = library
        self.kernels = tuple(kernels)
        """The kernels the model is made of, with the schedule rule of each; empty for one loaded from a file."""
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise InputError(f"threads must be an integer of at least 1, not {threads!r}")
        self.threads = threads or description.threads or available_processors()
        self._program = Program(executable, list(self._weights.values()), self.threads)

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
        if len(arrays) != len(self.inputs):
            raise InputError(
                f"the model takes {len(self.inputs)} inputs ({', '.join(p.name for p in self.inputs)}), not {len(arrays)}"
            )
        results = self._program(*map(_tensor, self.inputs, arrays))
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run on inputs by name; returns outputs by name."""
        names = [p.name for p in self.inputs]
        if not isinstance(feeds, Mapping):
            raise InputError(
                f"run takes inputs by name, as {{'{names[0] if names else 'x'}': array}}; call the model to give them in order"
            )
        for name in feeds:
            if name not in names:
                raise InputError(f"the model has no input '{name}'; its inputs are {', '.join(names)}")
        missing = [name for name in names if name not in feeds]
        if missing:
            raise InputError(f"input '{missing[0]}' is missing; the model takes {', '.join(names)}")
        results = self(*(feeds[name] for name in names))
        return dict(
            zip((p.name for p in self.outputs), results if isinstance(results, tuple) else (results,), strict=True)
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as one file. Linking needs a C compiler on this machine; the file then needs none."""
        write_artifact(path, self._library or self._link(), self._description, self._weights)

    def _link(self) -> bytes:
        try:
            with TemporaryDirectory(prefix="convc-") as folder:
                library = Path(folder) / "model.so"
                export_library(self._executable, library)
                return library.read_bytes()
        except OSError as e:
            raise ArtifactError(f"cannot link the artifact in a temporary folder: {e}") from None

    def __repr__(self) -> str:
        def ports(some: Sequence[Port]) -> str:
            return ", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" for p in some)

        return f"<convc.CompiledModel {self._description.name} ({ports(self.inputs)}) -> ({ports(self.outputs)})>"


def load(path: str | os.PathLike[str], threads: int | None = None) -> CompiledModel:
    """A model saved earlier; raises ``ArtifactError`` when the file is damaged or was compiled for another processor."""
    description, weights, library = read_artifact(path)
    host = host_target()
    missing = sorted(set(description.features) - host.features)
    if missing:
        raise ArtifactError(
            f"'{path}' was compiled for {description.mcpu} and needs what this processor ({host.mcpu}) lacks: {', '.join(missing)}"
        )
    try:
        executable = load_executable(Path(path).resolve())
    except Exception as e:  # TVM and the dynamic loader raise errors of many kinds
        raise ArtifactError(f"'{path}' cannot be loaded: {e}") from e
    try:
        return CompiledModel(executable, description, weights, threads, library=library)
    except ConvcError:
        raise
    except Exception as e:
        raise ArtifactError(f"'{path}' does not start: {e}") from e


def available_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tensor(port: Port, array: Any) -> Any:
    """What ``Program`` takes: a numpy array as it is, a tensor over the memory of anything else. Raises ``InputError``."""
    if type(array) is np.ndarray and array.shape == port.shape and array.dtype == port.dtype:
        return array
    if not hasattr(array, "__dlpack__"):
        array = _as_numpy(port, array)
    elif not isinstance(array, np.ndarray) and array.__dlpack_device__()[0] not in _HOST_MEMORY:
        raise InputError(f"input '{port.name}' is not in the processor's memory: copy it there first")
    try:
        tensor = array if hasattr(array, "shape") and hasattr(array, "dtype") else to_tensor(array)
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        if shape != port.shape:
            raise InputError(
                f"input '{port.name}' has shape {list(shape)}; the model was compiled for {list(port.shape)}"
            )
        if dtype != port.dtype:
            raise InputError(f"input '{port.name}' has dtype {dtype}; the model takes {port.dtype}: convert it first")
        return to_tensor(tensor)
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(f"input '{port.name}' cannot be read by DLPack: {e}") from e


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
