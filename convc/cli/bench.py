"""Time models against other engines. Each engine runs in a process of its own, and the engines take turns.

An engine that is compared with must be installed (pip install onnxruntime, pip install openvino). ONNX Runtime's
telemetry is switched off. An artifact for a GPU is timed without other engines.

examples, in a clone of convc:
  convc bench examples/lenet.onnx --vs none
  convc bench examples/networks.py:resnet18 examples/networks.py:blur --shape x=1,3,224,224 --threads 1,2
  convc bench examples/lenet.onnx --vs convc-strict,onnxruntime --layers 5 --json out.json
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any

import numpy as np

import convc
from convc.ir.limits import current
from convc.ir.shapes import StatedSize

from ..reader import as_graph
from ..runtime.artifact import is_artifact
from ..runtime.files import temporary_folder
from .engines import ENGINES
from .footprint import footprint
from .options import (
    add_choices,
    add_limits,
    check_writable,
    choices,
    file_name,
    positive,
    progress,
    refuse_for_artifact,
    shape_sets,
    source,
    stem,
)
from .options import shape as shape_option
from .others import check_installed
from .usage import UsageError

if TYPE_CHECKING:
    from ..runtime.cuda.model import CudaModel

OTHERS = ", ".join(e for e in ENGINES if e != "convc")
REST = 0.05
"""The pause between turns in seconds, in which the threads of the last engine go to sleep."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        type=file_name,
        help="models, as convc build takes them, or artifacts for a GPU",
    )
    parser.add_argument(
        "--shape",
        metavar="NAME=N,C,H,W",
        type=shape_option,
        action="append",
        default=[],
        help="the shape of one input, in every model; give it again for each shape to time",
    )
    add_choices(parser)
    add_limits(parser)
    parser.add_argument(
        "--threads", metavar="N,N", type=thread_counts, default=(1,), help="thread counts to try (default: 1)"
    )
    parser.add_argument(
        "--vs",
        metavar="ENGINE,ENGINE",
        default="onnxruntime",
        help=f"{OTHERS}, or none (default: onnxruntime)",
    )
    parser.add_argument("--turns", metavar="N", type=positive, default=7, help="turns each engine takes (default: 7)")
    parser.add_argument(
        "--layers", metavar="N", type=positive, help="also show each model's N slowest kernels and their share of peak"
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="also show the memory that loading and running each model adds to a process (Linux)",
    )
    parser.add_argument("--json", metavar="FILE", type=file_name, help="write the measurements to a file as JSON")


@dataclass(frozen=True)
class Result:
    """The timings of one model with one number of threads.

    ``ms`` is the median time of each engine in milliseconds, and ``ratio`` is the time of convc divided by that of each
    other engine.
    """

    model: str
    threads: int
    ms: dict[str, float]
    ratio: dict[str, float]


_OF_MODELS = (
    "--shape",
    "--value",
    "--outputs",
    "--batch",
    "--limit",
    "--threads",
    "--vs",
    "--layers",
    "--memory",
    "--json",
)
"""The options that an artifact, which is timed as it is and alone, does not take."""


def main(args: argparse.Namespace) -> None:
    engines = _engines(args.vs)
    if args.json:
        check_writable(args.json)
    on_gpu = [m for m in args.models if is_artifact(m)]
    for model in on_gpu:
        refuse_for_artifact(args, model, *_OF_MODELS)
    for model in on_gpu:
        time_on_gpu(model, args.turns)
    args.models = [m for m in args.models if m not in on_gpu]
    if not args.models:
        return
    check_installed([*engines, *(["onnxruntime"] if args.memory else [])])
    results = []
    print(" ".join([f"{'model':24} thr", *(f"{e:>12}" for e in engines), *(f"{'/ ' + e:>14}" for e in engines[1:])]))
    sizes = shape_sets(args)
    for model, given in ((m, s) for m in args.models for s in sizes):
        name = stem(model) + (f" {_brief(given)}" if len(sizes) > 1 else "")
        with temporary_folder("convc-bench-") as folder:
            path = folder / "model.onnx"
            convc.save_onnx(as_graph(source(model), given, **choices(args)), path)
            for threads in args.threads:
                progress(f"{name} on {threads} threads")
                results.append(compare(name, path, threads, engines, args.turns))
                show(results[-1])
            show_layers(path, args.layers or 0)
            if args.memory:
                show_memory(path)
    for threads in args.threads:
        _summary([r for r in results if r.threads == threads], engines)
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


def _engines(text: str) -> list[str]:
    """convc, and the engines that ``--vs`` names. Raises ``UsageError`` for one that is not known."""
    engines = ["convc", *([] if text == "none" else text.split(","))]
    unknown = [e for e in engines if e not in ENGINES]
    if unknown:
        raise UsageError(f"argument --vs: unknown engine '{unknown[0]}'; known: {OTHERS}, none")
    return list(dict.fromkeys(engines))


def _brief(shapes: Mapping[str, Sequence[StatedSize]]) -> str:
    return " ".join("x".join(map(str, shape)) for shape in shapes.values())


def time_on_gpu(path: str, turns: int) -> None:
    """Print two median times of an artifact on the GPU: of a run alone, and of a call with arrays in host memory."""
    from ..runtime.cuda.model import CudaModel

    loaded = convc.load(path)
    for model in loaded.models if isinstance(loaded, convc.ModelSet) else (loaded,):
        if not isinstance(model, CudaModel):
            raise UsageError(f"'{path}' is compiled for a processor: give the model that it was built from")
        _time_on_gpu(stem(path), model, turns)


