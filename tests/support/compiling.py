"""Compiling for a chosen machine, by chosen passes, and with small networks on several threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convc.backends.cpu.backend import compile_graph
from convc.backends.cpu.choices import Choices
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import Target, parse_target
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.pipeline import Pipeline
from convc.reader import as_graph
from convc.runtime.cpu.model import CpuModel


def sharing(target: Target) -> Target:
    """The target with even small networks shared out among its threads, although that takes longer."""
    return replace(target, network_cycles=0)


def compiled(
    source: Any,
    target: str | Target = "cpu",
    threads: int = 1,
    precision: str = "default",
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    choices: Choices | None = None,
    change: Callable[[Pipeline], Pipeline] = lambda passes: passes,
) -> CpuModel:
    """A model compiled as ``convc.compile`` does, with work shared out however small the network is.

    ``change`` gives the passes to run instead of the standard ones.
    """
    found = sharing(parse_target(target, threads)) if isinstance(target, str) else target
    passes = change(pipeline(found.machine, precision, choices))
    return compile_graph(fix_shapes(as_graph(source, shapes), {}), found, passes, threads)
