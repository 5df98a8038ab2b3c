"""Measures the memory that a model adds to a process: ``python -m convc.cli.footprint ENGINE FILE``.

``ENGINE`` is ``convc``, for an artifact, or ``onnxruntime``, for an ONNX file. The model is loaded and run in this
process, after everything has been imported. Needs Linux, where a process can read its own memory counts.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .others import import_onnxruntime

RUNS = 3


@dataclass(frozen=True)
class Footprint:
    """The growth of a process in MB: its resident memory, the private part of it, and its peak."""

    resident: float
    private: float
    peak: float


def footprint(engine: str, path: Path) -> Footprint:
    """Measure the footprint of a model in a new process, on one thread."""
    command = [sys.executable, "-m", "convc.cli.footprint", engine, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Footprint(**json.loads(done.stdout))


def _convc() -> Callable[[str], Callable[[], Any]]:
    from ..runtime.cpu import model as cpu_model  # noqa: F401 (loading imports it, and it must not count)
    from ..runtime.load import load
    from ..runtime.model import CompiledModel

    def start(path: str) -> Callable[[], Any]:
        model = load(path, threads=1)
        assert isinstance(model, CompiledModel)
        feeds = [np.zeros(p.sizes, p.dtype) for p in model.inputs]
        return lambda: model(*feeds)

    return start


def _onnxruntime() -> Callable[[str], Callable[[], Any]]:
    onnxruntime = import_onnxruntime()

    def start(path: str) -> Callable[[], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feeds = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()}
        return lambda: session.run(None, feeds)

    return start


def _counts() -> dict[str, float]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0]: int(words[1]) / 1024 for words in lines if words[0] in ("VmRSS:", "VmHWM:", "RssAnon:")}


def main(engine: str, path: str) -> None:
    """Load and run the model, and print the footprint as JSON."""
    start = {"convc": _convc, "onnxruntime": _onnxruntime}[engine]()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _counts()
    run = start(path)
    for _ in range(RUNS):
        run()
    after = _counts()
    grown = [after[key] - before[key] for key in ("VmRSS:", "RssAnon:", "VmHWM:")]
    print(json.dumps(asdict(Footprint(*grown))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
