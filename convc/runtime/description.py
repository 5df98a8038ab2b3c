"""What a compiled model says of itself: its inputs and outputs, and what its code is for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from convc.ir.dtypes import described
from convc.ir.sizes import Dim


@dataclass(frozen=True)
class Port:
    """One input or output of a model: its name, shape, and numpy dtype by name.

    Each size is a number, or the name of one that is dynamic. Of a compiled model all inputs are numbers.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: str
    counted: int | None = None
    """The axis along which an output may have fewer elements than ``shape`` says, as the data has it."""

    @property
    def is_open(self) -> bool:
        """Whether some size is dynamic."""
        return any(isinstance(size, str) for size in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a port that has no dynamic size."""
        assert not self.is_open, self
        return self.shape  # type: ignore[return-value]

    @property
    def nbytes(self) -> int:
        """The bytes that its elements take."""
        return math.prod(self.sizes) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        sizes = [f"<={size}" if axis == self.counted else str(size) for axis, size in enumerate(self.shape)]
        return f"{self.name}: {described(self.dtype, sizes)}"


@dataclass(frozen=True)
class Description:
    """What a part of an artifact is: its ports, and the kind of its code."""

    name: str
    version: str
    """The version of convc that made it."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """The outputs. Behind them all the code gives, for each that is counted, how many elements count."""
    kind: str
    """The backend that made the code, and the package of the runtime that runs it: ``cpu`` or ``cuda``."""
    details: Mapping[str, Any]
    """What the runtime must know of code of that kind, as JSON keeps it: see ``cpu/model.py`` and ``cuda/model.py``."""
    key: str = ""
    """In the cache on disk: what the model was compiled from, and how (``convc/cache.py``)."""

    @property
    def made(self) -> tuple[Port, ...]:
        """All that the code gives: the outputs, then how many elements count of each counted one."""
        counted = [p for p in self.outputs if p.counted is not None]
        return (*self.outputs, *(Port(f"count of {p.name}", (1,), "int64") for p in counted))


class Part(NamedTuple):
    """What is written of a compiled model."""

    description: Description
    code: bytes | memoryview
    weights: Mapping[str, np.ndarray]
