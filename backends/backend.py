"""The interface of a backend, a record that each backend fills in, and functions that all backends share.

A backend is a package beside this file. Its module ``backend`` defines ``BACKEND``. The code that it makes is run by
the package of the same name in ``convc/runtime``. No other part of the compiler refers to a backend by name.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from convc.ir.errors import CompileError
from convc.ir.graph import Graph, Value
from convc.ir.ops.while_loop import While
from convc.runtime.description import Description, Port
from convc.runtime.model import CompiledModel
from convc.version import __version__


@dataclass(frozen=True)
class Options:
    """The options of ``convc.compile`` that concern the target. Each backend takes those that it knows."""

    target: str = "cpu"
    threads: int | None = None
    arch: str | Sequence[str] | None = None
    precision: str = "default"
    tuning: Any = True
    cache: bool = True
    """Whether kernels are looked up in the cache on disk, and kept there."""


@dataclass(frozen=True)
class Backend:
    """The description of one backend."""

    name: str
    """The name of the backend's package, and the kind of the artifacts that it makes."""
    machines: str
    """The machines that the backend makes code for, as error messages name them: ``a processor``."""
    targets: tuple[str, ...]
    """The names of the backend's targets. The first is the one to name in messages."""
    several: bool
    """Whether one artifact may hold code for several targets, whose names are separated by commas."""
    precisions: tuple[str, ...]
    """The values that ``precision`` may have, ``default`` first."""
    own: tuple[str, ...]
    """The options that the backend knows besides target and precision: ``threads``, ``arch`` or ``tuning``."""
    units: Callable[[Options], Sequence[Any]]
    """The units of the options: one model is compiled for each of them.

    Raises ``CompileError`` for malformed options.
    """
    key: Callable[[Any, Options], Any]
    """All that determines the code for a unit, besides the graph and the precision, as a JSON-compatible value."""
    build: Callable[[Graph, Any, Options, Path | None], CompiledModel]
    """Compile a graph for a unit. Its sizes may be open where ``open_sizes`` says so.

    If a folder is given, the graph after every pass is written to it.
    """
    for_here: Callable[[Options], Options]
    """The options with the one target, out of several, that this machine runs best.

    Raises ``CompileError`` when it can run none of them.
    """
    open_sizes: bool = False
    """Whether code may take sizes as arguments."""
    reports_usage: bool = False
    """Whether the compiled models have an attribute ``usage``, the GPU resources that each kernel uses."""


@cache
def backends() -> tuple[Backend, ...]:
    """All backends, in alphabetical order."""
    package = __package__ or ""
    found = [m.name for m in pkgutil.iter_modules(import_module(package).__path__) if m.ispkg]
    return tuple(import_module(f"{package}.{name}.backend").BACKEND for name in sorted(found))


def backend_of(options: Options) -> Backend:
    """The backend for the target of the options.

    Raises ``CompileError`` when no backend has the target, and when the options do not go with it.
    """
    if not isinstance(options.target, str):
        raise CompileError(f"target is a name such as 'cpu' or 'cuda', not {options.target!r}")
    names = options.target.split(",")
    fitting = [b for b in backends() if all(name in b.targets for name in names) and (b.several or len(names) == 1)]
    if not fitting:
        known = [name for b in backends() for name in b.targets]
        if all(name in known for name in names):
            alone = next(b for b in backends() if not b.several and {*names} & {*b.targets})
            raise CompileError(
                f"target '{options.target}' names several, and code for {alone.machines} goes into an artifact of its "
                "own: compile once for each"
            )
        unknown = next((name for name in names if name not in known), options.target)
        raise CompileError(f"unknown target '{unknown}'{_meant(unknown, known)}; known: {', '.join(known)}")
    (backend,) = fitting
    check(backend, options)
    return backend


_OTHER_NAMES = {
    **dict.fromkeys(("gpu", "nvidia", "nvptx", "cuda:0", "nvidia-gpu", "ptx"), "cuda"),
    **dict.fromkeys(("llvm", "host", "x86", "x86-64", "x86_64", "amd64", "intel"), "cpu"),
    **dict.fromkeys(("arm", "arm64", "armv8", "armv8-a"), "aarch64"),
    **dict.fromkeys(("skylake-avx512", "avx512", "znver4", "znver5", "icelake-server"), "x86-64-v4"),
    **dict.fromkeys(("haswell", "avx2", "skylake", "znver1", "znver2", "znver3"), "x86-64-v3"),
}
"""Names that other programs use for targets of ours."""


def _meant(name: str, known: Sequence[str]) -> str:
    """A question for the target that a name stands for or resembles, as a part of an error message; or nothing."""
    lower = name.strip().lower()
    close = [_OTHER_NAMES.get(lower, lower), *difflib.get_close_matches(lower, known, n=1, cutoff=0.7)]
    if lower.startswith(("sm_", "compute_")):
        return f" (did you mean 'cuda' with arch '{lower}', --target cuda --arch {lower}?)"
    return next((f" (did you mean '{k}'?)" for k in close if k in known), "")


def check(backend: Backend, options: Options) -> None:
    """Raise ``CompileError`` for a precision that the backend lacks, or an option that only another backend knows."""
    others = [b for b in backends() if b is not backend]
    if options.precision not in backend.precisions:
        where = [b.machines for b in others if options.precision in b.precisions]
        hint = f" ('{options.precision}' is for {where[0]})" if where else ""
        known = ", ".join(backend.precisions)
        raise CompileError(f"unknown precision '{options.precision}'; known for '{options.target}': {known}{hint}")
    for b in others:
        for name in sorted({*b.own} - {*backend.own}):
            if getattr(options, name) not in (None, getattr(Options, name)):
                raise CompileError(f"{name} is for {b.machines}, and the target is '{options.target}'")


def describe(graph: Graph, final: Graph, kind: str, details: Mapping[str, Any]) -> Description:
    """The description of a compiled model.

    ``graph`` is the graph before the passes of the backend, which gives the names, and ``final`` the graph that was
    compiled, which gives the shapes and dtypes.
    """
    inputs = tuple(port(v.name, made) for v, made in zip(graph.inputs, final.inputs, strict=True))
    outputs = tuple(port(name, made) for name, made in zip(graph.output_names, final.outputs, strict=True))
    return Description(graph.name, __version__, inputs, outputs, kind, details)


def port(name: str, made: Value) -> Port:
    """The port for an input or output, of the physical shape that the code reads or writes."""
    shape = tuple(size if isinstance(size, int) else str(size) for size in made.type.extents)
    return Port(name, shape, str(made.type.numpy_dtype))


def weights(final: Graph) -> dict[str, np.ndarray]:
    """The weights of a compiled graph, by name. Those of the body of a ``while`` have the name of its node before."""
    found = {name: c.array for name, c in final.constants.items()}
    for n in final.nodes:
        if isinstance(n.op, While):
            found |= {f"{n.output.name}/{name}": array for name, array in weights(n.op.body).items()}
    return found
