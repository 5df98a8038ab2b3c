"""Compile a model into one file that holds its code and weights.

examples:
  convc build lenet.onnx                       writes lenet.so
  convc build yolo.onnx --shape images=1,3,640,640 -o yolo.so
  convc build zoo.py:resnet18 --threads 1 --dump-dir stages
"""

from __future__ import annotations

import argparse
from pathlib import Path

import convc
from convc.sources import as_graph
from convc.summary import human

from .options import UsageError, add_model, add_threads, progress, same_file, shapes, source, stem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("-o", "--output", metavar="OUT", help="the artifact to write (default: the model's name + .so)")
    parser.add_argument("--target", default="cpu", help="what to compile for (default: cpu, this machine's processor)")
    add_threads(parser)
    parser.add_argument("--dump-dir", metavar="DIR", help="write the graph after every pass into this folder")


def main(args: argparse.Namespace) -> None:
    out = args.output or f"{stem(args.model)}.so"
    if same_file(out, args.model):
        raise UsageError(f"'{out}' is the model itself; give another name with -o")
    if not Path(out).absolute().parent.is_dir():  # said before the long part, not after it
        raise convc.ArtifactError(f"cannot write '{out}': its folder does not exist")
    progress("reading the model")
    graph = as_graph(source(args.model), shapes(args))
    progress("compiling")
    model = convc.compile(graph, args.target, threads=args.threads, dump_dir=args.dump_dir)
    progress("linking")
    model.save(out)
    ports = [", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" for p in some) for some in (model.inputs, model.outputs)]
    print(f"{out} ({human(Path(out).stat().st_size)}B): {ports[0]} -> {ports[1]}")
