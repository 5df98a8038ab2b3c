"""Inference on open sizes, for each case of each op: at values of the sizes it gives what it gives for numbers."""

from __future__ import annotations

import pytest
from support.open_cases import KNOWN, NAMES, holds, nothing, opened, other_values, types_at

import convc.ir.ops  # noqa: F401  registers every op
from convc.ir.assumptions import Assumptions
from convc.ir.builder import infer_types
from convc.ir.errors import ShapeError
from convc.ir.graph import Value
from convc.ir.op import REGISTRY, Case


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("name", [name for name, op in sorted(REGISTRY.items()) if any(op.cases())])
def test_inference_on_open_sizes(name: str, naming: str) -> None:
    for case in REGISTRY[name].cases():
        operands, values = opened(case, naming, KNOWN.get(name, nothing))
        assumed = Assumptions()
        with assumed.noted("here"):
            made = infer_types(case.op, operands)
        assert holds(assumed, values), (case, list(map(str, assumed.made)))
        for moved in (values, *(v for v in other_values(values) if holds(assumed, v))):
            types = types_at([v.type for v in operands], moved)
            expected = infer_types(case.op, [Value(v.name, t) for v, t in zip(operands, types, strict=True)])
            assert types_at(made, moved) == expected, (case.op, operands, made, list(map(str, assumed.made)), moved)


def _refusal(case: Case) -> str:
    """The error on operands all of whose sizes are open; empty when there is none."""
    operands, _ = opened(case, "each axis has its name", nothing)
    try:
        with Assumptions().noted("here"):
            infer_types(case.op, operands)
    except ShapeError as e:
        return str(e)
    return ""


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_an_op_that_must_know_a_size_says_so(name: str) -> None:
    refused = [e for e in map(_refusal, REGISTRY[name].cases()) if e]
    assert refused, "it takes all open sizes"
    assert all(word in e for e in refused for word in (name, "the body takes" if name == "loop" else "open")), refused
