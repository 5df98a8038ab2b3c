"""Checks the file that a graph is exported to, exactly as a user gets it, by two programs that are not convc."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from support.lacks import DRAWN, LACKS
from support.oracles import Feeds, run_onnxruntime, run_reference

import convc
from convc.ir.graph import Graph

from .compare import Truth, differences
from .shrink import has_empties


def check_export(graph: Graph, feeds: Feeds, truths: Sequence[Truth]) -> list[str]:
    """The errors of the exported file, as text.

    ONNX Runtime must run it, unless it lacks a kernel for one of the nodes; ``compare.truth`` has run it in float32
    then. One of ONNX Runtime and onnx's reference implementation must give the right results: in float16 the reference
    sums in float16, and ONNX Runtime's own kernels are off where ``compare.exonerates`` says so. A graph with tensors
    without elements is left to ``compare.truth``, since both programs refuse or end at some of them.
    """
    if has_empties(graph):
        return []
    model = convc.to_onnx(graph)
    wrong = _by("ONNX Runtime", lambda: run_onnxruntime(model, feeds, optimized=False), truths)
    if not wrong:
        return []
    if wrong[0].startswith(REFUSED):
        return [] if lacking(graph) else wrong
    return [*wrong, *more] if (more := _by("the reference", lambda: run_reference(model, feeds), truths)) else []


REFUSED = "the exported file is refused"


def _by(program: str, run: Callable[[], list[np.ndarray]], truths: Sequence[Truth]) -> list[str]:
    try:
        got = run()
    except Exception as e:  # both raise errors of many kinds
        return [f"{REFUSED} by {program}: {type(e).__name__}: {str(e)[:300]}"]
    return differences(truths, got, f"the exported file, by {program}")


def lacking(graph: Graph) -> bool:
    """Whether ONNX Runtime lacks a kernel for a node, or for one in the body of a node."""
    return any(
        (n.op.name, n.inputs[0].type.dtype) in {*LACKS, *DRAWN} or any(map(lacking, n.op.bodies()))
        for n in graph.nodes
        if n.inputs
    )


def changed_by(model: onnx.ModelProto, feeds: Feeds, truths: Sequence[Truth]) -> bool:
    """Whether a file that should compute the same gives other results, by ONNX Runtime."""
    return bool(_by("ONNX Runtime", lambda: run_onnxruntime(model, feeds, optimized=False), truths))
