"""Compile a model into one file that holds its code and weights.

examples, in a clone of convc:
  convc build examples/lenet.onnx                                  # writes lenet.convc
  convc build examples/lenet.onnx --threads 1 --dump-dir stages    # also writes the graph after every pass
  convc build examples/networks.py:blur --shape x=1,3,300,451 -o blur.convc
  convc build examples/networks.py:lenet --shape x=n,1,28,28       # one file for any number of images
  convc build examples/lenet.onnx --batch n                        # the same, of a model that fixed it
  convc build examples/lenet.onnx --target x86-64-v2,x86-64-v4     # one file with code for both kinds of processor
  convc build examples/lenet.onnx --target cuda --arch sm_80,sm_90,ptx --precision tf32 -o gpu.convc    # needs no GPU
"""

from __future__ import annotations

import argparse
from pathlib import Path

import convc
from convc.backends.backend import Options, backend_of, backends
from convc.ir.summary import human

from .options import (
    add_model,
    add_threads,
    check_kind,
    check_writable,
    choices,
    file_name,
    progress,
    same_file,
    seed,
    shape_sets,
    source,
    stem,
)
from .usage import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(
        parser,
        shape_help="the shape of one input, in which names are open sizes (--shape x=n,3,h,w); for GPUs, which take "
        "fixed sizes, once for each that the file is to hold",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=file_name,
        help="the artifact to write (default: the model's name + .convc)",
    )
    parser.add_argument(
        "--target",
        default="cpu",
        help="what to compile for: cpu or native, this machine's processor (default); x86-64-v2, -v3, -v4, aarch64, "
        "neoverse-n1 and others, or several between commas; or cuda, NVIDIA's GPUs",
    )
    parser.add_argument(
        "--arch",
        metavar="SM,SM",
        help="with --target cuda: the architectures, such as sm_80,sm_90,ptx (default: all that convc knows)",
    )
    parser.add_argument(
        "--precision",
        choices=tuple(dict.fromkeys(p for b in backends() for p in b.precisions)),
        default="default",
        help="cpu: strict keeps to the direct form of convolution; "
        "cuda: fp32 (default), tf32 or fp16, sums being float32",
    )
    parser.add_argument(
        "--kernels",
        action="store_true",
        help="with --target cuda: show the registers, memory and occupancy of each kernel on each architecture",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="decides what random nodes without a seed of their own draw",
    )
    add_threads(parser)
    parser.add_argument(
        "--dump-dir", metavar="DIR", type=file_name, help="write the graph after every pass into this folder"
    )


def main(args: argparse.Namespace) -> None:
    _check(args)
    out = f"{stem(args.model)}.convc" if args.output is None else args.output
    if same_file(out, args.model):
        raise UsageError(f"'{out}' is the model itself; give another name with -o")
    check_kind(out, "an artifact", ".convc")
    check_writable(out)
    progress("reading the model")
    given = source(args.model)
    progress("compiling")
    model = convc.compile(
        given,
        args.target,
        shape_sets(args),
        args.threads,
        arch=args.arch,
        precision=args.precision,
        seed=args.seed,
        dump_dir=args.dump_dir,
        **choices(args),
    )
    progress("writing")
    model.save(out)
    ports = [", ".join(map(str, some)) for some in (model.inputs, model.outputs)]
    print(f"{out} ({human(Path(out).stat().st_size)}B): {ports[0]} -> {ports[1]}")
    if args.kernels:
        for each in model.models if isinstance(model, convc.ModelSet) else (model,):
            _show_kernels(each)


def _check(args: argparse.Namespace) -> None:
    """Raise ``UsageError`` for options that do not go with the target."""
    options = Options(args.target, args.threads, args.arch, args.precision)
    try:
        backend = backend_of(options)
        backend.units(options)
    except convc.CompileError as e:
        raise UsageError(str(e)) from None
    if args.kernels and not backend.reports_usage:
        able = ", ".join(b.targets[0] for b in backends() if b.reports_usage)
        raise UsageError(f"--kernels is for --target {able}")


def _show_kernels(model: convc.Model) -> None:
    for arch, kernels in getattr(model, "usage", {}).items():
        if kernels:
            print("\n".join([f"{arch}:", kernels[0].HEADER, *map(str, kernels)]))
