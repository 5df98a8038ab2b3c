"""Models compiled for CPUs. A model for another processor can be saved, but not run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convc.ir.errors import ArtifactError, ConvcError, DeviceError, InputError

from ..artifact import Artifact
from ..description import Description
from ..model import CompiledModel
from ..processors import available_processors, thread_count
from .code import Code, Library
from .host import family_of, host
from .plan import Plan
from .program import Program
from .sized import Encoded, Planner


class CpuModel(CompiledModel):
    """A model compiled for one CPU target. Its weights are packed when it is loaded, or else when it first runs.

    The details of its description are ``triple``, ``mcpu`` and ``features``, which it was compiled for; ``threads``,
    the number of threads that a call uses, or ``None``; and ``plan``, its plan (``plan.py``).
    """

    def __init__(
        self,
        code: Code,
        description: Description,
        weights: Mapping[str, np.ndarray],
        threads: int | None = None,
        kernels: Sequence[Any] = (),
        artifact: Artifact | None = None,
        link: Callable[[], bytes] | None = None,
    ) -> None:
        """``link`` makes a shared library of code that was just compiled; an ``artifact`` has its own.

        Raises ``InputError`` when ``threads`` is not an integer of at least 1.
        """
        super().__init__(description, weights, kernels, artifact)
        self.machine_code = code
        self._link = link
        try:
            self.threads: int = thread_count(
                description.details["threads"] or available_processors() if threads is None else threads
            )
        except ValueError as e:
            raise InputError(str(e)) from None
        """The number of threads that a call may use."""
        self.plan = Plan.of(description.details["plan"])
        """What a call runs, the tensors that it needs, and how the weights are packed, whatever the sizes are."""
        self._lock = threading.Lock()
        self._running: Program | None = None

    @property
    def program(self) -> Program:
        """The code with its packed weights.

        Raises ``DeviceError`` when the model was compiled for another processor.
        """
        with self._lock:
            if self._running is None:
                missing = lacks(self.description)
                if missing:
                    raise DeviceError(f"the model {missing}: save it, and load it there")
                release = self._artifact.release if self._artifact else lambda: None
                self._running = Program(
                    self.machine_code,
                    self.plan,
                    self._weights,
                    self.inputs,
                    self.outputs,
                    self.threads,
                    release,
                )
            return self._running

    @property
    def nbytes(self) -> int:
        """The memory in bytes that the model takes once a thread has called it.

        It includes the packed weights, the workspace of one caller, and the original weights unless they are mapped
        from a file. Where sizes are open, the workspace is the largest of the sizes called so far.
        """
        kept = 0 if self._artifact else sum(w.nbytes for w in self._weights.values())
        if self._running or self.plan.names:
            return self.plan.packed + (self._running.most if self._running else 0) + kept
        calls = calls_of(self.description, self.plan)
        return self.plan.packed + calls.workspace + self.threads * calls.part + kept

    def _compute(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return (self._running or self.program)(arrays)

    def _code(self) -> bytes:
        assert self._link is not None
        return self._link()


def calls_of(description: Description, plan: Plan) -> Encoded:
    """The calls of a model of fixed sizes, which tell what memory they need."""
    return Planner(plan, description.inputs, description.outputs).at(tuple(p.sizes for p in description.inputs)).calls


def lacks(description: Description) -> str:
    """Why this processor cannot run a model, as a text that follows the model's name; empty when it can."""
    details, here = description.details, host()
    missing = here.lacks(family_of(details["triple"].partition("-")[0]), details["features"])
    return (
        missing and f"was compiled for {details['mcpu']} and needs what this processor ({here.name}) lacks: {missing}"
    )


def suits(description: Description) -> int:
    """How well code suits this processor: the number of instruction sets that it uses, or -1 when it cannot run."""
    return -1 if lacks(description) else len(description.details["features"])


def facts(description: Description) -> list[tuple[str, str]]:
    """Facts about a model for CPUs, as names and values to be printed."""
    details, plan = description.details, Plan.of(description.details["plan"])
    threads = details["threads"] or "as many as there are" if plan.parallel else 1
    if plan.names:
        given, read = plan.names[: plan.known[0]], len(plan.names) - plan.known[0]
        sizes = [*given, *([f"{read} that data decides"] if read else [])]
        caller = f"and for each calling thread what the sizes ask for ({', '.join(sizes)})"
    else:
        calls = calls_of(description, plan)
        per_thread = f", and {calls.part:,} for each thread of it" if calls.part else ""
        caller = f"{calls.workspace:,} for each calling thread{per_thread}"
    return [
        ("processor", f"{details['mcpu']} ({details['triple']})"),
        ("needs", ", ".join(details["features"])),
        ("here", lacks(description) or "it can run on this machine"),
        ("threads", str(threads)),
        ("memory", f"{plan.packed:,} bytes of packed weights, {caller}"),
    ]


def load(path: str | os.PathLike[str], artifact: Artifact, threads: int | None, device: int | None) -> CpuModel:
    """Load a part of an artifact that this processor can run.

    Raises ``ArtifactError`` when it is damaged, and ``InputError`` when ``device`` is given.
    """
    if device is not None:
        raise InputError(f"'{path}' runs on a processor: device (--device) is for models compiled for a GPU")
    try:
        model = CpuModel(Library(artifact.code), artifact.description, artifact.weights, threads, artifact=artifact)
        _ = model.program
        return model
    except (ConvcError, MemoryError):
        raise
    except OSError as e:
        raise ArtifactError(f"'{path}' cannot be loaded: {e}") from e
    except Exception as e:  # a damaged description can cause any error
        raise ArtifactError(f"'{path}' does not start: {e}") from e
