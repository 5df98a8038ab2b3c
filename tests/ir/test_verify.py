"""The verifier looks at each node once in a pipeline, and at all of them again where it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.graphs import graph

from convc.ir import verify as module
from convc.ir.builder import Builder
from convc.ir.errors import GraphError
from convc.ir.graph import Graph, Node, Value
from convc.ir.op import f32
from convc.ir.ops.binary import Add
from convc.ir.pipeline import Pass, Pipeline
from convc.ir.types import TensorType
from convc.ir.verify import Verified, verify


def test_what_a_pass_left_alone_is_not_derived_again(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[str] = []
    infer = module.infer_types

    def counted(op, inputs):  # type: ignore[no-untyped-def]
        derived.append(op.name)
        return infer(op, inputs)

    monkeypatch.setattr(module, "infer_types", counted)
    given = graph("%y: f32[4] = relu(%x)\n%z: f32[4] = exp(%y)\nreturn %z", "%x: f32[4]")
    derived.clear()

    def changed(g: Graph) -> Graph:
        (relu, exp) = g.nodes
        return replace(g, nodes=(relu, Node(exp.op, exp.inputs, exp.outputs)))

    same = Pass("same", lambda g: g)
    Pipeline((same, same, Pass("changed", changed), same)).run(given)
    assert derived == ["relu", "exp", "exp"]


def test_a_wrong_type_is_found_in_any_pass() -> None:
    given = graph("%y: f32[4] = relu(%x)\nreturn %y", "%x: f32[4]")

    def wrong(g: Graph) -> Graph:
        (relu,) = g.nodes
        y = Value("y", f32[5])
        return replace(g, nodes=(replace(relu, outputs=(y,)),), outputs=(y,))

    with pytest.raises(GraphError, match="as stated after wrong"):
        Pipeline((Pass("same", lambda g: g), Pass("wrong", wrong))).run(given)


def test_a_node_is_sound_under_what_was_assumed_for_it_only() -> None:
    b = Builder("g")
    x, y = (b.input(name, TensorType("f32", (size,))) for name, size in (("x", "n"), ("y", "m")))
    made = b.finish([b.emit(Add(), x, y)])
    verified = Verified()
    verify(made, verified=verified)
    verify(made, verified=verified)
    with pytest.raises(GraphError, match="does not assume"):
        verify(replace(made, assumptions={}), verified=verified)
