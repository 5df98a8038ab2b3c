"""``convc.compile``: from a model in any form to machine code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convc.backends.build import build
from convc.backends.target import parse_target
from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.ir.passes.fix_shapes import fix_shapes

from . import __version__, pipeline
from .artifact import Description, Port
from .cpu_model import CpuModel
from .cuda_model import CudaModel
from .database import choices_for
from .model import CompiledModel, available_processors
from .sources import as_graph

PRECISIONS = ("default", "strict")
"""Of a processor."""
GPU_PRECISIONS = ("default", "fp32", "tf32", "fp16")
"""Of a GPU, the first two being the same."""

Source = Graph | str | os.PathLike[str] | bytes | onnx.ModelProto | Any


def compile(
    source: Source,
    target: str = "cpu",
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    *,
    arch: str | Sequence[str] | None = None,
    precision: str = "default",
    tuning: bool | str | os.PathLike[str] | None = True,
    dump_dir: str | os.PathLike[str] | None = None,
) -> CompiledModel:
    """Compile a graph, an ONNX file (path, bytes or ``ModelProto``), a text-form file, or an ``nn`` module.

    ``shapes`` gives sizes to inputs by name. ``dump_dir`` receives the graph after every pass.

    For a processor, ``threads`` is how many threads a call uses: by default as many as the process may run on.
    ``precision="strict"`` keeps to the direct form of convolution, where the default also uses Winograd's, which is faster and
    rounds some five times more. ``tuning`` is a database made by ``convc tune``, which says where another form than the cost
    model's was measured to be faster: by default the one in the cache folder, where there is one; a path; or ``None`` or
    ``False`` for none.

    For a GPU, ``target="cuda"``, which none need be here: ``arch`` names what to compile for, as ``"sm_80,ptx"`` or a sequence;
    by default all that convc knows. ``precision="tf32"`` lets float32 products round their factors to 11 bits, and
    ``"fp16"`` computes in float16, sums in float32; inputs and outputs keep their types.
    Raises errors derived from ``ConvcError``, each naming the node and the cause.
    """
    if threads is not None and not (isinstance(threads, int) and threads >= 1):
        raise CompileError(f"threads must be an integer of at least 1, not {threads!r}")
    _check(target, arch, threads, precision)
    folder = Path(dump_dir) if dump_dir is not None else None
    if target == "cuda":
        return _for_gpu(fix_shapes(as_graph(source, shapes), {}), arch, precision, folder)
    return _for_cpu(fix_shapes(as_graph(source, shapes), {}), target, threads, precision, tuning, folder)


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
    graph: Graph,
    target: str,
    threads: int | None,
    precision: str,
    tuning: bool | str | os.PathLike[str] | None,
    dump_dir: Path | None,
) -> CpuModel:
    machine = parse_target(target, threads or available_processors())
    choices = choices_for(tuning if precision != "strict" else None, machine.mcpu)
    final = pipeline.run(graph, machine.machine, precision, dump_dir, choices)
    built = build(final, machine)
    features = tuple(sorted(machine.features))
    details = {"mcpu": machine.mcpu, "features": features, "threads": threads, "memory": asdict(built.plan)}
    description = _description(graph, final, "cpu", details)
    return CpuModel(built.module, description, _weights(final), threads, built.kernels)


def _for_gpu(graph: Graph, arch: str | Sequence[str] | None, precision: str, dump_dir: Path | None) -> CudaModel:
    from convc.backends.cuda import build as cuda
    from convc.backends.cuda.arch import parse_architectures

    precision = "fp32" if precision == "default" else precision
    architectures = [replace(a, gpu=replace(a.gpu, tf32=precision == "tf32")) for a in parse_architectures(arch)]
    final = pipeline.apply(graph, pipeline.gpu_passes(precision), dump_dir)
    built = cuda.build(final, architectures)
    held, code = {}, bytearray()
    for name, found in built.items():
        places = []
        for module in found.modules:
            places.append((len(code), len(module.code)))
            code += module.code
        held[name] = {"modules": places, "plan": asdict(found.variant.plan)}
    description = _description(graph, final, "cuda", {"precision": precision, "architectures": held})
    kernels = built[architectures[-1].name].variant.kernels
    return CudaModel(description, bytes(code), _weights(final), kernels)


def _description(graph: Graph, final: Graph, kind: str, details: Mapping[str, Any]) -> Description:
    inputs, outputs = (
        tuple(Port(n, v.type.physical_shape, str(v.type.numpy_dtype)) for n, v in zip(names, values, strict=True))
        for names, values in (([v.name for v in graph.inputs], final.inputs), (graph.output_names, final.outputs))
    )
    return Description(graph.name, __version__, inputs, outputs, kind, details)


def _weights(final: Graph) -> dict[str, np.ndarray]:
    return {name: c.array for name, c in final.constants.items()}
