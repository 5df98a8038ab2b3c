"""Every op in the cases that its class gives: types, text form, ONNX, and results compared with independent code."""

from __future__ import annotations

import onnx
import pytest
from support.cases import CASES
from support.compiling import compiled
from support.oracles import case_graph, expected, run_reference
from support.tolerances import assert_close

import convc
from convc.ir.op import REGISTRY, Case, from_outside
from convc.ir.text import parse_graph, print_graph
from convc.ir.verify import verify

WITHOUT_CASES = {
    "choose",
    "conv_bytes",
    "fused",
    "known_sizes",
    "range",
    "relayout",
    "read_sizes",
    "while",
    "winograd_conv",
    "winograd_weight",
}
"""Ops that no model contains. Their own tests cover them."""


def test_every_op_has_cases() -> None:
    own = {name: cls for name, cls in REGISTRY.items() if not from_outside(cls)}  # other tests define ops too
    assert {name for name, cls in own.items() if not list(cls.cases())} == WITHOUT_CASES


@pytest.mark.parametrize("case", CASES)
def test_numbers(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    """Compiled code gives the oracles' results, and compiling prints nothing, such as a warning of TVM's."""
    assert case.oracle == "both" or case.note, "a case that leaves an oracle out says why"
    graph, feeds = case_graph(case)
    got = compiled(graph, threads=2)(*feeds.values())
    assert capfd.readouterr() == ("", "")
    got = got if isinstance(got, tuple) else (got,)
    for oracle, want in expected(case, graph, feeds):
        for g, w in zip(got, want, strict=True):
            assert_close(g, w, f"{case.op} against {oracle}")


@pytest.mark.parametrize("case", CASES)
def test_text_form(case: Case) -> None:
    """Printing and parsing a graph gives the same graph."""
    graph, _ = case_graph(case)
    verify(graph)
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("case", CASES)
def test_onnx_round_trip(case: Case) -> None:
    """The exported model passes onnx's checker, and gives the same results when it is imported again."""
    graph, feeds = case_graph(case)
    model = convc.to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    again = convc.load_onnx(model)
    assert [v.type for v in again.outputs] == [v.type for v in graph.outputs]
    if case.oracle != "onnxruntime":
        for g, w in zip(run_reference(convc.to_onnx(again), feeds), run_reference(model, feeds), strict=True):
            assert_close(g, w, f"{case.op} exported twice")
