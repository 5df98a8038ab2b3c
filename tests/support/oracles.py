"""Oracles, which compute the right results by independent code: ONNX Runtime, and onnx's reference implementation."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import Case
from convc.ir.types import TensorType, type_of
from convc.onnx.export import to_onnx

Feeds = Mapping[str, np.ndarray]


def run_onnxruntime(model: onnx.ModelProto, feeds: Feeds, *, optimized: bool = True) -> list[np.ndarray]:
    """The outputs of a model by ONNX Runtime on one thread. Without ``optimized``, each node runs as it is."""
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")
"""ONNX Runtime's levels of optimisation. Those from ``ORT_ENABLE_LAYOUT`` on depend on the processor."""


def optimised(model: onnx.ModelProto, level: str) -> onnx.ModelProto:
    """The model as ONNX Runtime saves it after optimising it at one of the ``LEVELS``."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def run_reference(model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """The outputs of a model by onnx's reference implementation."""
    with np.errstate(all="ignore"):
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, dict(feeds))]


def run_in_float64(model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """The outputs of a model by onnx's reference implementation in float64, in the dtypes that the model declares."""
    from onnx import TensorProto, helper, numpy_helper

    def wide(array: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return array.astype(np.float64) if array.dtype.kind == "f" else array

    floats, double = (TensorProto.FLOAT, TensorProto.FLOAT16), TensorProto.DOUBLE
    dtypes = [helper.tensor_dtype_to_np_dtype(o.type.tensor_type.elem_type) for o in model.graph.output]
    held = onnx.ModelProto()
    held.CopyFrom(model)
    for port in (*held.graph.input, *held.graph.output):
        if port.type.tensor_type.elem_type in floats:
            port.type.tensor_type.elem_type = double
    for tensor in held.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(wide(numpy_helper.to_array(tensor)), tensor.name))
    for node in held.graph.node:
        for a in node.attribute:
            if a.name in ("stash_type", "to") and a.i in floats:
                a.i = double
    got = run_reference(held, {name: wide(x) for name, x in feeds.items()})
    with np.errstate(all="ignore"):
        return [y.astype(dtype) for y, dtype in zip(got, dtypes, strict=True)]


def values(type: TensorType, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Random values of a type."""
    if type.dtype == "bool":
        return rng.integers(0, 2, type.sizes).astype(bool)
    if type.is_float:
        return rng.uniform(low, high, type.sizes).astype(type.numpy_dtype)
    floor = max(low, 0) if type.dtype.startswith("u") else low
    return rng.integers(int(floor), int(high) + 1, type.sizes).astype(type.numpy_dtype)


def _text(x: TensorType | np.ndarray) -> str:
    """An operand of a case as the seed of its values knows it."""
    return str(x) if isinstance(x, np.ndarray) else f"{x.dtype}[{','.join(map(str, x.shape))}]"


def case_graph(case: Case) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of one op, and inputs for it, the same on every run."""
    rng = np.random.default_rng(zlib.crc32(repr((case.op, [_text(x) for x in case.inputs])).encode()))
    b = Builder("case")
    feeds = {}
    inputs = []
    for i, x in enumerate(case.inputs):
        array = x if isinstance(x, np.ndarray) else values(x, rng, case.low, case.high)
        inputs.append(b.input(f"x{i}", type_of(array)))
        feeds[f"x{i}"] = array
    made = b.emit(case.op, *inputs)
    return b.finish(made if isinstance(made, tuple) else (made,)), feeds


def expected(case: Case, graph: Graph, feeds: Feeds) -> list[tuple[str, list[np.ndarray]]]:
    """The right outputs by each oracle that the case names."""
    model = to_onnx(graph)
    runs = {"onnxruntime": run_onnxruntime, "reference": run_reference, "reference in float64": run_in_float64}
    return [(name, run(model, feeds)) for name, run in runs.items() if case.oracle in (name, "both")]
