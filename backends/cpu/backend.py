"""The backend for CPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.ir.pipeline import Pipeline
from convc.runtime.cpu.host import host
from convc.runtime.cpu.model import CpuModel, lacks
from convc.runtime.processors import available_processors, thread_count

from ..backend import Backend, Options, describe, weights
from ..network import check_values
from ..store import Store, store
from .names import NAMES

if TYPE_CHECKING:
    from .choices import Choices
    from .target import Target


def compile_graph(
    graph: Graph,
    target: Target,
    passes: Pipeline,
    threads: int | None = None,
    dump_dir: Path | None = None,
    precision: str = "default",
    store: Store | None = None,
) -> CpuModel:
    """Compile a graph of static shapes for a CPU, with these passes.

    ``threads`` is the number of threads that a call uses by default. ``dump_dir`` receives the graph after every pass.
    ``precision`` is only noted in the description: the passes decide. Kernels are looked up in the store.
    """
    from .build import build

    check_values(graph.inputs)  # passes may take long for sizes that are refused afterwards
    final = passes.run(graph, dump_dir)
    built = build(final, target, store)
    details: Mapping[str, Any] = {
        "triple": target.triple,
        "mcpu": target.mcpu,
        "features": tuple(sorted(target.features)),
        "threads": threads,
        "precision": precision,
        "plan": asdict(built.plan),
    }
    description = describe(graph, final, "cpu", details)
    model = CpuModel(built.code, description, weights(final), threads, built.kernels, link=lambda: built.code.library)
    if not lacks(description):
        _ = model.program  # packs the weights now, not in the first call
    return model


def _units(options: Options) -> Sequence[Target]:
    from .target import parse_targets

    try:
        threads = thread_count(available_processors() if options.threads is None else options.threads)
    except ValueError as e:
        raise CompileError(str(e)) from None
    targets = parse_targets(options.target, threads)
    if options.tuning not in (None, True):
        from .database import read

        if options.precision == "strict":
            raise CompileError(
                "tuning chooses between algorithms, and precision 'strict' has one: leave one of them out"
            )
        read(options.tuning, *(t.mcpu for t in targets))  # raises when it is for none of them
    return targets


def _choices(target: Target, options: Options) -> Choices:
    from .database import choices_for

    return choices_for(options.tuning if options.precision != "strict" else None, target.mcpu)


def _key(target: Target, options: Options) -> Any:
    machine = asdict(target) | {"features": sorted(target.features)}
    return [machine, options.threads, dict(_choices(target, options).algorithms)]


def _build(graph: Graph, target: Target, options: Options, dump_dir: Path | None) -> CpuModel:
    from .pipeline import pipeline

    passes = pipeline(target.machine, options.precision, _choices(target, options))
    return compile_graph(
        graph, target, passes, options.threads, dump_dir, options.precision, store() if options.cache else None
    )


def _for_here(options: Options) -> Options:
    from .target import parse_target

    targets = {name: parse_target(name) for name in options.target.split(",")}
    lacking = {name: host().lacks(t.family, t.features) for name, t in targets.items()}
    able = [name for name, missing in lacking.items() if not missing]
    if not able:
        reasons = "; ".join(f"{name} needs {what}" for name, what in lacking.items())
        raise CompileError(
            "sizes that are dynamic are compiled when the model runs, "
            f"and this processor ({host().name}) cannot run it: {reasons}; fix them with shapes={{...}} (--shape)"
        )
    best = max(able, key=lambda name: len(targets[name].features))
    tuning = options.tuning
    if tuning not in (None, True):
        from .database import stored

        tuning = tuning if stored(tuning)[0] == targets[best].mcpu else None
    return replace(options, target=best, tuning=tuning)


BACKEND = Backend(
    name="cpu",
    machines="a processor",
    targets=NAMES,
    several=True,
    precisions=("default", "strict"),
    own=("threads", "tuning"),
    units=_units,
    key=_key,
    build=_build,
    for_here=_for_here,
    open_sizes=True,
)
