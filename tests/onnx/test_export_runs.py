"""ONNX Runtime runs the exported model of every op, except for a named list of what it has no kernel for."""

from __future__ import annotations

import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as errors
from support.cases import CASES
from support.lacks import LACKS
from support.oracles import case_graph, run_onnxruntime

import convc
from convc.ir.op import Case

PYTHON = frozenset(["f16", "f32", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"])
"""The dtypes that ONNX Runtime's Python interface takes and gives."""

# test_ops.py runs those of which ONNX Runtime is an oracle
REST = [p for p in CASES if p.values[0].oracle.startswith("reference")]  # type: ignore[union-attr]


def native(case: Case) -> bool:
    graph, _ = case_graph(case)
    return {v.type.dtype for v in (*graph.inputs, *graph.outputs)} <= PYTHON


NATIVE = [p for p in REST if native(p.values[0])]  # type: ignore[arg-type]


def refusal(case: Case) -> tuple[tuple[str, str], str]:
    """The op and the dtype of its first operand, and the error by which ONNX Runtime refuses the export, if any."""
    graph, feeds = case_graph(case)
    at = case.op.name, graph.inputs[0].type.dtype
    try:
        run_onnxruntime(convc.to_onnx(graph), feeds, optimized=False)
    except (errors.NotImplemented, errors.Fail, errors.RuntimeException) as e:
        return at, str(e)
    return at, ""


@pytest.mark.parametrize("case", NATIVE)
def test_onnxruntime_runs_the_export(case: Case) -> None:
    """An op that ONNX Runtime refuses is mended, or listed with the reason."""
    at, error = refusal(case)
    assert not error or at in LACKS, error


def test_all_that_is_listed_is_lacking() -> None:
    """A reason that no longer holds leaves the list."""
    cases: list[Case] = [p.values[0] for p in NATIVE]  # type: ignore[misc]
    listed = {name for name, _ in LACKS}
    assert set(LACKS) == {at for at, error in map(refusal, (c for c in cases if c.op.name in listed)) if error}
