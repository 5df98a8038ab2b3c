"""Show the layers of a model (shapes, parameters, FLOPs and bytes), or what an artifact holds and needs.

examples, in a clone of convc:
  convc inspect examples/lenet.onnx
  convc inspect examples/networks.py:blur --shape x=1,3,300,451 --text
  convc inspect examples/lenet.onnx --batch n  # the same for an open number of images
  convc inspect lenet.convc                    # an artifact that convc build wrote, whose code is not loaded
  convc inspect examples/lenet.onnx --examples 1000000 --tflops 0.15    # how long a million runs take
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convc.ir.errors import ConvcError, NotConstantError
from convc.ir.graph import Graph
from convc.ir.passes.fold_scale import fold_scale
from convc.ir.passes.recognise_activations import recognise_activations
from convc.ir.rewrite import Report
from convc.ir.summary import duration, human, summarize
from convc.ir.text import print_graph, print_node

from ..reader import as_graph, reader
from ..runtime.artifact import FORMAT, is_artifact, read_artifact
from ..runtime.load import facts
from .options import add_model, choices, positive, positive_number, refuse_for_artifact, shapes, source
from .usage import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--text", action="store_true", help="print the graph in its text form instead of the table")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also show each layer's attributes, and for each rewrite whether it fires, and why not",
    )
    parser.add_argument("--examples", metavar="N", type=positive, help="with --tflops: the time that N runs take")
    parser.add_argument(
        "--tflops", metavar="T", type=positive_number, help="with --examples: the machine's speed, 10^12 FLOP/s"
    )


def show_artifact(path: str) -> None:
    """Print the parts of an artifact: their inputs and outputs, and what they were compiled for and need."""
    parts = read_artifact(path)
    size = human(Path(path).stat().st_size)
    made_by = parts[0].description.version
    parts_are = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    print(f"{path}: an artifact of format {FORMAT} made by convc {made_by}, {size}B, {parts_are}")
    for part in parts:
        d = part.description
        print(f"\n{d.name}, compiled for {d.kind}")
        rows = [("inputs", ", ".join(map(str, d.inputs))), ("outputs", ", ".join(map(str, d.outputs)))]
        weights = sum(w.nbytes for w in part.weights.values())
        rows += [("code", f"{human(len(part.code))}B"), ("weights", f"{human(weights)}B"), *facts(d)]
        for name, value in rows:
            print(f"  {name + ':':13} {value}")


def _show_outline(given: Any, args: argparse.Namespace, why: ConvcError) -> None:
    """Print the nodes of a model that cannot be imported, as far as its file tells of them, and what keeps it.

    Raises the error again, unless only sizes or values are missing, and where the graph itself is asked for.
    """
    if args.text or args.examples is not None:
        raise why
    try:
        found = reader(given, shapes(args), **choices(args), complete=False)
    except ConvcError:
        raise why from None
    if found.outline is None:
        raise why
    summary = found.outline()
    print("inputs: " + ", ".join(map(str, found.inputs)))
    print("outputs: " + ", ".join(map(str, found.outputs)))
    print(summary.table())
    print(summary.totals())
    reader(given, shapes(args), **choices(args))  # raises for what convc lacks at any sizes
    left_open = [p.name for p in found.inputs if p.is_open]
    if left_open:
        _show_open(left_open)
    elif isinstance(why, NotConstantError) and why.inputs:
        options = " ".join(f"--value {name}=..." for name in why.inputs)
        print(f"compiled for each value of {', '.join(why.inputs)}: {options} shows the layers as they are compiled")
    else:
        raise why


def _graph(given: Any, args: argparse.Namespace) -> Graph:
    """The graph of a model, in which small inputs that decide sizes are read."""
    try:
        return as_graph(given, shapes(args), **choices(args))
    except NotConstantError:
        return reader(given, shapes(args), **choices(args)).whole()


def _show_open(inputs: Sequence[str]) -> None:
    options = " ".join(f"--shape {name}=..." for name in inputs)
    print(f"sizes are open: {options} fixes them, and shows the FLOPs")


def main(args: argparse.Namespace) -> None:
    if (args.examples is None) != (args.tflops is None):
        raise UsageError("--examples and --tflops go together")
    if is_artifact(args.model):
        refuse_for_artifact(
            args,
            args.model,
            "--shape",
            "--value",
            "--outputs",
            "--batch",
            "--limit",
            "--text",
            "--verbose",
            "--examples",
        )
        show_artifact(args.model)
        return
    given = source(args.model)
    try:
        graph = _graph(given, args)
    except ConvcError as e:
        _show_outline(given, args, e)
        return
    if args.text:
        print(print_graph(graph))
        return
    summary = summarize(graph)
    if args.examples is not None and summary.flops is None:
        names = ", ".join(v.name for v in graph.inputs if not v.type.is_static)
        raise UsageError(f"the time is not known while sizes are symbolic; fix them with --shape (inputs: {names})")
    print("inputs: " + ", ".join(str(v) for v in graph.inputs))
    print(summary.table())
    print(summary.totals())
    if graph.assumptions:
        print("the shapes are these where " + ", ".join(map(str, graph.assumptions)))
    if left_open := [v.name for v in graph.inputs if not v.type.is_static]:
        _show_open(left_open)
    if args.verbose:
        print("\n".join(["", *(print_node(n) for n in graph.nodes)]))
        if all(v.type.is_static for v in graph.inputs):
            report = Report()
            fold_scale(recognise_activations(graph, report), report)
            print(f"\n{report}".rstrip())
    if args.examples is not None:
        seconds = (summary.flops or 0) * args.examples / (args.tflops * 1e12)
        print(f"{args.examples:,} runs at {args.tflops:g} TFLOP/s take {duration(seconds)}")
