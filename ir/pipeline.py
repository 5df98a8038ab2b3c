"""Pipelines of passes as values. A backend makes one, and tests make variants of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CompileError
from .graph import Graph
from .ops.while_loop import While
from .passes.divide import divide
from .passes.fold_constants import fold_constants
from .passes.fold_scale import fold_scale
from .passes.fuse import fuse
from .passes.loops import empty_bodies, fill_bodies, hoist, unroll, with_bodies
from .passes.materialize import materialize_outputs
from .passes.move_channels import move_channels
from .passes.recognise_activations import recognise_activations
from .passes.recognise_variance import recognise_variance
from .passes.share import share
from .text import print_graph
from .verify import Verified, verify


@dataclass(frozen=True)
class Pass:
    """A pure function from graph to graph, and its name in dumps and errors.

    It is applied to the bodies of loops as well.
    """

    name: str
    run: Callable[[Graph], Graph]


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run. The verifier runs after each of them."""

    passes: tuple[Pass, ...]

    def run(self, graph: Graph, dump_dir: Path | None = None) -> Graph:
        """Run the passes on a graph.

        ``dump_dir`` receives the text of the graph at each stage, in numbered files, with its constants beside it.
        Raises ``CompileError`` when it cannot be written.
        """
        if dump_dir is not None:
            _dump(graph, dump_dir, "00_input")
        verified = Verified()
        for i, step in enumerate(self.passes, 1):
            graph = with_bodies(step.run, graph)
            verify(graph, step.name, verified=verified)
            if dump_dir is not None:
                _dump(graph, dump_dir, f"{i:02}_{step.name}")
        return self._with_steps(graph, dump_dir)

    def _with_steps(self, graph: Graph, dump_dir: Path | None) -> Graph:
        """The graph with the passes run on what the runtime runs step by step, each body as a graph of its own."""
        nodes = []
        for n in graph.nodes:
            if isinstance(n.op, While):
                folder = None if dump_dir is None else dump_dir / re.sub(r"\W", "_", n.output.name)
                body = replace(n.op.body, assumptions={**graph.assumptions, **n.op.body.assumptions})
                nodes.append(replace(n, op=replace(n.op, body=self.run(body, folder))))
            else:
                nodes.append(n)
        return replace(graph, nodes=tuple(nodes))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the passes, in order."""
        return tuple(p.name for p in self.passes)

    def without(self, *names: str) -> Pipeline:
        """The pipeline without the passes of these names. Raises ``KeyError`` for a name that it lacks."""
        unknown = set(names) - set(self.names)
        if unknown:
            raise KeyError(f"no pass is called {', '.join(sorted(unknown))}; the passes are {', '.join(self.names)}")
        return Pipeline(tuple(p for p in self.passes if p.name not in names))

    def split(self, name: str) -> tuple[Pipeline, Pipeline]:
        """The pipeline split in two before the pass of this name.

        Raises ``ValueError`` for a name that it lacks.
        """
        at = self.names.index(name)
        return Pipeline(self.passes[:at]), Pipeline(self.passes[at:])


def enter_loops(most: int | None) -> tuple[Pass, ...]:
    """The passes that come before all others: loops of at most ``most`` steps, or all loops, are spelt out, and the
    bodies of the others become graphs with constants of their own.
    """
    return Pass("unroll", lambda g: unroll(g, most)), Pass("fill_bodies", fill_bodies), Pass("hoist", hoist)


SIMPLIFY = (
    Pass("fold_constants", fold_constants),
    Pass("recognise_activations", recognise_activations),
    Pass("recognise_variance", recognise_variance),
    Pass("fold_scale", fold_scale),
    Pass("share", share),
    Pass("move_channels", move_channels),
    Pass("divide", divide),
)
"""The passes that every target runs first."""

GROUP = (
    Pass("materialize_outputs", materialize_outputs),
    Pass("fuse", fuse),
    Pass("empty_bodies", empty_bodies),
)
"""The passes that every target runs last: they group nodes into kernels."""


def make_dump_folder(folder: Path) -> None:
    """Make the folder that receives the graph after every pass. Raises ``CompileError`` when that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise CompileError(f"cannot write to the dump folder '{folder}': {reason}") from None


def _dump(graph: Graph, folder: Path, stage: str) -> None:
    """Write one stage: the text form of the graph, and an .npz file with the data of its constants, by hash."""
    arrays: dict[str, Any] = {c.sha: c.array for c in graph.all_constants() if c.has_data}
    make_dump_folder(folder)
    try:
        (folder / f"{stage}.txt").write_text(print_graph(graph) + "\n", encoding="utf-8")
        np.savez(folder / f"{stage}.npz", **arrays)
    except OSError as e:
        raise CompileError(f"cannot write to the dump folder '{folder}': {e.strerror or e}") from None
