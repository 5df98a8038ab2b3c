"""The ways to compile and run one graph. They must agree with each other and with ONNX Runtime."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from support.compiling import compiled

import convc
from convc.backends.cpu.choices import Choices
from convc.ir.graph import Graph, Node
from convc.ir.op import Op
from convc.ir.text import parse_graph, print_graph
from convc.ir.verify import verify
from convc.runtime.model import CompiledModel, Model

from .compare import Feeds, Truth, Unclear, differences, exonerates, feeds_for, spreads, truth
from .contrib import with_contrib_operators
from .exports import check_export
from .functions import in_functions
from .open import of_any_size
from .optimised import by_onnxruntime
from .shrink import has_empties

Variant = Callable[[Graph], Model]


class AnyAlgorithm(Choices):
    """Choices that give each convolution the algorithm that the cost model ranks last."""

    def choose(self, node: Node, ranked: Sequence[Op]) -> Op:
        return ranked[-1]


def without(*passes: str) -> Variant:
    return lambda graph: compiled(graph, change=lambda p: p.without(*passes))


def unlikely(graph: Graph) -> CompiledModel:
    """The algorithm of each convolution that the cost model ranks last."""
    return compiled(graph, threads=2, choices=AnyAlgorithm())


def exported(graph: Graph) -> CompiledModel:
    """The graph exported to ONNX and imported again."""
    model = convc.to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    return convc.compile(model, threads=1, tuning=None)


def standard(graph: Graph, threads: int = 2) -> CompiledModel:
    return compiled(graph, threads=threads, precision="strict" if spreads(graph) else "default")


VARIANTS: dict[str, Variant] = {
    "strict": lambda g: compiled(g, threads=2, precision="strict"),
    "unfused": without("fuse"),
    "row-major": without("assign_layouts"),
    "unrewritten": without("fold_scale", "recognise_activations", "move_channels", "share", "fold_constants"),
    "unlikely": unlikely,
    "exported": exported,
    "optimised": by_onnxruntime,
    "functions": in_functions,
    "contrib": with_contrib_operators,
    "open": of_any_size,
    "v2": lambda g: convc.compile(g, target="x86-64-v2", threads=1, tuning=None),
    "v3": lambda g: convc.compile(g, target="x86-64-v3", threads=1, tuning=None),
}
"""The variants whose results are compared with ONNX Runtime's."""

SAME: dict[str, Callable[[Graph, CompiledModel], CompiledModel]] = {
    "one thread": lambda g, m: standard(g, 1),
    "saved": lambda g, m: reloaded(m),
    "text": lambda g, m: standard(reparsed(g)),
}
"""The variants that must give the same bits as the standard way."""


def reloaded(model: CompiledModel) -> CompiledModel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.so"
        model.save(path)
        return convc.load(path)


def reparsed(graph: Graph) -> Graph:
    again = parse_graph(print_graph(graph), {c.sha: c.array for c in graph.all_constants()})
    if again != graph:
        raise AssertionError("the text form does not give the same graph back")
    return again


def run(model: Model, feeds: Feeds) -> list[np.ndarray]:
    got = model(*feeds.values())
    return list(got) if isinstance(got, tuple) else [got]


def check(graph: Graph, variants: Sequence[str]) -> list[str]:
    """The errors of the standard way and of these variants, as text. Raises ``Unclear`` where no oracle decides."""
    verify(graph)
    feeds = feeds_for(graph)
    truths = truth(graph, feeds)
    if spreads(graph):
        variants = [name for name in variants if name in ("strict", *SAME)]
    elif has_empties(graph):  # of which ONNX Runtime refuses some, and ends at others
        variants = [name for name in variants if name != "optimised"]
    try:
        model = standard(graph)
        first = run(model, feeds)
        wrong = differences(truths, first, "standard")
        if wrong and exonerates(graph, feeds, truths, first):
            raise Unclear(f"ONNX Runtime is off: {wrong[0]}")
        run(model, {name: np.zeros_like(x) for name, x in feeds.items()})
        wrong += unequal(first, run(model, feeds), "called again")
        wrong += check_export(graph, feeds, truths)
    except Unclear:
        raise
    except Exception as e:
        return [f"standard: {type(e).__name__}: {str(e)[:300]}"]
    return wrong + [w for name in variants for w in check_variant(graph, name, model, first, feeds, truths)]


def check_variant(
    graph: Graph, name: str, model: CompiledModel, first: list[np.ndarray], feeds: Feeds, truths: list[Truth]
) -> list[str]:
    try:
        if name in SAME:
            return unequal(first, run(SAME[name](graph, model), feeds), name)
        got = run(VARIANTS[name](graph), feeds)
        wrong = differences(truths, got, name)
        return [] if wrong and exonerates(graph, feeds, truths, got) else wrong
    except Exception as e:
        return [f"{name}: {type(e).__name__}: {str(e)[:300]}"]


def unequal(first: Sequence[np.ndarray], again: Sequence[np.ndarray], what: str) -> list[str]:
    """The outputs whose bits differ, as text."""
    return [
        f"{what}: output {i} has other bits at {int((a.view(np.uint8) != b.view(np.uint8)).sum())} bytes"
        for i, (a, b) in enumerate(zip(map(canonical, first), map(canonical, again), strict=True))
        if a.tobytes() != b.tobytes()
    ]


def canonical(x: np.ndarray) -> np.ndarray:
    """The array with every NaN written in the same bits, since processors may give any."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x) if x.dtype.kind == "f" else x


def some_variants(seed: int, count: int = 2) -> list[str]:
    """A few variants, chosen by the seed."""
    return random.Random(seed).sample([*VARIANTS, *SAME], count)
