"""The files that mutants are made from: small models that contain every op, as ONNX and as text, and artifacts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support import small_models

import convc
from convc import nn
from convc.backends.cpu.machine import Machine
from convc.backends.cpu.pipeline import pipeline
from convc.ir.builder import Builder
from convc.ir.errors import ConvcError
from convc.ir.graph import Graph
from convc.ir.op import REGISTRY
from convc.ir.text import print_graph
from convc.ir.types import TensorType

MACHINE = Machine(lanes=8, registers=16, cache_bytes=1 << 20)


@lru_cache(maxsize=1)
def models() -> tuple[bytes, ...]:
    """ONNX models.

    They are one model per op class, of its first case, small networks, and models with a function, an If, external data
    and shape arithmetic.
    """
    found = [convc.to_onnx(g) for g in _graphs() if _has_onnx(g)]
    found += [build(1, 4) for build in small_models.MODELS]
    return tuple(m.SerializeToString() for m in [*found, *_special()])


@lru_cache(maxsize=1)
def texts() -> tuple[str, ...]:
    """The text forms of the same models, before and after the passes."""
    networks = [convc.load_onnx(build(1, 4)) for build in list(small_models.MODELS)[::3]]
    graphs = [*_graphs(), *networks]
    return tuple(map(print_graph, [*graphs, *(pipeline(MACHINE).run(g) for g in graphs[::3])]))


@lru_cache(maxsize=1)
def artifacts() -> tuple[bytes, ...]:
    """Artifacts: LeNet for two kinds of processor, and a layer for GPUs."""
    from tempfile import TemporaryDirectory

    lenet = Path(__file__).parents[2] / "examples" / "lenet.onnx"
    models = [
        convc.compile(lenet, "x86-64-v2,x86-64-v3", threads=1),
        convc.compile(nn.Dense(8), "cuda", {"x": (1, 8)}, arch="sm_80"),
    ]
    with TemporaryDirectory() as folder:
        for i, model in enumerate(models):
            model.save(Path(folder) / str(i))
        return tuple((Path(folder) / str(i)).read_bytes() for i in range(len(models)))


def _graphs() -> list[Graph]:
    graphs = []
    for op in REGISTRY.values():
        for case in list(op.cases())[:2]:
            b = Builder(op.name)
            values = [
                b.input(f"x{i}", x) if isinstance(x, TensorType) else b.constant(x, f"x{i}")
                for i, x in enumerate(case.inputs)
            ]
            made: Any = b.emit(case.op, *values)
            graphs.append(b.finish(list(made) if isinstance(made, tuple) else [made]))
    return graphs


def _has_onnx(graph: Graph) -> bool:
    try:
        convc.to_onnx(graph)
    except ConvcError:
        return False
    return True


def _special() -> list[onnx.ModelProto]:
    def model(nodes: Any, *weights: Any, functions: Any = (), **shapes: Any) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (shapes or {"x": [2, 3]}).items()]
        graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info("y")], list(weights))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)

    node: Callable[..., onnx.NodeProto] = helper.make_node
    ints = numpy_helper.from_array(np.array([2, 3], np.int64), "ints")
    true = numpy_helper.from_array(np.array(True), "true")
    far = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    far.external_data.add(key="location", value="data.bin")
    inner = [
        helper.make_graph([node(op, ["x"], ["b"])], op, [], [helper.make_empty_tensor_value_info("b")])
        for op in ("Relu", "Tanh")
    ]
    body = [node("Relu", ["a"], ["t"]), node("Elu", ["t"], ["b"])]
    body[1].attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function("d", "F", ["a"], ["b"], body, [helper.make_opsetid("", 20)], ["alpha"])
    outer = [node("F", ["a"], ["t"], domain="d", alpha=2.0), node("F", ["t"], ["b"], domain="d", alpha=1.0)]
    twice = helper.make_function(
        "d", "G", ["a"], ["b"], outer, [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    )
    arithmetic = [
        node("Shape", ["x"], ["s"]),
        node("ConstantOfShape", ["ints"], ["k"]),
        node("Tile", ["k", "ints"], ["t"]),
        node("Expand", ["t", "s"], ["e"]),
        node("Reshape", ["x", "ints"], ["y"]),
    ]
    counted = helper.make_graph(
        [node("Tanh", ["s"], ["t"]), node("Unique", ["ints"], ["u"])],
        "body",
        [
            helper.make_tensor_value_info(*p)
            for p in (("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, []), ("s", TensorProto.FLOAT, [2, 3]))
        ],
        [helper.make_empty_tensor_value_info(n) for n in ("c", "t", "t", "u")],
    )
    scanned = helper.make_graph(
        [node("Add", ["s", "e"], ["t"])],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("s", "e")],
        [helper.make_empty_tensor_value_info(n) for n in ("t", "t")],
    )
    three = numpy_helper.from_array(np.array(3, np.int64), "three")
    zeros = numpy_helper.from_array(np.zeros(3, np.float32), "zeros")
    return [
        model([node("Loop", ["three", "true", "x"], ["y", "all", "us"], body=counted)], three, true, ints),
        model([node("Scan", ["zeros", "x"], ["last", "y"], body=scanned, num_scan_inputs=1)], zeros),
        model([node("Unique", ["ints"], ["u", "at", "back", "counts"]), node("Reshape", ["x", "u"], ["y"])], ints),
        model([node("If", ["true"], ["y"], then_branch=inner[0], else_branch=inner[1])], true),
        model([node("G", ["x"], ["y"], domain="d")], functions=[function, twice]),
        model([node("Add", ["x", "far"], ["y"])], far),
        model(arithmetic, ints),
        model([node("Resize", ["x", "", "", "ints"], ["y"])], ints),
        model([node("Range", ["a", "b", "c"], ["r"]), node("Add", ["x", "r"], ["y"])],
              *(numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("a", 0), ("b", 3), ("c", 1)))),
    ]  # fmt: skip
