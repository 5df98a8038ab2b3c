"""The backend for NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convc.ir.graph import Graph
from convc.runtime.cuda.model import CudaModel

from ..backend import Backend, Options, describe, weights
from .arch import Architecture, parse_architectures


def _units(options: Options) -> Sequence[tuple[Architecture, ...]]:
    architectures = parse_architectures(options.arch)
    tf32 = options.precision == "tf32"
    return [tuple(replace(a, gpu=replace(a.gpu, tf32=tf32)) for a in architectures)]


def _key(unit: Sequence[Architecture], options: Options) -> Any:
    return [a.name for a in unit]


def _build(graph: Graph, unit: Sequence[Architecture], options: Options, dump_dir: Path | None) -> CudaModel:
    from .build import build
    from .pipeline import pipeline
    from .usage import usage

    precision = "fp32" if options.precision == "default" else options.precision
    final = pipeline(precision).run(graph, dump_dir)
    built = build(final, unit)
    held, code = {}, bytearray()
    for name, found in built.items():
        places = []
        for module in found.modules:
            places.append((len(code), len(module.code)))
            code += module.code
        held[name] = {"modules": places, "plan": asdict(found.variant.plan)}
    description = describe(graph, final, "cuda", {"precision": precision, "architectures": held})
    model = CudaModel(description, bytes(code), weights(final), built[unit[-1].name].variant.kernels)
    model.usage = {a.name: usage(built[a.name], a.gpu) for a in unit}
    return model


BACKEND = Backend(
    name="cuda",
    machines="target 'cuda'",
    targets=("cuda",),
    several=False,
    precisions=("default", "fp32", "tf32", "fp16"),
    own=("arch",),
    units=_units,
    key=_key,
    build=_build,
    for_here=lambda options: options,
    reports_usage=True,
)
