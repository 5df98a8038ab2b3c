"""``convc.compile``: from a model in any form to machine code."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convc.backends.cpu.build import build
from convc.backends.cpu.choices import Choices
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import Target, host_target, parse_target, parse_targets
from convc.ir.counted import counted_outputs
from convc.ir.errors import CompileError, ConvcError, ShapeError
from convc.ir.graph import Graph, Value
from convc.ir.limits import Limits, current, guarded
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.sizes import Dim

from . import __version__
from .cache import DiskCache, cache_key, disk_cache, through
from .dynamic import DynamicModel, Keep
from .reader import Reader, is_open, reader
from .runtime.cpu.model import CpuModel
from .runtime.cuda.model import CudaModel
from .runtime.description import Description, Port
from .runtime.load import model_of
from .runtime.model import CompiledModel, Model
from .runtime.processors import available_processors
from .tuning.database import choices_for

PRECISIONS = ("default", "strict")
"""Of a processor."""
GPU_PRECISIONS = ("default", "fp32", "tf32", "fp16")
"""Of a GPU, the first two being the same."""

Source = Graph | str | os.PathLike[str] | bytes | onnx.ModelProto | Any
Shapes = Mapping[str, Sequence[Dim]]

_compiling = threading.Lock()
"""TVM compiles one network at a time."""


def compile(
    source: Source,
    target: str = "cpu",
    shapes: Shapes | Sequence[Shapes] | None = None,
    threads: int | None = None,
    *,
    arch: str | Sequence[str] | None = None,
    precision: str = "default",
    tuning: bool | str | os.PathLike[str] | None = True,
    cache: bool | None = None,
    keep: Keep | None = None,
    limits: Limits | None = None,
    dump_dir: str | os.PathLike[str] | None = None,
) -> Model:
    """Compile a graph, an ONNX file (path, bytes or ``ModelProto``), a text-form file, or an ``nn`` module.

    ``shapes`` gives sizes to inputs by name. Sizes that stay open follow from the arrays that the model is called with: it is
    then a ``DynamicModel``, compiled for each size that comes; ``keep`` says how many of them stay in memory. Several shapes,
    as a sequence, give a ``ModelSet`` of those sizes, for one artifact. ``dump_dir`` receives the graph after every pass.

    What is compiled for open sizes is kept on disk, and with ``cache=True`` everything, to be found again by any process that
    compiles the same for the same; with ``False`` nothing (``cache.py``).

    For a processor, ``target`` is this one (``cpu`` or ``native``), a level of x86-64 (``x86-64-v3``), ``aarch64`` or a
    processor of that kind; several between commas go into one artifact. ``threads`` is how many threads a call uses: by
    default as many as the process may run on.
    ``precision="strict"`` keeps to the direct form of convolution, where the default also uses Winograd's, which is faster and
    rounds some five times more. ``tuning`` is a database made by ``convc tune``, which says where another form than the cost
    model's was measured to be faster: by default the one in the cache folder, where there is one; a path; or ``None`` or
    ``False`` for none.

    For a GPU, ``target="cuda"``, which none need be here: ``arch`` names what to compile for, as ``"sm_80,ptx"`` or a sequence;
    by default all that convc knows. ``precision="tf32"`` lets float32 products round their factors to 11 bits, and
    ``"fp16"`` computes in float16, sums in float32; inputs and outputs keep their types.

    ``limits`` are what a model may ask for, above which it is refused: see ``convc.Limits``.
    Raises errors derived from ``ConvcError``, each naming the node and the cause.
    """
    if threads is not None and not (isinstance(threads, int) and threads >= 1):
        raise CompileError(f"threads must be an integer of at least 1, not {threads!r}")
    _check(target, arch, threads, precision)
    folder = Path(dump_dir) if dump_dir is not None else None
    with guarded(limits):
        recipe = Recipe(target, threads, arch, precision, tuning, folder, current())
        if isinstance(shapes, Sequence):
            return model_of(_several(source, shapes, recipe, cache is True))
        found = reader(source, shapes)
        if is_open(found.inputs):
            return _dynamic(found, recipe, cache is not False, keep or Keep())
        return model_of(recipe.models(_fixed(found)[0], cache is True))


def _several(source: Source, shapes: Sequence[Shapes], recipe: Recipe, cache: bool) -> list[CompiledModel]:
    """The models of several sizes; raises ``ShapeError`` when one of them is not wholly given."""
    if not shapes:
        raise ShapeError("shapes is an empty list: give one shape at least, as [{'x': (1, 3, 224, 224)}]")
    models = []
    for given in shapes:
        found = reader(source, given)
        for port in found.inputs:
            if is_open([port]):
                raise ShapeError(
                    f"input {port} leaves sizes open: fix them with shapes=[{{'{port.name}': ...}}] (--shape {port.name}=...)"
                )
        graph, fixed = _fixed(found)
        models += (recipe.at(fixed) if len(shapes) > 1 else recipe).models(graph, cache)
    return models


def _fixed(found: Reader) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """The graph of what leaves no size open, and the shapes of its inputs."""
    shapes = {p.name: tuple(map(int, p.shape)) for p in found.inputs}
    return fix_shapes(found.graph(shapes), {}), shapes


def _dynamic(found: Reader, recipe: Recipe, cache: bool, keep: Keep) -> DynamicModel:
    def make(shapes: Mapping[str, tuple[int, ...]]) -> CompiledModel:
        try:
            with guarded(recipe.limits):
                return recipe.at(shapes).for_here().models(fix_shapes(found.graph(shapes), {}), cache)[0]
        except ConvcError as e:
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise type(e)(f"for {sizes}: {e}") from e

    return DynamicModel(found.name, found.inputs, found.outputs, make, keep)


@dataclass(frozen=True)
class Recipe:
    """What a graph is compiled for, and how."""

    target: str
    threads: int | None
    arch: str | Sequence[str] | None
    precision: str
    tuning: bool | str | os.PathLike[str] | None
    dump_dir: Path | None
    limits: Limits

    def models(self, graph: Graph, cache: bool) -> list[CompiledModel]:
        """The graph compiled for each of the targets, with ``cache`` by way of the one on disk."""
        disk = disk_cache() if cache and self.dump_dir is None else None  # a dump shows passes, which must then run
        if self.target == "cuda":
            options = self._options("cuda", self.arch if isinstance(self.arch, str | None) else list(self.arch))
            return [through(disk, lambda: cache_key(graph, options), None, lambda: self._for_gpu(graph))]
        return [
            self._for_cpu(graph, t, disk) for t in parse_targets(self.target, self.threads or available_processors())
        ]

    def at(self, shapes: Mapping[str, Sequence[int]]) -> Recipe:
        """The same for one of several sizes, which dumps into a folder of its own."""
        if self.dump_dir is None:
            return self
        name = " ".join(f"{name}={','.join(map(str, s))}" for name, s in shapes.items()).replace("/", "_")
        return replace(self, dump_dir=self.dump_dir / name)

    def for_here(self) -> Recipe:
        """The same for that one of the targets which this processor runs best; raises ``CompileError`` when it runs none."""
        if self.target == "cuda":
            return self
        host = host_target()
        targets = {name: parse_target(name) for name in self.target.split(",")}
        able = [name for name, t in targets.items() if not host.lacks(t.family, t.features)]
        if not able:
            lacking = {name: host.lacks(t.family, t.features) for name, t in targets.items()}
            reasons = "; ".join(f"{name} needs {what}" for name, what in lacking.items())
            raise CompileError(
                f"sizes that are open are compiled when the model runs, and this processor ({host.mcpu}) cannot run it: "
                f"{reasons}; fix them with shapes={{...}} (--shape)"
            )
        return replace(self, target=max(able, key=lambda name: len(targets[name].features)))

    def _options(self, target: Any, arch: Any = None) -> dict[str, Any]:
        options = {"target": target, "arch": arch, "precision": self.precision, "threads": self.threads}
        return options | {"limits": asdict(self.limits)}  # a model that they refuse must not be found

    def _for_cpu(self, graph: Graph, target: Target, disk: DiskCache | None) -> CompiledModel:
        choices = choices_for(self.tuning if self.precision != "strict" else None, target.mcpu)
        what = [target.mcpu, target.triple, sorted(target.features), target.threads, dict(choices.algorithms)]

        def make() -> CompiledModel:
            return _for_cpu(graph, target, self.threads, self.precision, choices, self.dump_dir)

        return through(disk, lambda: cache_key(graph, self._options(what)), self.threads, make)

    def _for_gpu(self, graph: Graph) -> CompiledModel:
        with _compiling:
            return _for_gpu(graph, self.arch, self.precision, self.dump_dir)


def _check(target: str, arch: str | Sequence[str] | None, threads: int | None, precision: str) -> None:
    """Raise ``CompileError`` for what does not go together."""
    known = GPU_PRECISIONS if target == "cuda" else PRECISIONS
    if precision not in known:
        other = "a processor" if target == "cuda" else "target 'cuda'"
        hint = f" ('{precision}' is for {other})" if precision in (*PRECISIONS, *GPU_PRECISIONS) else ""
        raise CompileError(f"unknown precision '{precision}'; known: {', '.join(known)}{hint}")
    if target != "cuda" and arch is not None:
        raise CompileError(f"arch is for target 'cuda', and the target is '{target}'")
    if target == "cuda" and threads is not None:
        raise CompileError("threads is for a processor, and the target is 'cuda'")


def _for_cpu(
    graph: Graph, target: Target, threads: int | None, precision: str, choices: Choices, dump_dir: Path | None
) -> CpuModel:
    with _compiling:
        final = pipeline(target.machine, precision, choices).run(graph, dump_dir)
        built = build(final, target)
    details = {
        "triple": target.triple,
        "mcpu": target.mcpu,
        "features": tuple(sorted(target.features)),
        "threads": threads,
        "memory": asdict(built.plan),
    }
    model = CpuModel(built.module, _description(graph, final, "cpu", details), _weights(final), threads, built.kernels)
    if not host_target().lacks(target.family, target.features):
        _ = model.program  # what it takes to run is done now
    return model


def _for_gpu(graph: Graph, arch: str | Sequence[str] | None, precision: str, dump_dir: Path | None) -> CudaModel:
    from convc.backends.cuda import build as cuda
    from convc.backends.cuda.arch import parse_architectures
    from convc.backends.cuda.pipeline import pipeline as gpu_pipeline
    from convc.backends.cuda.usage import usage

    precision = "fp32" if precision == "default" else precision
    architectures = [replace(a, gpu=replace(a.gpu, tf32=precision == "tf32")) for a in parse_architectures(arch)]
    final = gpu_pipeline(precision).run(graph, dump_dir)
    built = cuda.build(final, architectures)
    held, code = {}, bytearray()
    for name, found in built.items():
        places = []
        for module in found.modules:
            places.append((len(code), len(module.code)))
            code += module.code
        held[name] = {"modules": places, "plan": asdict(found.variant.plan)}
    description = _description(graph, final, "cuda", {"precision": precision, "architectures": held})
    model = CudaModel(description, bytes(code), _weights(final), built[architectures[-1].name].variant.kernels)
    model.usage = {a.name: usage(built[a.name], a.gpu) for a in architectures}
    return model


def _description(graph: Graph, final: Graph, kind: str, details: Mapping[str, Any]) -> Description:
    """What a model is, its graph as it was given and as it was compiled."""
    inputs = tuple(_port(v.name, made) for v, made in zip(graph.inputs, final.inputs, strict=True))
    outputs = tuple(map(_port, graph.output_names, final.outputs, counted_outputs(graph)))  # the counts come last
    return Description(graph.name, __version__, inputs, outputs, kind, details)


def _port(name: str, made: Value, counted: int | None = None) -> Port:
    return Port(name, made.type.physical_shape, str(made.type.numpy_dtype), counted)


def _weights(final: Graph) -> dict[str, np.ndarray]:
    return {name: c.array for name, c in final.constants.items()}
