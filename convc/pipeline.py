"""The compiler's passes, in order. Each is a pure function from graph to graph; the verifier runs after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convc.ir.choices import Choices
from convc.ir.counted import separate_counts
from convc.ir.data_layouts import Blocks, ChannelsLast
from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.ir.machine import Machine
from convc.ir.passes.assign_layouts import assign_layouts
from convc.ir.passes.choose_algorithms import choose_algorithms
from convc.ir.passes.convert_precision import convert_precision
from convc.ir.passes.fold_constants import fold_constants
from convc.ir.passes.fold_scale import fold_scale
from convc.ir.passes.fuse import fuse
from convc.ir.passes.integer_products import integer_products
from convc.ir.passes.materialize import materialize_outputs
from convc.ir.passes.move_channels import move_channels
from convc.ir.passes.pack_dense import pack_dense
from convc.ir.passes.quantized_convs import quantized_convs
from convc.ir.passes.quantized_moves import quantized_moves
from convc.ir.passes.recognise_activations import recognise_activations
from convc.ir.passes.share import share
from convc.ir.text import print_graph
from convc.ir.verify import verify

Pass = Callable[[Graph], Graph]


SIMPLIFY: tuple[tuple[str, Pass], ...] = (
    ("separate_counts", separate_counts),
    ("fold_constants", fold_constants),
    ("recognise_activations", recognise_activations),
    ("fold_scale", fold_scale),
    ("share", share),
    ("move_channels", move_channels),
)
"""What is done first for every target."""

GROUP: tuple[tuple[str, Pass], ...] = (
    ("materialize_outputs", materialize_outputs),
    ("fuse", fuse),
)
"""What is done last for every target: kernels are made of nodes."""


def passes(machine: Machine, precision: str = "default", choices: Choices | None = None) -> Sequence[tuple[str, Pass]]:
    """The named passes for a CPU. ``precision="strict"`` keeps to the direct form of every convolution."""
    layouts = Blocks.for_machine(machine)
    return (
        ("quantized_moves", quantized_moves),
        ("quantized_convs", lambda g: quantized_convs(g, machine)),
        *SIMPLIFY,
        ("integer_products", lambda g: integer_products(g, machine)),
        ("assign_layouts", lambda g: assign_layouts(g, layouts)),
        ("choose_algorithms", lambda g: g if precision == "strict" else choose_algorithms(g, machine, choices)),
        ("pack_dense", lambda g: pack_dense(g, layouts)),
        *GROUP,
    )


def gpu_passes(precision: str = "fp32") -> Sequence[tuple[str, Pass]]:
    """The named passes for a GPU. With ``precision="fp16"``, float32 is computed in float16; inputs and outputs keep their type."""
    layouts = ChannelsLast()
    return (
        *SIMPLIFY,
        ("convert_precision", lambda g: convert_precision(g) if precision == "fp16" else g),
        ("assign_layouts", lambda g: assign_layouts(g, layouts)),
        ("pack_dense", lambda g: pack_dense(g, layouts)),
        *GROUP,
    )


def run(
    graph: Graph,
    machine: Machine,
    precision: str = "default",
    dump_dir: Path | None = None,
    choices: Choices | None = None,
) -> Graph:
    """Run every pass for a CPU. ``dump_dir`` is as in ``apply``."""
    return apply(graph, passes(machine, precision, choices), dump_dir)


def apply(graph: Graph, steps: Sequence[tuple[str, Pass]], dump_dir: Path | None = None) -> Graph:
    """Run some passes, the verifier after each. With ``dump_dir``, each stage's text is written there, numbered, and the constants beside it."""
    if dump_dir is not None:
        dump(graph, dump_dir, "00_input")
    for i, (name, step) in enumerate(steps, 1):
        graph = step(graph)
        verify(graph, name)
        if dump_dir is not None:
            dump(graph, dump_dir, f"{i:02}_{name}")
    return graph


def dump(graph: Graph, folder: Path, stage: str) -> None:
    """Write a stage: its text, and the data of its constants by sha as .npz."""
    arrays: dict[str, Any] = {c.sha: c.array for c in graph.constants.values() if c.has_data}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage}.txt").write_text(print_graph(graph) + "\n", encoding="utf-8")
        np.savez(folder / f"{stage}.npz", **arrays)
    except OSError as e:
        raise CompileError(f"cannot write to the dump folder '{folder}': {e.strerror or e}") from None
