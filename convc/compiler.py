"""``convc.compile``: from a model in any form to machine code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from convc.backends.build import build
from convc.backends.target import parse_target
from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.ir.limits import Limits, guarded
from convc.ir.passes.fix_shapes import fix_shapes

from . import __version__, pipeline
from .artifact import Description, Port
from .database import choices_for
from .model import CompiledModel, available_processors
from .sources import as_graph

PRECISIONS = ("default", "strict")

Source = Graph | str | os.PathLike[str] | bytes | onnx.ModelProto | Any


def compile(
    source: Source,
    target: str = "cpu",
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    *,
    precision: str = "default",
    limits: Limits | None = None,
    tuning: bool | str | os.PathLike[str] | None = True,
    dump_dir: str | os.PathLike[str] | None = None,
) -> CompiledModel:
    """Compile a graph, an ONNX file (path, bytes or ``ModelProto``), a text-form file, or an ``nn`` module.

    ``shapes`` gives sizes to inputs by name. ``threads`` is how many threads a call uses: by default as many as the
    process may run on. ``precision="strict"`` keeps to the direct form of convolution, where the default also uses
    Winograd's, which is faster and rounds some five times more. ``tuning`` is a database made by ``convc tune``, which says where another
    form than the cost model's was measured to be faster: by default the one in the cache folder, where there is one; a
    path; or ``None`` or ``False`` for none. ``dump_dir`` receives the graph after every pass. ``limits`` are what a model
    may ask for, above which it is refused: see ``convc.Limits``.
    Raises errors derived from ``ConvcError``, each naming the node and the cause.
    """
    with guarded(limits):
        return _compile(source, target, shapes, threads, precision, tuning, dump_dir)


def _compile(
    source: Source,
    target: str,
    shapes: Mapping[str, Sequence[int]] | None,
    threads: int | None,
    precision: str,
    tuning: bool | str | os.PathLike[str] | None,
    dump_dir: str | os.PathLike[str] | None,
) -> CompiledModel:
    if threads is not None and not (isinstance(threads, int) and threads >= 1):
        raise CompileError(f"threads must be an integer of at least 1, not {threads!r}")
    if precision not in PRECISIONS:
        raise CompileError(f"unknown precision '{precision}'; known: {', '.join(PRECISIONS)}")
    machine = parse_target(target, threads or available_processors())
    graph = fix_shapes(as_graph(source, shapes), {})
    choices = choices_for(tuning if precision != "strict" else None, machine.mcpu)
    final = pipeline.run(graph, machine.machine, precision, Path(dump_dir) if dump_dir is not None else None, choices)
    built = build(final, machine)
    weights = {name: c.array for name, c in final.constants.items()}
    inputs, outputs = (
        tuple(Port(n, v.type.physical_shape, str(v.type.numpy_dtype)) for n, v in zip(names, values, strict=True))
        for names, values in (([v.name for v in graph.inputs], final.inputs), (graph.output_names, final.outputs))
    )
    description = Description(
        graph.name,
        __version__,
        inputs,
        outputs,
        machine.mcpu,
        tuple(sorted(machine.features)),
        threads,
        memory=asdict(built.plan),
    )
    return CompiledModel(built.module, description, weights, threads, built.kernels)
