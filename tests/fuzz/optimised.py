"""A variant of the fuzzer: the graph as ONNX Runtime saves it after optimising it, which holds operators of its own."""

from __future__ import annotations

import random
import zlib

import onnx
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented
from support.oracles import LEVELS, optimised

import convc
from convc.ir.graph import Graph
from convc.ir.text import print_graph
from convc.runtime.model import CompiledModel

from .compare import feeds_for, truth
from .exports import changed_by


def by_onnxruntime(graph: Graph) -> CompiledModel:
    """The graph exported, optimised at a level that follows from its text, and imported.

    A graph that ONNX Runtime cannot load, since it lacks an operator for a dtype, is imported as it was exported. So is
    one whose results it changes: of two pairs of QuantizeLinear and DequantizeLinear it leaves one.
    """
    model = convc.to_onnx(graph)
    level = random.Random(zlib.crc32(print_graph(graph).encode())).choice(LEVELS)
    try:
        changed: onnx.ModelProto = optimised(model, level)
    except (Fail, InvalidArgument, InvalidGraph, NotImplemented):
        changed = model
    feeds = feeds_for(graph)
    if changed_by(changed, feeds, truth(graph, feeds)):
        changed = model
    return convc.compile(changed, threads=1, tuning=None)
