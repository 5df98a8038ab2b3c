"""What a target is to the compiler: the record that each backend fills in, and what all of them do alike.

A backend is a package beside this file, whose module ``backend`` has it as ``BACKEND``; the code that it makes is run by the
package of the same name in ``convc/runtime``. Nothing else in the compiler knows a target by its name.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from convc.ir.counted import counted_outputs
from convc.ir.errors import CompileError
from convc.ir.graph import Graph, Value
from convc.runtime.description import Description, Port
from convc.runtime.model import CompiledModel
from convc.version import __version__


@dataclass(frozen=True)
class Options:
    """What a model is compiled for, as ``convc.compile`` takes it: each backend says which of these it knows."""

    target: str = "cpu"
    threads: int | None = None
    arch: str | Sequence[str] | None = None
    precision: str = "default"
    tuning: Any = True


@dataclass(frozen=True)
class Backend:
    """One backend."""

    name: str
    """What its package is called, and the kind of the artifacts that it makes."""
    machines: str
    """What it makes code for, as errors say it: ``a processor``."""
    targets: tuple[str, ...]
    """The names of its targets, the first being what people say when they mean any."""
    several: bool
    """Whether one artifact may be for several targets, whose names stand between commas."""
    precisions: tuple[str, ...]
    """What ``precision`` may be, ``default`` first."""
    own: tuple[str, ...]
    """The options, besides target and precision, that it knows: ``threads``, ``arch``."""
    units: Callable[[Options], Sequence[Any]]
    """What one model each is compiled for. Raises ``CompileError`` for options that are malformed."""
    key: Callable[[Any, Options], Any]
    """All that decides what is compiled for a unit, besides graph and precision, as JSON keeps it."""
    build: Callable[[Graph, Any, Options, Path | None], CompiledModel]
    """Compile a graph of static shapes for a unit; the text of every stage goes to the folder where one is given."""
    for_here: Callable[[Options], Options]
    """The same for the one of several targets that this machine runs best; raises ``CompileError`` when it runs none."""
    reports_usage: bool = False
    """Whether the models that it builds have ``usage``: what each kernel takes of the machine."""


@cache
def backends() -> tuple[Backend, ...]:
    """Every backend, in alphabetic order."""
    package = __package__ or ""
    found = [m.name for m in pkgutil.iter_modules(import_module(package).__path__) if m.ispkg]
    return tuple(import_module(f"{package}.{name}.backend").BACKEND for name in sorted(found))


def backend_of(options: Options) -> Backend:
    """The backend for a target; raises ``CompileError`` for a target that none knows, and options that do not go with it."""
    names = options.target.split(",")
    fitting = [b for b in backends() if all(name in b.targets for name in names) and (b.several or len(names) == 1)]
    if not fitting:
        known = [name for b in backends() for name in b.targets]
        unknown = next((name for name in names if name not in known), options.target)
        raise CompileError(f"unknown target '{unknown}'; known: {', '.join(known)}")
    (backend,) = fitting
    check(backend, options)
    return backend


def check(backend: Backend, options: Options) -> None:
    """Raise ``CompileError`` for an option that another backend than this one knows."""
    others = [b for b in backends() if b is not backend]
    if options.precision not in backend.precisions:
        where = [b.machines for b in others if options.precision in b.precisions]
        hint = f" ('{options.precision}' is for {where[0]})" if where else ""
        known = ", ".join(backend.precisions)
        raise CompileError(f"unknown precision '{options.precision}'; known for '{options.target}': {known}{hint}")
    for b in others:
        for name in set(b.own) - set(backend.own):
            if getattr(options, name) is not None:
                raise CompileError(f"{name} is for {b.machines}, and the target is '{options.target}'")


def describe(graph: Graph, final: Graph, kind: str, details: Mapping[str, Any]) -> Description:
    """What a model is: its graph as it was given, and as it was compiled."""
    inputs = tuple(port(v.name, made) for v, made in zip(graph.inputs, final.inputs, strict=True))
    named = zip(graph.output_names, counted_outputs(graph), final.outputs, strict=False)  # the counts come last
    outputs = tuple(port(name, made, counted) for name, counted, made in named)
    return Description(graph.name, __version__, inputs, outputs, kind, details)


def port(name: str, made: Value, counted: int | None = None) -> Port:
    """An input or output as the code has it, layout and all."""
    return Port(name, made.type.physical_shape, str(made.type.numpy_dtype), counted)


def weights(final: Graph) -> dict[str, np.ndarray]:
    """The weights of a compiled graph by name."""
    return {name: c.array for name, c in final.constants.items()}
