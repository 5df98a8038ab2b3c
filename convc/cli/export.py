"""Write a model as an ONNX file.

examples, in a clone of convc:
  convc export examples/networks.py:resnet18 --shape x=1,3,224,224 -o resnet18.onnx
  convc export stages/08_fold_constants.txt -o folded.onnx    # a graph that convc build --dump-dir stages wrote
"""

from __future__ import annotations

import argparse

import convc

from ..reader import as_graph
from .options import add_model, check_kind, check_writable, choices, file_name, same_file, shapes, source
from .usage import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("-o", "--output", metavar="OUT", type=file_name, required=True, help="the ONNX file to write")


def main(args: argparse.Namespace) -> None:
    if same_file(args.output, args.model):
        raise UsageError(f"'{args.output}' is the model itself; give another name with -o")
    check_kind(args.output, "an ONNX model", ".onnx")
    check_writable(args.output)
    convc.save_onnx(as_graph(source(args.model), shapes(args), **choices(args)), args.output)
    print(args.output)
