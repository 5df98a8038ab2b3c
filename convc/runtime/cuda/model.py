"""A model compiled for NVIDIA GPUs: it is built and saved on any machine, and runs on one with a GPU.

Nothing here loads TVM.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convc.ir.errors import ArtifactError, InputError

from ..artifact import Artifact
from ..description import Description, Port
from ..dlpack import View, stream_of, view
from ..model import CompiledModel, check, host_array
from .arch import choose, number
from .device import Device
from .driver import NvidiaGpu
from .plan import Plan
from .program import Program


class CudaModel(CompiledModel):
    """A model compiled for one or more GPU architectures. The first call opens the device and packs the weights on it.

    Arrays in the GPU's memory are read there, through DLPack, in the order of the stream that their library works in.
    The outputs then stay on the GPU, as objects with ``__dlpack__``, which ``torch.from_dlpack`` and
    ``cupy.from_dlpack`` take without a copy, and with ``.numpy()``. Otherwise outputs are numpy arrays.

    The details of its description are ``precision``, and for each of ``architectures`` the (offset, length) of its
    ``modules`` in the code and the ``plan`` of its launches (``convc/runtime/cuda/plan.py``).
    """

    def __init__(
        self,
        description: Description,
        code: bytes | memoryview,
        weights: Mapping[str, np.ndarray],
        kernels: Sequence[Any] = (),
        artifact: Artifact | None = None,
        open_device: Callable[[], Device] = NvidiaGpu,
    ) -> None:
        super().__init__(description, weights, kernels, artifact)
        self.usage: Mapping[str, Sequence[Any]] = {}
        """The resources that each kernel uses, by architecture; empty for a model loaded from a file."""
        self._modules = code
        self._open = open_device
        self._lock = threading.Lock()
        self._running: Program | None = None

    @property
    def architectures(self) -> tuple[str, ...]:
        """The architectures that there is code for: ``sm_80`` and the like, or PTX of ``compute_75`` and the like."""
        return tuple(sorted(self._description.details["architectures"], key=lambda name: (number(name), name)))

    @property
    def precision(self) -> str:
        """The precision of the computation: ``fp32``, ``tf32`` or ``fp16``."""
        return str(self._description.details["precision"])

    @property
    def program(self) -> Program:
        """The model on its device, loaded at the first use; raises ``DeviceError`` when the device cannot run it."""
        with self._lock:
            if self._running is None:
                device = self._open()
                held = self._description.details["architectures"][choose(self.architectures, device.arch)]
                if self._artifact:
                    self._artifact.source.check()
                modules = [bytes(self._modules[at : at + length]) for at, length in held["modules"]]
                self._running = Program(
                    device, Plan.of(held["plan"]), modules, self._weights, self.inputs, self.outputs
                )
                if self._artifact:
                    self._artifact.release()
            return self._running

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory for packed weights and workspace, of the architecture that needs most."""
        plans = [Plan.of(held["plan"]) for held in self._description.details["architectures"].values()]
        return max(p.packed + p.workspace for p in plans)

    def _read(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """The arrays on the GPU unchanged, to be checked once their stream is known; the others as numpy arrays."""
        return [
            given if _on_gpu(given, self.program.device.dlpack, port) else host_array(port, given)
            for port, given in zip(self.inputs, arrays, strict=True)
        ]

    def _compute(self, arrays: Sequence[Any]) -> list[Any]:
        on_device = [a for a in arrays if not isinstance(a, np.ndarray)]
        if not on_device:
            return self.program(arrays)
        stream = stream_of(on_device[0])
        views = [
            a if isinstance(a, np.ndarray) else _view(port, a, stream)
            for port, a in zip(self.inputs, arrays, strict=True)
        ]
        return self.program(views, stream)

    def _code(self) -> bytes | memoryview:
        return self._modules


def _on_gpu(given: Any, device: tuple[int, int], port: Port) -> bool:
    """Whether an input lies on the model's device; raises ``InputError`` when it lies on another GPU."""
    if isinstance(given, np.ndarray) or not hasattr(given, "__dlpack_device__"):
        return False
    kind, number = (int(i) for i in given.__dlpack_device__())
    if (kind, number) == device:
        return True
    if kind == device[0]:
        raise InputError(f"input '{port.name}' lies on GPU {number}, and the model on GPU {device[1]}: copy it there")
    return False


def _view(port: Port, given: Any, stream: int) -> View:
    """A checked view of an input on the GPU; raises ``InputError`` when it is unreadable, wrong or not contiguous."""
    try:
        found = view(given, stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(f"input '{port.name}' cannot be read by DLPack: {e}") from e
    check(port, found.shape, found.dtype)
    if not found.contiguous:
        raise InputError(
            f"input '{port.name}' is not contiguous on the GPU: make it so first (in PyTorch, .contiguous())"
        )
    return found


def lacks(description: Description) -> str:
    """An empty text, for any description.

    What is missing to run on a GPU is reported at the first call, so that a model can be inspected on any machine.
    """
    return ""


def suits(description: Description) -> int:
    """The same value, 0, for all code: code for GPUs suits every machine alike."""
    return 0


def facts(description: Description) -> list[tuple[str, str]]:
    """Facts about a model for GPUs, as names and values to be printed."""
    held = description.details["architectures"]
    plans = [Plan.of(each["plan"]) for each in held.values()]
    packed, workspace = max(p.packed for p in plans), max(p.workspace for p in plans)
    return [
        ("architectures", ", ".join(sorted(held, key=lambda name: (number(name), name)))),
        ("precision", str(description.details["precision"])),
        ("memory", f"{packed:,} bytes of packed weights, {workspace:,} of workspace"),
    ]


def load(path: str | os.PathLike[str], artifact: Artifact, threads: int | None, device: int | None) -> CudaModel:
    """Load a part of an artifact.

    Raises ``ArtifactError`` when its description is damaged, and ``InputError`` when ``threads`` is given.
    """
    if threads is not None:
        raise InputError(f"'{path}' runs on a GPU: threads (--threads) is for models compiled for a processor")
    try:
        for held in artifact.description.details["architectures"].values():
            Plan.of(held["plan"])
        if any(p.is_open for p in (*artifact.description.inputs, *artifact.description.outputs)):
            raise ValueError("code for GPUs has fixed sizes")
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        lacks = f": it lacks '{e.args[0]}'" if isinstance(e, KeyError) else ""
        raise ArtifactError(f"'{path}' has a damaged description{lacks}") from e
    return CudaModel(
        artifact.description,
        artifact.code,
        artifact.weights,
        artifact=artifact,
        open_device=lambda: NvidiaGpu(device or 0),
    )
