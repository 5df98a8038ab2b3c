"""onnx's own backend test suite: a part on every run, all of it where slow tests run; and the backend interface."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import convc.onnx_backend as backend
from convc.ir.errors import UnsupportedOpError
from convc.onnx_suite import Mismatch, compare, load_cases, run_case, run_suite

PASSING: list[str] = []
"""One or two cases of every op, all of which pass."""

REFUSED = [
    "test_nonzero_example",
    "test_loop11",
    "test_sequence_insert_at_back",
    "test_strnormalizer_nostopwords_nochangecase",
    "test_cast_FLOAT_to_FLOAT8E4M3FN",
    "test_training_dropout",
    "test_unique_sorted_without_axis",
    "test_optional_get_element_tensor",
]
"""Data-dependent sizes, loops, sequences, strings, small floats, randomness, optionals: refused by name."""

FLOOR = 0
"""How many cases of the whole suite pass."""


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return {name: case for (_, name), case in load_cases(["node"]).items()}


@pytest.mark.parametrize("name", PASSING)
def test_passes(cases: dict[str, Any], name: str) -> None:
    result = run_case("node", cases[name])
    assert result.status == "pass", f"{result.error} {result.message}"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(cases: dict[str, Any], name: str) -> None:
    result = run_case("node", cases[name])
    assert (result.status, result.error) == ("refused", "UnsupportedOpError"), result.message


@pytest.mark.slow
def test_whole_suite() -> None:
    results = run_suite(["node", "simple", "pytorch-converted", "pytorch-operator", "real"], jobs=2, limit=300)
    bad = [f"{r.status}: {r.name}: {r.error} {r.message}" for r in results if r.status in ("wrong", "crashed")]
    assert not bad, "\n".join(bad)
    assert sum(r.status == "pass" for r in results) >= FLOOR


def test_late_and_dead_workers_are_named() -> None:
    """A case that gets no time, which ends its process, is reported, and the rest goes on in another."""
    results = run_suite(["simple"], "single_relu|expand_shape_model1", limit=1e-9)
    assert [(r.name, r.status) for r in results] == [
        ("test_expand_shape_model1", "crashed"),
        ("test_single_relu_model", "crashed"),
    ]
    assert all("no answer" in r.error for r in results)
    assert [r.status for r in run_suite(["simple"], "single_relu|expand_shape_model1")] == ["pass", "pass"]


def test_compare_sees_every_difference() -> None:
    x = np.array([1.0, np.nan, np.inf], np.float32)
    compare([x], [x.copy()], 1e-3, 1e-4)
    for other in (x.astype(np.float64), x.reshape(1, 3), np.array([1.1, np.nan, np.inf], np.float32), -x):
        with pytest.raises(Mismatch):
            compare([x], [other], 1e-3, 1e-4)
    with pytest.raises(Mismatch):
        compare([x], [x, x], 1e-3, 1e-4)


# -- the interface ----------------------------------------------------------------------------------------------------


def reshape_model(size: int | str) -> onnx.ModelProto:
    """A model whose second input decides the shape of its output."""
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 4]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    opset = helper.make_opsetid("", 17)
    return helper.make_model(helper.make_graph(nodes, "g", infos, [y]), opset_imports=[opset], ir_version=8)


@pytest.mark.parametrize("size", [3, "n"])
def test_prepared_model_follows_shapes_and_values(size: int | str) -> None:
    prepared = backend.prepare(reshape_model(size))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for shape in ([6, 2], [2, 6], [6, 2]):
        (y,) = prepared.run([x, np.array(shape)])
        np.testing.assert_array_equal(y, x.reshape(shape))
    assert prepared.specialized == ("shape",)
    np.testing.assert_array_equal(prepared.run({"x": x, "shape": np.array([12, 1])}).y, x.reshape(12, 1))


def test_run_node() -> None:
    x, y = np.float32([[1, -2]]), np.float32([3, 4])
    np.testing.assert_array_equal(backend.run_node(helper.make_node("Add", ["x", "y"], ["z"]), [x, y])[0], x + y)
    outputs = backend.run_node(helper.make_node("Relu", ["x"], ["r"]), [x])
    np.testing.assert_array_equal(outputs.r, [[1, 0]])


def test_devices() -> None:
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    assert not backend.supports_device("TOASTER")


def test_refusal_is_a_skip_and_an_error_of_convc() -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    with pytest.raises(backend.Refused, match="NonZero") as caught:
        backend.run_node(node, [np.ones((2, 2), np.float32)])
    assert isinstance(caught.value, unittest.SkipTest)
    assert isinstance(caught.value, UnsupportedOpError)
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    out = helper.make_tensor_value_info("y", TensorProto.INT64, [1, None])
    model = helper.make_model(helper.make_graph([node], "g", [info], [out]), ir_version=8)
    assert not backend.is_compatible(model)
    assert backend.is_compatible(reshape_model(3))


def test_onnx_own_runner() -> None:
    """The runner that onnx ships takes convc as it takes any backend."""
    from onnx.backend.test import BackendTest

    suite = BackendTest(backend, __name__).include(r"test_(relu|nonzero_example|concat_2d_axis_1)_cpu").test_suite
    result = unittest.TestResult()
    suite.run(result)
    assert result.wasSuccessful()
    assert result.testsRun - len(result.skipped) == 3
