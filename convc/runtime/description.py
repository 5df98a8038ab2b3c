"""What a compiled model says of itself: its inputs and outputs, and what its code is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from convc.ir.sizes import Dim


@dataclass(frozen=True)
class Port:
    """One input or output of a compiled model: its name, shape, and numpy dtype by name."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    counted: int | None = None
    """The axis along which there may be fewer elements than ``shape`` says, as the data has it; of outputs alone."""

    def __str__(self) -> str:
        sizes = (f"<={size}" if axis == self.counted else str(size) for axis, size in enumerate(self.shape))
        return f"{self.name}: {self.dtype}[{', '.join(sizes)}]"


@dataclass(frozen=True)
class OpenPort:
    """One input or output of a model of several sizes: each is a number, or the name of one that may vary."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


AnyPort = Port | OpenPort


@dataclass(frozen=True)
class Description:
    """What a part of an artifact is: its ports and the kind of its code."""

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """The code gives how many elements count of each counted one, behind them all, in order."""
    kind: str
    """``cpu`` or ``cuda``."""
    details: Mapping[str, Any]
    """What is to be known of code of that kind, as JSON keeps it: see ``cpu_model.py`` and ``cuda_model.py``."""
    key: str = ""
    """In the cache on disk: what it was compiled from, and how (``keys.py``)."""


class Part(NamedTuple):
    """What is written of a compiled model."""

    description: Description
    code: bytes | memoryview
    weights: Mapping[str, np.ndarray]
