"""Engines to compare with, each of which runs in a process of its own.

``python -m convc.cli.engines ENGINE MODEL THREADS LIMITS`` is such a process; LIMITS are those of ``convc.Limits`` as
JSON. It prints one line of JSON when it is ready. It then reads numbers from stdin, and answers each number N with a
JSON list of the times of N runs in seconds. The number of threads is set explicitly. Between turns the process waits
for input, so that only one engine runs at a time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.version_converter

from convc.ir.limits import Limits, using

from ..onnx.export import to_onnx
from ..reader import as_graph
from .others import import_onnxruntime

Run = Callable[[], Any]
WARM_UP = 3


def convc_engine(model: onnx.ModelProto, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    """convc with its default options."""
    from ..compiler import compile

    compiled = compile(model, threads=threads)
    return lambda: compiled.run(feeds)


def strict_engine(model: onnx.ModelProto, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    """convc with ``precision="strict"``."""
    from ..compiler import compile

    compiled = compile(model, threads=threads, precision="strict")
    return lambda: compiled.run(feeds)


def onnxruntime_engine(model: onnx.ModelProto, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    """ONNX Runtime's CPU provider with all graph optimisations, which is its default."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def openvino_engine(model: onnx.ModelProto, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    """OpenVINO's CPU plugin, set for latency and for float32 like the others."""
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    request = compiled.create_infer_request()
    values = [feeds[i.get_any_name()] for i in compiled.inputs]
    return lambda: request.infer(values)


def torch_engine(model: onnx.ModelProto, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    """PyTorch in eager mode, in float32. The model is converted by onnx2torch, which supports opsets up to 17."""
    import torch
    from onnx2torch import convert

    torch.set_num_threads(threads)
    module = convert(onnx.version_converter.convert_version(model, 17)).eval()
    values = [torch.from_numpy(feeds[i.name]) for i in model.graph.input]

    def run() -> Any:
        with torch.inference_mode():
            return module(*values)

    return run


ENGINES: dict[str, Callable[[onnx.ModelProto, int, dict[str, np.ndarray]], Run]] = {
    "convc": convc_engine,
    "convc-strict": strict_engine,
    "onnxruntime": onnxruntime_engine,
    "openvino": openvino_engine,
    "torch": torch_engine,
}


def random_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random inputs for a model of static shapes, the same on every run."""
    rng = np.random.default_rng(0)
    graph = as_graph(model)
    return {v.name: rng.standard_normal(v.type.sizes).astype(v.type.numpy_dtype) for v in graph.inputs}


def main(engine: str, path: str, threads: int) -> None:
    """Time one engine as stdin asks, and write the times to stdout."""
    model = to_onnx(as_graph(path))
    feeds = random_feeds(model)
    start = time.perf_counter()
    run = ENGINES[engine](model, threads, feeds)
    ready = time.perf_counter() - start
    for _ in range(WARM_UP):
        run()
    print(json.dumps({"ready": ready}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = sys.argv[3]
    with using(Limits(**json.loads(sys.argv[4]))):
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
