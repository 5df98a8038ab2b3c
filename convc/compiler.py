"""``convc.compile``: from a model in any form to machine code."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convc.backends.backend import Backend, Options, backend_of
from convc.ir.errors import ConvcError, ShapeError
from convc.ir.graph import Graph
from convc.ir.limits import Limits, current, guarded
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.sizes import Dim

from .cache import cache_key, disk_cache, through
from .dynamic import DynamicModel, Keep
from .reader import Reader, is_open, reader
from .runtime.load import model_of
from .runtime.model import CompiledModel, Model

if TYPE_CHECKING:
    import onnx

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

    ``shapes`` gives sizes to inputs by name. Sizes that stay dynamic follow from the arrays that the model is called with: it is
    then a ``DynamicModel``, compiled for each size that comes; ``keep`` says how many of them stay in memory. Several shapes,
    as a sequence, give a ``ModelSet`` of those sizes, for one artifact. ``dump_dir`` receives the graph after every pass.

    What is compiled for dynamic sizes is kept on disk, and with ``cache=True`` everything, to be found again by any process that
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
    options = Options(target, threads, arch, precision, tuning)
    folder = Path(dump_dir) if dump_dir is not None else None
    with guarded(limits):
        recipe = Recipe(backend_of(options), options, folder, current())
        recipe.backend.units(options)  # malformed options are said before the model is read
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
            if port.is_open:
                raise ShapeError(
                    f"input {port} leaves sizes dynamic: fix them with shapes=[{{'{port.name}': ...}}] "
                    f"(--shape {port.name}=...)"
                )
        graph, fixed = _fixed(found)
        models += (recipe.at(fixed) if len(shapes) > 1 else recipe).models(graph, cache)
    return models


def _fixed(found: Reader) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """The graph of a source that leaves no size dynamic, and the shapes of its inputs."""
    shapes = {p.name: p.sizes for p in found.inputs}
    return fix_shapes(found.graph(shapes), {}), shapes


def _dynamic(found: Reader, recipe: Recipe, cache: bool, keep: Keep) -> DynamicModel:
    def make(shapes: Mapping[str, tuple[int, ...]]) -> CompiledModel:
        try:
            with guarded(recipe.limits):
                return recipe.at(shapes).for_here().models(fix_shapes(found.graph(shapes), {}), cache)[0]
        except ConvcError as e:
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            e.within(f"for {sizes}")
            raise

    return DynamicModel(found.name, found.inputs, found.outputs, make, keep)


@dataclass(frozen=True)
class Recipe:
    """What a graph is compiled for, and how."""

    backend: Backend
    options: Options
    dump_dir: Path | None
    limits: Limits

    def models(self, graph: Graph, cache: bool) -> list[CompiledModel]:
        """The graph compiled for each of the targets, with ``cache`` by way of the cache on disk."""
        disk = disk_cache() if cache and self.dump_dir is None else None  # a dump shows passes, which must then run
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
        """All that decides what is compiled; the limits too, since a model that they refuse must not be found."""
        what = {"backend": self.backend.name, "precision": self.options.precision, "limits": asdict(self.limits)}
        return what | {"unit": self.backend.key(unit, self.options)}

    def at(self, shapes: Mapping[str, Sequence[int]]) -> Recipe:
        """The same for one of several sizes, which dumps into a folder of its own."""
        if self.dump_dir is None:
            return self
        name = " ".join(f"{name}={','.join(map(str, s))}" for name, s in shapes.items()).replace("/", "_")
        return replace(self, dump_dir=self.dump_dir / name)

    def for_here(self) -> Recipe:
        """The same for the one of the targets that this machine runs best; raises ``CompileError`` when it runs none."""
        return replace(self, options=self.backend.for_here(self.options))
