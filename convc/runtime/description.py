"""The description of a compiled model: its inputs and outputs, and what its code was compiled for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from convc.ir.dtypes import described
from convc.ir.shapes import StatedSize


@dataclass(frozen=True)
class Port:
    """One input or output of a model: its name, its shape, and the name of its numpy dtype.

    A size is an integer, or a string when it is open: the name of a size, or how it follows from named sizes. Those
    that data decides are named ``u0``, ``u1``, ....
    """

    name: str
    shape: tuple[StatedSize, ...]
    dtype: str

    @property
    def is_open(self) -> bool:
        """Whether some size is dynamic."""
        return any(isinstance(size, str) for size in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape as integers. The port must have no dynamic size."""
        assert not self.is_open, self
        return self.shape  # type: ignore[return-value]

    @property
    def nbytes(self) -> int:
        """The size of the port's data in bytes."""
        return math.prod(self.sizes) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.name}: {described(self.dtype, self.shape)}"


@dataclass(frozen=True)
class Description:
    """The description of one part of an artifact."""

    name: str
    version: str
    """The version of convc that compiled the model."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """The outputs of the model."""
    kind: str
    """The name of the backend that made the code, and of the package of the runtime that runs it: ``cpu`` or ``cuda``.
    """
    details: Mapping[str, Any]
    """The facts about the code that the runtime of that kind needs, as JSON-compatible values.

    See ``cpu/model.py`` and ``cuda/model.py``.
    """
    key: str = ""
    """The key of an entry in the cache on disk (``convc/cache.py``); empty in other artifacts."""

    def __repr__(self) -> str:
        ports = [", ".join(map(str, some)) for some in (self.inputs, self.outputs)]
        return f"<Description of {self.name} ({ports[0]}) -> ({ports[1]}) for {self.made_for}, by convc {self.version}>"

    @property
    def made_for(self) -> str:
        """The target and the precision, in words: ``cpu x86-64-v3, precision default``."""
        machine = self.details.get("mcpu") or ", ".join(sorted(self.details.get("architectures", ())))
        return f"{self.kind} {machine}, precision {self.details.get('precision', 'default')}"


class Part(NamedTuple):
    """One compiled model as it is written into an artifact: its description, machine code, and weights by name."""

    description: Description
    code: bytes | memoryview
    weights: Mapping[str, np.ndarray]
