"""Whole networks in emulation: built for a GPU, and run on the emulated device."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx

from convc.backends.backend import port
from convc.backends.cuda.build import Variant, variant
from convc.backends.cuda.gpu import GPUS
from convc.backends.cuda.pipeline import pipeline
from convc.ir.graph import Graph
from convc.ir.passes.fix_shapes import fix_shapes
from convc.reader import as_graph
from convc.runtime.cuda.program import Program

from .device import EmulatedDevice
from .run import program


def built(model: onnx.ModelProto, gpu: str, precision: str) -> tuple[Graph, Variant]:
    """The graph after the passes for GPUs, and its plan and sources for one architecture."""
    final = pipeline(precision).run(fix_shapes(as_graph(model), {}))
    return final, variant(final, replace(GPUS[gpu], tf32=precision == "tf32"))


def run_network(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], gpu: str, precision: str) -> list[np.ndarray]:
    """The outputs of a model. It runs twice, since a call must not depend on what the previous one left in memory."""
    final, found = built(model, gpu, precision)
    inputs, outputs = ([port(v.name, v) for v in values] for values in (final.inputs, final.outputs))
    weights = {name: c.array for name, c in final.constants.items()}
    device = EmulatedDevice(GPUS[gpu].arch)
    with ThreadPoolExecutor() as compiler:
        list(compiler.map(program, found.sources))  # compiles all at once, before they are loaded
    network = Program(device, found.plan, [s.encode() for s in found.sources], weights, inputs, outputs)
    arrays = [feeds[v.name] for v in final.inputs]
    first, second = network(arrays), network(arrays)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b, err_msg="a second call gives another result")
    return list(first)
