"""Graphs of the compiler, written as text."""

from __future__ import annotations

import numpy as np

from convc.ir.graph import Constant, Graph
from convc.ir.text import parse_graph
from convc.ir.verify import verify


def graph(body: str, inputs: str = "%x: f32[1,32,8,8]", **constants: np.ndarray) -> Graph:
    """A graph from its statements. ``name=array`` adds a constant ``%name``."""
    known = {c.sha: c.array for c in map(Constant.of, constants.values())}
    lines = [f"%{n}: f32[{','.join(map(str, a.shape))}] = const sha={Constant.of(a).sha}" for n, a in constants.items()]
    made = parse_graph("\n".join([f"graph @g({inputs}) {{", *lines, body, "}"]), known)
    verify(made)
    return made


def ops(g: Graph) -> list[str]:
    """The names of a graph's ops in order. Those of a fused body are joined."""
    return ["+".join(ops(n.op.body)) if n.op.name == "fused" else n.op.name for n in g.nodes]  # type: ignore[attr-defined]


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
