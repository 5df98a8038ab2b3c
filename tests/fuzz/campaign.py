"""Checks many seeds, each in a process that may crash.

Prints the rate of models per hour, and every failure with its seed and a small graph.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection

from convc.ir.graph import Graph
from convc.ir.text import print_graph

from .compare import Unclear
from .generate import generate
from .shrink import kind, shrink
from .variants import SAME, VARIANTS, check, some_variants

MODELS_A_PROCESS = 200
"""The number of models that one process checks. Machine code is never unloaded, so that a process must end in time."""
SHRINKING = 60
"""The number of seconds for making a failing graph small."""
PATIENCE = 600
"""A model that takes longer than this many seconds hangs."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0, help="the first; the next follow")
    parser.add_argument("--models", type=int, default=1 << 30, help="stop after so many")
    parser.add_argument(
        "--variants", type=int, default=2, help="how many other ways of compiling each model is tried in"
    )
    given = parser.parse_args()
    start, last = time.monotonic(), given.seed + given.models
    seed, counts, known = given.seed, Counter[str](), set[str]()
    while seed < last and time.monotonic() - start < given.seconds:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        worker = context.Process(
            target=work, args=(theirs, range(seed, min(last, seed + MODELS_A_PROCESS)), given.variants, known)
        )
        worker.start()
        theirs.close()
        while time.monotonic() - start < given.seconds:
            outcome = receive(ours)
            if outcome is None:
                break
            seed += 1
            report(seed - 1, outcome, counts, known)
            if outcome[0] in ("crashed", "hung"):
                break
        worker.kill()
        worker.join()
    hours = (time.monotonic() - start) / 3600
    total = counts.total()
    print(f"{total} models in {hours:.2f} hours, {total / hours:.0f} an hour: {dict(counts)}")
    return 1 if counts["failed"] or counts["crashed"] else 0


Outcome = tuple[str, list[str], str]
"""The outcome of a model: ``clean``, ``unclear``, ``failed``, ``crashed`` or ``hung``; the error; and a small graph."""


def receive(connection: Connection) -> Outcome | None:
    """Receive the outcome of the next model, or ``None`` when the process has done its work."""
    try:
        if not connection.poll(PATIENCE):
            return "hung", [f"no answer in {PATIENCE} seconds"], ""
        outcome: Outcome | None = connection.recv()
        return outcome
    except EOFError:
        return "crashed", ["the process died"], ""


def report(seed: int, outcome: Outcome, counts: Counter[str], known: set[str]) -> None:
    what, wrong, text = outcome
    counts[what] += 1
    known.update(map(kind, wrong))
    if what == "unclear":
        print(f"seed {seed} is unclear: {wrong[0]}", flush=True)
    elif what != "clean":
        print(f"\nseed {seed} {what}:", *wrong, text or print_graph(generate(seed)), sep="\n", flush=True)
    if counts.total() % 100 == 0:
        print(f"{counts.total()} models: {dict(counts)}", file=sys.stderr, flush=True)


def work(connection: Connection, seeds: range, variants: int, known: set[str]) -> None:
    """Check seeds in turn, and send the outcome of each.

    A failing graph is made small first, unless its error has been seen before.
    """
    for seed in seeds:
        try:
            wrong = check(generate(seed), some_variants(seed, variants))
        except Unclear as e:
            connection.send(("unclear", [str(e)], ""))
            continue
        if not wrong:
            connection.send(("clean", [], ""))
            continue
        text = print_graph(smallest(seed, wrong)) if kind(wrong[0]) not in known or "allowed" in wrong[0] else ""
        known.update(map(kind, wrong))
        connection.send(("failed", wrong, text))
    connection.send(None)


def failure(seed: int, variants: int = 2) -> str:
    """The error of a seed's graph, or an empty text, and the graph. Raises ``Unclear``."""
    graph = generate(seed)
    wrong = check(graph, some_variants(seed, variants))
    return "\n".join([*wrong, print_graph(graph)]) if wrong else ""


def smallest(seed: int, wrong: list[str]) -> Graph:
    """The graph of a seed, made small as long as it fails like the first of these errors."""
    variant = wrong[0].partition(":")[0]
    variants = [variant] if variant in (*VARIANTS, *SAME) else []

    def fails(graph: Graph) -> bool:
        try:
            return kind(wrong[0]) in map(kind, check(graph, variants))
        except Exception:  # a graph that no oracle takes is not an example
            return False

    return shrink(generate(seed), fails, SHRINKING)
