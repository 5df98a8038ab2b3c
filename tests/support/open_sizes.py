"""Graphs of open sizes that go through the passes, with numbers put in at the end or at the beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from convc.backends.cpu.backend import compile_graph
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import Target
from convc.backends.group import Group
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import Case
from convc.ir.passes.fix_shapes import with_sizes
from convc.ir.pipeline import Pipeline
from convc.ir.sizes import names
from convc.ir.verify import verify

from .compiling import sharing
from .open_cases import KNOWN, nothing
from .open_cases import opened as open_operands


def opened(model: onnx.ModelProto, names: Sequence[str | int | None]) -> onnx.ModelProto:
    """The model with open sizes at the axes of its first input that have a name, and numbers at those that have one."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for d, name in zip(made.graph.input[0].type.tensor_type.shape.dim, names, strict=True):
        if isinstance(name, str):
            d.dim_param = name
        elif name is not None:
            d.dim_value = name
    for o in made.graph.output:
        o.type.tensor_type.ClearField("shape")
    del made.graph.value_info[:]
    return made


def final_graph(graph: Graph, target: Target) -> Graph:
    """The graph after all passes for a processor."""
    return pipeline(target.machine).run(graph)


def at_sizes(final: Graph, values: Mapping[str, int]) -> Graph:
    """A graph of open sizes with numbers for them, verified. Raises ``ShapeError`` where it assumes others."""
    fixed = with_sizes(final, values)
    assert not fixed.assumptions
    assert not [n for v in fixed.values() for d in v.type.shape for n in names(d)]
    assert not [n for node in fixed.nodes for n in node.op.named_sizes()]
    verify(fixed)
    return fixed


def run_final(final: Graph, target: Target, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph of known sizes that has been through all passes."""
    return list(compile_graph(final, sharing(target), Pipeline(()), 1).run(feeds).values())


def kernels_of(final: Graph) -> list[tuple[str, list[object]]]:
    """What a graph that has been through all passes computes, whatever its values are called: kernels and operands."""
    places: dict[str, object] = {v.name: i for i, v in enumerate(final.inputs)}
    places |= {name: c.sha for name, c in final.constants.items()}
    made = []
    for i, node in enumerate(final.nodes):
        made.append((Group.of(node).key, [places[v.name] for v in node.inputs]))
        places |= {v.name: (i, j) for j, v in enumerate(node.outputs)}
    return made


def open_case(case: Case) -> tuple[Graph, dict[str, int]]:
    """A graph of one node, a case with named sizes in place of its own, which are typical, and these by name."""
    operands, values = open_operands(case, "each axis has its name", KNOWN.get(case.op.name, nothing))
    b = Builder()
    made = b.emit(case.op, *(b.input(v.name, v.type) for v in operands))
    return b.finish(made if isinstance(made, tuple) else [made]), values