def _time_on_gpu(name: str, model: CudaModel, turns: int) -> None:
    rng = np.random.default_rng(0)
    feeds = {p.name: rng.standard_normal(p.sizes).astype(p.dtype) for p in model.inputs}
    model.run(feeds)
    runs = max(1, min(1000, round(0.25 / _seconds(lambda: model.program.replay(1)))))
    alone = median(_seconds(lambda: model.program.replay(runs)) / runs for _ in range(turns))
    called = median(_seconds(lambda: model.run(feeds)) for _ in range(runs))
    device = model.program.device
    print(
        f"{name:24} {alone * 1e3:9.3f} ms on {device.name} (sm_{device.arch}), "
        f"{called * 1e3:9.3f} ms with copies from and to the processor",
        flush=True,
    )


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(name: str, path: Path, threads: int, engines: Sequence[str], turns: int) -> Result:
    """Time the engines in turns.

    A ratio is the median of the ratios of neighbouring turns, which is insensitive to drift of the machine's speed.
    """
    workers: dict[str, Worker] = {}
    try:
        for e in engines:
            workers[e] = Worker(e, path, threads)
        once = {e: w.run(1)[0] for e, w in workers.items()}
        runs = {e: max(1, min(200, round(0.25 / once[e]))) for e in engines}
        medians: dict[str, list[float]] = {e: [] for e in engines}
        for _ in range(turns):
            for e, w in workers.items():
                time.sleep(REST)
                medians[e].append(median(w.run(runs[e])))
    finally:
        for w in workers.values():
            w.close()
    ratios = {e: median(a / b for a, b in zip(medians["convc"], medians[e], strict=True)) for e in engines[1:]}
    return Result(name, threads, {e: median(m) * 1e3 for e, m in medians.items()}, ratios)


class Worker:
    """An engine in a process of its own (``engines.py``)."""

    def __init__(self, engine: str, path: Path, threads: int) -> None:
        limits = json.dumps(asdict(current()))
        command = [sys.executable, "-m", "convc.cli.engines", engine, str(path), str(threads), limits]
        self.engine = engine
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.ready = self._answer()["ready"]

    def run(self, count: int) -> list[float]:
        """The times of ``count`` runs in seconds."""
        stdin: IO[str] | None = self.process.stdin
        assert stdin is not None
        stdin.write(f"{count}\n")
        stdin.flush()
        times: list[float] = self._answer()
        return times

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            last = (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]
            self.close()
            raise convc.ConvcError(f"engine {self.engine} failed: {last}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def show(r: Result) -> None:
    times = " ".join(f"{ms:9.3f} ms" for ms in r.ms.values())
    print(f"{r.model:24} {r.threads:3} {times} {' '.join(f'{v:14.2f}' for v in r.ratio.values())}", flush=True)


def _summary(results: Sequence[Result], engines: Sequence[str]) -> None:
    if len(results) < 2:
        return
    for e in engines[1:]:
        mean = math.exp(sum(math.log(r.ratio[e]) for r in results) / len(results))
        worst = max(results, key=lambda r: r.ratio[e])
        print(
            f"{results[0].threads} threads, to {e}: "
            f"geometric mean {mean:.2f}, worst {worst.ratio[e]:.2f} ({worst.model})"
        )


def show_layers(path: Path, count: int) -> None:
    """Print the kernel that loses most time against the machine's measured peak, and the ``count`` slowest kernels.

    The network runs on one thread.
    """
    from convc.backends.cpu.database import choices_for
    from convc.backends.cpu.pipeline import pipeline
    from convc.backends.cpu.profile import Timing, peak_gflops, profile
    from convc.backends.cpu.target import host_target

    target = host_target()
    peak = peak_gflops()
    kernels = profile(pipeline(target.machine, choices=choices_for(True, target.mcpu)).run(as_graph(path)), target)
    total = sum(k.ms * k.uses for k in kernels)

    def line(k: Timing) -> str:
        rate = f"{k.gflops:6.1f} GFLOP/s, {k.gflops / peak:4.0%} of peak" if k.gflops >= 1 else f"{k.gbytes:6.1f} GB/s"
        return f"{k.ms * k.uses / total:4.0%} {k.uses:3}x {k.ms:8.3f} ms  {rate}  {k.rule}: {k.what}"

    for k in sorted(kernels, key=lambda k: k.ms * k.uses * (k.gflops / peak - 1))[:1]:
        print(f"    worst: {line(k)}")
    for k in sorted(kernels, key=lambda k: -k.ms * k.uses)[:count]:
        print(f"    {line(k)}")


def show_memory(path: Path) -> None:
    """Print how much memory loading a model, and running it three times, adds to a process.

    Artifacts of convc are compared with the ONNX file in ONNX Runtime.
    """
    found = {"onnxruntime": footprint("onnxruntime", path)}
    for name, precision in (("convc", "default"), ("convc-strict", "strict")):
        artifact = path.with_suffix(".convc")
        convc.compile(path, precision=precision).save(artifact)
        found[name] = footprint("convc", artifact)
    for name, used in found.items():
        ratio = used.resident / found["onnxruntime"].resident
        print(f"    {name:12} {used.resident:7.1f} MB, at its peak {used.peak:7.1f} MB, / onnxruntime {ratio:.2f}")


def thread_counts(text: str) -> tuple[int, ...]:
    """Parse thread counts such as ``1,2``."""
    return tuple(positive(t) for t in text.split(","))
