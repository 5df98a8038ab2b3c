"""Measure the algorithms for each convolution of a model on this machine; convc.compile then uses the fastest.

Tuning is optional. It saves a few percent where the cost model is wrong. The results are kept for each processor, in
$CONVC_CACHE or ~/.cache/convc, and are used for equal convolutions of any model. Delete the file to discard them.

examples, in a clone of convc:
  convc tune examples/lenet.onnx
  convc tune examples/networks.py:blur --shape x=1,3,300,451 --threads 2 --budget 5
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import convc
from convc.backends.cpu.choices import Choices
from convc.backends.cpu.database import choices_for, database, write
from convc.ir.passes.fix_shapes import fix_shapes

from ..reader import as_graph
from .options import add_model, choices, positive, positive_number, progress, shapes, source

if TYPE_CHECKING:
    from convc.backends.cpu.tuning import Tuned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        default=1,
        help="threads to measure with (default: 1); "
        "what is chosen holds for any number, so that results do not depend on it",
    )
    parser.add_argument(
        "--budget", metavar="SECONDS", type=positive_number, default=60.0, help="about how long to take (default: 60)"
    )


def main(args: argparse.Namespace) -> None:
    from convc.backends.cpu.target import host_target
    from convc.backends.cpu.tuning import tune

    graph = fix_shapes(as_graph(source(args.model), shapes(args), **choices(args)), {})
    target = host_target(args.threads)
    path = database(target.mcpu)
    if path is None:
        raise convc.CompileError("CONVC_CACHE is off, so there is nowhere to keep what is found: set it to a folder")
    known = choices_for(True, target.mcpu)
    write(path, target.mcpu, known)  # raises before the long part, not after it, when it cannot be written
    outcome = tune(graph, target, args.budget, progress)
    measured = {t.signature for t in outcome.convolutions}
    kept = {k: a for k, a in known.algorithms.items() if k not in measured} | dict(outcome.choices.algorithms)
    write(path, target.mcpu, Choices(kept))
    for t in outcome.convolutions:
        print(f"{t.uses:3}x {t.seconds[t.winner] * 1e3:8.3f} ms  {_gain(t)}: {t.signature}")
    if outcome.choices.algorithms:
        less = 1 - outcome.after / outcome.before
        print(f"all kernels of a run: {outcome.before * 1e3:.3f} -> {outcome.after * 1e3:.3f} ms, {less:.1%} less")
    else:
        print(f"the network gains nothing by it: {outcome.before * 1e3:.3f} ms in all kernels of a run, as before")
    print(f"{path}: {len(kept)} choices")


def _gain(tuned: Tuned) -> str:
    first = next(iter(tuned.seconds))
    if tuned.winner == first:
        return f"{first}, as before"
    return f"{tuned.winner}, {1 - tuned.seconds[tuned.winner] / tuned.seconds[first]:.0%} less than {first}"
