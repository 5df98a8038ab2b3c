"""Opsets of exported models, among which ONNX Runtime's kernels decide."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.cases import CASES
from support.oracles import case_graph, run_onnxruntime
from support.tolerances import assert_close

import convc
from convc.ir.builder import Builder
from convc.ir.op import Case
from convc.ir.ops.activations import Elu
from convc.ir.ops.conv_integer import ConvInteger
from convc.ir.ops.max_roi_pool import MaxRoiPool
from convc.ir.ops.resize import Resize
from convc.ir.types import TensorType

POOLS = ("roi_align", "max_roi_pool")
FUNCTIONS = ("elu", "hard_sigmoid", "hard_swish", "leaky_relu", "mish", "selu", "softplus", "softsign")
OLDER = [
    p
    for p in CASES
    for name, inputs in [(p.values[0].op.name, p.values[0].inputs)]  # type: ignore[union-attr]
    if name in POOLS or (name in FUNCTIONS and "float64" in str(inputs[0]))
]


@pytest.mark.parametrize("case", OLDER)
def test_onnxruntime_runs_what_it_lacks_the_newest_form_of(case: Case) -> None:
    """ONNX Runtime has these in float64, or at all, only in an opset below the usual one."""
    graph, feeds = case_graph(case)
    model = convc.to_onnx(graph)
    assert model.opset_import[0].version < 22
    onnx.checker.check_model(model, full_check=True)
    wants = run_onnxruntime(model, feeds)
    if case.oracle == "onnxruntime" or case.op.name in FUNCTIONS:
        for want, found in zip(wants, convc.compile(graph, threads=1).run(feeds).values(), strict=True):
            assert_close(np.asarray(found), want, str(case.op), (1e-6, 1e-6) if want.dtype == np.float64 else None)


def test_no_older_opset_where_another_op_means_something_else_there() -> None:
    """Resize changed between opsets 18 and 22, so that it keeps the newer one."""
    b = Builder("g")
    x = b.emit(Elu(), b.input("x", TensorType("f64", (1, 2, 4, 4))))
    graph = b.finish((b.emit(Resize((2, 3), (), (8, 8)), x),))
    assert convc.to_onnx(graph).opset_import[0].version == 22


def test_the_opset_of_dtypes_that_the_older_form_lacks() -> None:
    """MaxRoiPool of data that a bfloat16 op made keeps the opset in which that op takes bfloat16."""
    b = Builder("g")
    x = b.emit(Elu(), b.input("x", TensorType("bf16", (1, 2, 4, 4))))
    rois = b.input("rois", TensorType("f32", (1, 5)))
    y = b.input("y", TensorType("f32", (1, 2, 4, 4)))
    graph = b.finish((x, b.emit(MaxRoiPool((2, 2)), y, rois)))
    assert convc.to_onnx(graph).opset_import[0].version == 22


def test_zero_points_that_are_all_equal_are_a_scalar() -> None:
    """ONNX Runtime's ConvInteger refuses a vector of zero points."""
    b = Builder("g")
    x, rng = b.input("x", TensorType("u8", (1, 2, 5, 5))), np.random.default_rng(0)
    w = b.constant(rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8))
    zeros = [b.constant(np.array(7, np.uint8)), b.constant(np.full(3, -2, np.int8))]
    graph = b.finish((b.emit(ConvInteger(), x, w, *zeros),))
    feeds = {"x": rng.integers(0, 255, (1, 2, 5, 5)).astype(np.uint8)}
    (got,) = convc.compile(graph, threads=1).run(feeds).values()
    np.testing.assert_array_equal(np.asarray(got), run_onnxruntime(convc.to_onnx(graph), feeds)[0])
