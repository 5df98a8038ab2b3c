"""Everything that needs a GPU, in one command and one table: ``python tests/gpu_suite.py FOLDER [NAME...]``.

For each network of ``tests/model_zoo.py`` (written to FOLDER where it is not there yet), batch size and precision: the
largest error against the logits of the same network in float64, as a multiple of what ``LIMITS`` allows (above 1
fails); milliseconds of convc and of PyTorch (cuDNN, channels_last, in a CUDA graph) and the ratio, medians of turns;
with ``--compile`` of ``torch.compile(mode="max-autotune")`` too. ``--sanitize`` runs each network once under
compute-sanitizer's memcheck, racecheck and synccheck instead. Needs torch with CUDA and torchvision. The exit code is 1
when an answer is wrong or the sanitizer finds something.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from model_zoo import OPSET, SIZES, build, export

import convc

LIMITS = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2}
"""Error of logits of deviation 1: float32 as on the CPU; ten and eleven bits of the factors, some fifty layers deep."""
TOOLS = ("memcheck", "racecheck", "synccheck")
TURNS, RUNS = 7, 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(SIZES)}")
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--precisions", default="fp32,tf32,fp16")
    parser.add_argument("--compile", action="store_true", help="compare with torch.compile too: minutes a network")
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    names, batches = options.names or list(SIZES), [int(b) for b in options.batches.split(",")]
    if options.sanitize:
        return max(sanitize(options.folder, name, options.precisions) for name in names)
    if not options.once:
        print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
        print(
            f"{'model':20} {'batch':>5} {'precision':9} {'error':>6} {'convc':>9} {'pytorch':>9} {'ratio':>6}",
            flush=True,
        )
    failed = 0
    for name in names:
        for precision in options.precisions.split(","):
            failed += not is_right(options.folder, name, precision)
            for batch in () if options.once else batches:
                print(line(options.folder, name, batch, precision, options.compile), flush=True)
    return 1 if failed else 0


def compiled(path: Path, precision: str) -> convc.CompiledModel:
    """A network for the GPU of this machine."""
    major, minor = torch.cuda.get_device_capability()
    return convc.compile(path, target="cuda", arch=f"sm_{10 * major + minor}", precision=precision)


def is_right(folder: Path, name: str, precision: str) -> bool:
    """Whether a network's logits are near those of float64; prints the error."""
    path = folder / f"{name}.onnx"
    if not path.exists() or not path.with_suffix(".npz").exists():
        export(name, path)
    exact = np.load(path.with_suffix(".npz"))
    error = float(np.abs(compiled(path, precision)(exact["x"]) - exact["logits"]).max()) / LIMITS[precision]
    print(f"{name:20} {'':5} {precision:9} {error:6.2f}{'' if error <= 1 else '  WRONG'}", flush=True)
    return error <= 1


def line(folder: Path, name: str, batch: int, precision: str, with_compile: bool) -> str:
    """The times of one network at one batch size."""
    net, size = build(name, SIZES[name]), SIZES[name]
    path = folder / f"{name}.{batch}.onnx"
    images = torch.randn(batch, 3, size, size)
    torch.onnx.export(net, (images,), str(path), opset_version=OPSET, dynamo=False, input_names=["x"])
    model = compiled(path, precision)
    path.unlink()
    theirs = in_graph(net, images, precision)
    x = images.cuda()
    engines: list[Callable[[], object]] = [lambda: model(x), theirs]
    if with_compile:
        engines.append(in_graph(net, images, precision, torch.compile(net, mode="max-autotune-no-cudagraphs")))
    turns = [[milliseconds(engine) for engine in engines] for _ in range(TURNS)]
    ms = [median(turn[i] for turn in turns) for i in range(len(engines))]
    ratios = [median(turn[0] / turn[i] for turn in turns) for i in range(1, len(engines))]
    others = " ".join(f"{m:9.3f} {r:6.2f}" for m, r in zip(ms[1:], ratios, strict=True))
    return f"{name:20} {batch:5} {precision:9} {'':6} {ms[0]:9.3f} {others}"


def in_graph(
    net: torch.nn.Module, images: torch.Tensor, precision: str, module: torch.nn.Module | None = None
) -> Callable[[], object]:
    """PyTorch's run of a network as one CUDA graph, channels last, in a precision."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = torch.float16 if precision == "fp16" else torch.float32
    net.to("cuda", dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = images.to("cuda", dtype, memory_format=torch.channels_last)
    run = module or net
    with torch.inference_mode():
        for _ in range(3):
            run(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run(x)
    return graph.replay


def milliseconds(run: Callable[[], object]) -> float:
    """The time of one run, of several given at once."""
    run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(RUNS):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / RUNS


def sanitize(folder: Path, name: str, precisions: str) -> int:
    """Run a network once under each tool; 1 when one of them finds something."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        raise SystemExit("compute-sanitizer is not on PATH: it comes with the CUDA toolkit")
    failed = 0
    for which in TOOLS:
        command = [tool, "--tool", which, "--error-exitcode", "3", sys.executable, __file__, str(folder), name]
        done = subprocess.run(
            [*command, "--once", "--precisions", precisions], capture_output=True, text=True, check=False
        )
        print(f"{name:20} {which:10} {'clean' if done.returncode == 0 else done.stdout[-2000:]}", flush=True)
        failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
