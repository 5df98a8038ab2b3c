"""ONNX Runtime runs the exported model of every op, except for a named list of what it has no kernel for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as errors
from support.cases import CASES
from support.lacks import LACKS
from support.oracles import case_graph, run_onnxruntime

import convc
from convc.ir.errors import ConvcError
from convc.ir.op import Case
from convc.ir.types import TensorType

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


def emptied(case: Case) -> Iterator[Case]:
    """The case with each of its sizes in turn replaced by 0, in every operand that is drawn."""
    drawn = [x for x in case.inputs if isinstance(x, TensorType)]
    for size in sorted({d for t in drawn for d in t.sizes if d}):
        yield replace(
            case,
            inputs=tuple(
                x.with_shape([0 if d == size else d for d in x.sizes]) if isinstance(x, TensorType) else x
                for x in case.inputs
            ),
        )


@pytest.mark.parametrize("op", sorted({p.values[0].op.name for p in CASES} - {"einsum"}))  # type: ignore[union-attr]
def test_onnx_infers_the_exported_shapes_of_nothing(op: str) -> None:
    """A size of 0 in the shape of an exported Reshape stands for itself.

    onnx is mistaken about Einsum, in which it says that 1 and 0 do not broadcast.
    """
    for p in CASES:
        case: Case = p.values[0]  # type: ignore[assignment]
        for empty in emptied(case) if case.op.name == op else ():
            try:
                graph, _ = case_graph(empty)
            except (ConvcError, ArithmeticError, ValueError, LookupError):
                continue  # this size cannot be 0
            made = onnx.shape_inference.infer_shapes(convc.to_onnx(graph), strict_mode=True, data_prop=True)
            for v, port in zip(graph.outputs, made.graph.output, strict=True):
                found = port.type.tensor_type.shape.dim  # a size that follows from data has no number
                assert all(d.dim_value == size or d.dim_param for d, size in zip(found, v.type.shape, strict=True))
