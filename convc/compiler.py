"""``convc.compile``, which compiles a model in any form to machine code."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convc.backends.backend import Backend, Options, backend_of
from convc.backends.identity import is_own
from convc.backends.store import store
from convc.ir.errors import CompileError, ConvcError, NotConstantError, ShapeError
from convc.ir.graph import Graph
from convc.ir.limits import Limits, current, guarded
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.pipeline import make_dump_folder
from convc.ir.random import current_seed, seeded
from convc.ir.shapes import StatedSize

from .cache import cache_key, through
from .dynamic import DynamicModel, Keep
from .reader import Reader, is_open, reader
from .runtime.interrupts import interrupts_kept
from .runtime.load import model_of
from .runtime.model import CompiledModel, Model

if TYPE_CHECKING:
    import onnx

    Source = Graph | str | os.PathLike[str] | bytes | onnx.ModelProto | Any

Shapes = Mapping[str, Sequence[StatedSize]]

_compiling = threading.Lock()
"""Held while a network is compiled: TVM compiles one network at a time."""


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
    seed: int = 0,
    dump_dir: str | os.PathLike[str] | None = None,
    values: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    batch: str | int | None = None,
) -> Model:
    """Compile a model to machine code.

    ``source`` is a ``Graph``, an ONNX model (a path, its bytes or a ``ModelProto``), the path of a graph in text form
    (``.txt``), or an ``nn`` module.

    ``shapes`` gives the shapes of inputs by name, in which a string is the name of a size that stays open. Code for
    CPUs takes open sizes as arguments, so that one compiled model, and its artifact, serve all of them. Code for GPUs
    does not: there the network is compiled when it is called, for each combination of sizes, and ``keep`` bounds how
    many of these compiled models stay in memory. The same happens where a network cannot be compiled without its sizes.
    A sequence of such mappings compiles for several combinations ahead: it gives a ``ModelSet``, which is saved as one
    artifact.

    ``values`` makes constants of inputs, by name, as ``{"sr": 16000}``; the model does not take these inputs any more.
    It replaces the values of weights that an ONNX file also lists as inputs. Where the network needs the value of a
    small input that is not given, such as the number of steps of a loop, it is compiled for each value that it is
    called with. ``outputs`` cuts the model: it names the values that are returned in place of the model's outputs, of
    the inputs only those remain that they need. ``batch`` takes the place of the number of images that a file fixed:
    another number, or a name for an open one, as ``"n"``. An error names the node where images would mix.

    Models compiled for dynamic sizes are stored in the cache on disk (``convc/cache.py``), where every process finds
    them that compiles the same model with the same options. ``cache=True`` stores all models there, and
    ``cache=False`` none.

    To compile for CPUs, ``target`` is ``cpu`` or ``native`` for the processor of this machine, a level of x86-64 such
    as ``x86-64-v3``, ``aarch64``, or the name of a 64-bit Arm processor. Several targets, separated by commas, give one
    artifact for all of them. ``threads`` is the number of threads that a call uses, by default as many as the process
    may run on. ``precision="strict"`` computes every convolution directly. The default also uses Winograd's algorithm,
    which is faster and whose rounding errors are some five times as large. ``tuning`` is a database that ``convc tune``
    wrote, of convolutions for which another algorithm was measured to be faster than the cost model's choice. ``True``
    stands for the databases in the cache folder, if there are any, a path for that file, and ``None`` or ``False`` for
    none. A database is for one processor; of several targets, only the one of that processor is compiled by it.

    To compile for NVIDIA GPUs, ``target`` is ``cuda``; this machine needs no GPU. ``arch`` names the architectures, as
    ``"sm_80,ptx"`` or as a sequence, by default all that convc knows. ``precision="tf32"`` allows products of float32
    to round their factors to 11 significant bits. ``precision="fp16"`` computes in float16 with sums in float32;
    inputs and outputs keep their dtypes.

    ``limits`` bounds what a model may ask for, such as memory; a model beyond them is refused (``convc.Limits``).
    ``seed``, from 0 to 2**64 - 1, determines the numbers of random nodes without a seed of their own. Every call of the
    model draws the same numbers (``ir/random.py``).
    ``dump_dir`` is a folder that receives the graph after every pass.

    Raises subclasses of ``ConvcError``, whose messages name the node and the cause. An interrupt (Ctrl-C) is raised as
    ``KeyboardInterrupt`` once the running call into LLVM ends, which takes up to half a minute for a large network.
    """
    _check_kinds(limits=(limits, Limits), keep=(keep, Keep), cache=(cache, bool))
    options = Options(target, threads, arch, precision, None if tuning is False else tuning, cache is not False)
    for name, path in (("tuning", tuning), ("dump_dir", dump_dir)):
        if not isinstance(path, str | os.PathLike | None) and not (name == "tuning" and isinstance(path, bool)):
            raise ConvcError(f"{name} must be a path, not {path!r}")
    folder = Path(dump_dir) if dump_dir is not None else None
    if folder is not None:
        make_dump_folder(folder)  # before the long part, not after it
    with guarded(limits), seeded(seed), interrupts_kept():
        recipe = Recipe(backend_of(options), options, folder, current())
        recipe.backend.units(options)  # raises for malformed options before the model is read
        if isinstance(shapes, Sequence):
            return model_of(_several(source, shapes, recipe, cache is True, values, outputs, batch))
        found = reader(source, shapes, values, outputs, batch=batch)
        return _with_optional(_model(found, recipe, cache, keep or Keep()), found, recipe, cache, keep or Keep())


def _check_kinds(**arguments: tuple[Any, type]) -> None:
    """Raises ``ConvcError`` for an argument that is neither ``None`` nor of its type, which are given by name."""
    for name, (value, kind) in arguments.items():
        if not isinstance(value, kind | None):
            raise ConvcError(f"{name} must be a {kind.__name__} or None, not {value!r}")


def _model(found: Reader, recipe: Recipe, cache: bool | None, keep: Keep) -> Model:
    """The compiled model, or the one that compiles when it is called, where sizes or values are left to its callers."""
    if is_open(found.inputs):
        return _open(found, recipe, cache is not False, keep)
    try:
        graph, _ = _fixed(found)
    except NotConstantError as e:
        if not e.inputs:
            raise
        return _open(found, recipe, cache is not False, keep, e.inputs)
    return model_of(recipe.models(graph, cache is True))


def _with_optional(model: Model, found: Reader, recipe: Recipe, cache: bool | None, keep: Keep) -> Model:
    """The model, which takes optional inputs as well when it is run by names."""
    if found.optional:
        seed = current_seed()

        @lru_cache(maxsize=4)
        def taking(names: frozenset[str]) -> Model:
            with seeded(seed):
                return _dynamic(found.taking(names), recipe, cache is not False, keep)

        model.optional, model._taking = found.optional, taking
    return model


def _several(
    source: Source,
    shapes: Sequence[Shapes],
    recipe: Recipe,
    cache: bool,
    values: Mapping[str, Any] | None,
    outputs: Sequence[str] | None,
    batch: str | int | None,
) -> list[CompiledModel]:
    """The models for each of several shapes.

    Raises ``ShapeError`` when one of them leaves a size open that code cannot take as an argument.
    """
    if not shapes:
        raise ShapeError("shapes is an empty list: give one shape at least, as [{'x': (1, 3, 224, 224)}]")
    models = []
    for given in shapes:
        found = reader(source, given, values, outputs, batch=batch)
        if left := next((port for port in found.inputs if port.is_open), None):
            try:
                models += _open_models(found, recipe, cache)
            except ConvcError as e:
                raise ShapeError(
                    f"input {left} leaves sizes open, and code that takes them as arguments cannot be made ({e}): fix "
                    f"them with shapes=[{{'{left.name}': ...}}] (--shape {left.name}=...)"
                ) from e
            continue
        try:
            graph, fixed = _fixed(found)
        except NotConstantError as e:
            if not e.inputs or not recipe.backend.open_sizes:
                raise
            try:
                models += _open_models(found, recipe, cache)
            except ConvcError:
                raise e from None
            continue
        models += (recipe.at(fixed) if len(shapes) > 1 else recipe).models(graph, cache)
    return models


def _fixed(found: Reader) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """The graph of a source without dynamic sizes, and the shapes of its inputs by name."""
    shapes = {p.name: p.sizes for p in found.inputs}
    return fix_shapes(found.graph(shapes, {}), {}), shapes


def _open(found: Reader, recipe: Recipe, cache: bool, keep: Keep, by_value: Sequence[str] = ()) -> Model:
    """The model whose code takes open sizes as arguments, or one that is compiled for each combination of them, where
    there is no such code.

    ``by_value`` names small inputs that decide sizes: the code reads them as it runs, or is made for their values.
    """
    try:
        models = _open_models(found, recipe, cache)
    except ConvcError as e:
        return _dynamic(found, recipe, cache, keep, by_value, str(e))
    for model in models:
        model._otherwise = _dynamic(found, recipe, cache, keep, by_value or found.asks())
    return model_of(models)


def _dynamic(
    found: Reader, recipe: Recipe, cache: bool, keep: Keep, by_value: Sequence[str] = (), why: str = ""
) -> DynamicModel:
    seed = current_seed()

    def make(shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, np.ndarray]) -> CompiledModel:
        try:
            with guarded(recipe.limits), seeded(seed), interrupts_kept():
                graph = fix_shapes(found.graph(shapes, values), {})
                return recipe.at(shapes, values).for_here().models(graph, cache)[0]
        except ConvcError as e:
            e.within("for " + ", ".join(_with_value(name, shape, values) for name, shape in shapes.items()))
            raise

    made_for = f"{recipe.options.target}, precision {recipe.options.precision}"
    return DynamicModel(found.name, found.inputs, found.outputs, make, keep, by_value, made_for, why)


def _open_models(found: Reader, recipe: Recipe, cache: bool) -> list[CompiledModel]:
    """The models whose code takes open sizes as arguments. Raises ``ConvcError`` where that is not possible."""
    if not recipe.backend.open_sizes:
        raise CompileError(f"code for {recipe.backend.machines} is made for each size")
    return recipe.models(found.whole(), cache)


def _with_value(name: str, shape: Sequence[int], values: Mapping[str, np.ndarray]) -> str:
    if name not in values or values[name].size > SHOWN:
        return f"{name} {list(shape)}"
    return f"{name} = {values[name].tolist()}"


SHOWN = 16
"""Values of inputs of at most this many elements are shown in full."""


@dataclass(frozen=True)
class Recipe:
    """All that a graph is compiled with: a backend, its options, the dump folder and the limits."""

    backend: Backend
    options: Options
    dump_dir: Path | None
    limits: Limits

    def models(self, graph: Graph, cache: bool) -> list[CompiledModel]:
        """The graph, of static shapes, compiled for each target. With ``cache`` the cache on disk is used."""
        disk = store() if cache and self.dump_dir is None and is_own(graph) else None  # a dump needs the passes to run
        models = []
        for unit in self.backend.units(self.options):

            def make(unit: Any = unit) -> CompiledModel:
                with _compiling:
                    return self.backend.build(graph, unit, self.options, self.dump_dir)

            def key(unit: Any = unit) -> str:
                return cache_key(graph, self._key(unit))

            models.append(through(disk, key, self.options.threads, make))
        return models

    def _key(self, unit: Any) -> dict[str, Any]:
        """The options of ``cache_key``. They include the limits: a model that these refuse must not be found."""
        what = {"backend": self.backend.name, "precision": self.options.precision, "limits": asdict(self.limits)}
        return what | {"unit": self.backend.key(unit, self.options)}

    def at(self, shapes: Mapping[str, Sequence[int]], values: Mapping[str, np.ndarray] | None = None) -> Recipe:
        """The recipe for one of several shapes and values, whose dumps go into a subfolder named after them."""
        if self.dump_dir is None:
            return self
        named = {**shapes, **{n: v.reshape(-1)[:SHOWN].tolist() for n, v in (values or {}).items()}}
        name = " ".join(f"{name}={','.join(map(str, s))}" for name, s in named.items()).replace("/", "_")
        return replace(self, dump_dir=self.dump_dir / name)

    def for_here(self) -> Recipe:
        """The recipe for the one target that this machine runs best. Raises ``CompileError`` when it can run none."""
        return replace(self, options=self.backend.for_here(self.options))
