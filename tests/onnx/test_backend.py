"""The backend interface, and onnx's own backend test suite: a part of it on every run, and all of it in slow tests."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import models

import convc.onnx_backend as backend
from convc.ir.errors import UnsupportedOpError
from convc.onnx_suite import KINDS, Mismatch, compare, load_cases, run_case, run_suite

PASSING = [
    "abs", "add_uint8", "affine_grid_2d_align_corners", "affine_grid_3d_expanded",
    "argmax_default_axis_random_select_last_index", "attention_4d_causal_expanded",
    "attention_4d_softcap_neginf_mask", "averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False",
    "batchnorm_example", "bernoulli", "bitshift_left_int64", "bitwise_not_3d", "cast_FLOAT_to_FLOAT16",
    "castlike_FLOAT_to_DOUBLE", "causal_conv_with_state_with_past_state", "celu_bfloat16", "celu_expanded",
    "celu_float16", "center_crop_pad_crop_and_pad", "center_crop_pad_pad_expanded", "clip_default_int8_min",
    "clip_default_min_expanded", "compress_default_axis", "concat_3d_axis_1", "constant_pad_axes",
    "constantofshape_int_shape_zero",
    "conv_with_autopad_same", "conv_with_strides_padding", "convtranspose_output_shape", "cumsum_1d_exclusive",
    "deform_conv_with_multiple_offset_groups", "depthtospace_example", "dequantizelinear_uint16", "div_uint8",
    "dynamicquantizelinear", "einsum_inner_prod", "elu", "equal_uint8", "erf", "exp_example",
    "expand_dim_unchanged", "flatten_axis1", "flexattention_relative_positional", "gather_0",
    "gather_elements_negative_indices", "gathernd_example_int32_batch_dim1", "gelu_default_1_expanded",
    "gelu_tanh_2", "gemm_default_matrix_bias", "globalaveragepool_precomputed", "globalmaxpool_precomputed",
    "greater_equal_int8", "greater_int16", "gridsample_bicubic", "group_normalization_example", "hardmax_axis_1",
    "hannwindow", "hardsigmoid_default", "hardswish", "identity", "instancenorm_example", "isinf_negative", "isnan",
    "layer_normalization_2d_axis0_expanded_ver18", "layer_normalization_4d_axis_negative_1", "leakyrelu_default",
    "logsoftmax_axis_2", "lpnormalization_default", "lppool_2d_same_upper", "lrn", "matmul_1d_1d", "max_uint32",
    "maxpool_2d_pads", "mish", "mod_int64_fmod", "mul_uint8", "mvn", "nllloss_NCd1d2_with_weight_reduction_mean",
    "nonmaxsuppression_two_batches", "nonzero_example", "not_4d", "onehot_with_negative_axis",
    "pow_types_int64_float32", "prelu_broadcast", "quantizelinear_uint16", "range_float_type_positive_delta",
    "reduce_l2_negative_axes_keep_dims_random", "reduce_log_sum_exp_default_axes_keepdims_random_expanded",
    "reduce_log_sum_exp_negative_axes_keepdims_random", "reduce_max_empty_set_bool",
    "reduce_max_negative_axes_keepdims_random", "reduce_mean_do_not_keepdims_random",
    "reduce_prod_do_not_keepdims_example", "reduce_sum_empty_axes_input_noop", "reduce_sum_empty_set", "relu",
    "reshape_reduced_dims", "resize_downsample_sizes_linear_pytorch_half_pixel",
    "rms_normalization_3d_axis_negative_1_epsilon", "rms_normalization_4d_axis0_expanded",
    "rotary_embedding_expanded", "rotary_embedding_no_position_ids_interleaved", "round",
    "scatter_elements_with_reduction_min", "scatternd", "sce_mean_no_weight_ii_3d_log_prob", "sce_mean_weight",
    "selu", "shape_start_1_end_2", "shrink_hard", "sigmoid_example", "size", "slice_end_out_of_bounds",
    "softmax_axis_0_expanded", "softmax_axis_1", "softplus_example", "split_equal_parts_1d_opset18", "sqrt_example",
    "squeeze", "tanh_example", "thresholdedrelu", "tile_precomputed", "top_k_same_values_2d",
    "training_dropout", "training_dropout_zero_ratio", "transpose_default", "triu_neg", "triu_zero",
    "unique_sorted_with_axis_3d", "unsqueeze_negative_axes", "upsample_nearest", "where_example",
]  # fmt: skip
"""Cases of onnx 1.23, one or two for each op, all of which pass."""

REFUSED = [
    "image_decoder_decode_png_rgb", "sequence_insert_at_back", "strnormalizer_nostopwords_nochangecase",
    "loop13_seq",
]  # fmt: skip
"""Cases that are refused by name: data-dependent sizes, sequences and strings."""

FLOOR = 1961
"""The number of cases of the whole suite of onnx 1.23 that pass."""

PART = (
    "^test_(?!str)(basic_conv|conv|deform|.*pool|.*norm|lrn|mvn|resize|upsample|.*pad|center_crop|.*quantize|qlinear|matmulinteger"
    "|depthtospace|spacetodepth|col2im|roialign|gridsample|affine_grid|softmax|lstm|gru|rnn|simple_rnn|cast_|dft|stft"
    "|[A-Z]|operator)"
)
"""Matches a third of the suite.

These are the cases about convolution, pooling, normalisation, resizing, padding, quantization, space and depth,
recurrent layers and conversion, and all that were converted from PyTorch.
"""
PART_FLOOR = 583
"""The number of these cases in onnx 1.23."""


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return {name: case for (_, name), case in load_cases(["node"]).items()}


def find(cases: dict[str, Any], name: str) -> Any:
    if f"test_{name}" not in cases:
        pytest.skip(f"onnx {onnx.__version__} has no such case")
    return cases[f"test_{name}"]


@pytest.mark.parametrize("name", PASSING)
def test_passes(cases: dict[str, Any], name: str) -> None:
    result = run_case("node", find(cases, name))
    assert result.status == "pass", f"{result.error} {result.message}"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(cases: dict[str, Any], name: str) -> None:
    result = run_case("node", find(cases, name))
    assert (result.status, result.error) == ("refused", "UnsupportedOpError"), result.message


def test_part_of_the_suite() -> None:
    """The cases about convolutional networks all pass: none is wrong, and none is refused."""
    results = run_suite(["node", "pytorch-converted", "pytorch-operator"], PART, limit=300)
    bad = [f"{r.status}: {r.name}: {r.error} {r.message}" for r in results if r.status != "pass"]
    assert not bad, "\n".join(bad)
    assert len(results) >= PART_FLOOR


@pytest.mark.slow
def test_whole_suite() -> None:
    results = run_suite(KINDS, jobs=2, limit=300)
    bad = [r for r in results if r.status in ("wrong", "crashed")]
    assert not bad, "\n".join(f"{r.status}: {r.name}: {r.error} {r.message}" for r in bad)
    assert {r.error for r in results if r.status == "refused"} == {"UnsupportedOpError"}
    assert sum(r.status == "pass" for r in results) >= FLOOR


def test_late_and_dead_workers_are_named() -> None:
    """A case that ends its process or takes too long is reported, and the other cases run in a new process."""
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


def test_compare_of_random_numbers() -> None:
    """Where one side drew 0, the values may differ; what both kept must agree, and there must be some of it."""
    compare([np.float32([0, 2, 0, 4])], [np.float32([1, 2, 0, 0])], 1e-3, 1e-4, drawn=True)
    for other in ([0, 3, 0, 4], [0, 0, 0, 0]):
        with pytest.raises(Mismatch):
            compare([np.float32(other)], [np.float32([1, 2, 0, 0])], 1e-3, 1e-4, drawn=True)


# -- the interface ----------------------------------------------------------------------------------------------------


def reshape_model(size: int | str) -> onnx.ModelProto:
    """A model whose second input determines the shape of its output."""
    inputs = {"x": [size, 4], "shape": (np.int64, [2])}
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return models.model(nodes, inputs, {"y": [None, None]}, opset=17, ir_version=8)


@pytest.mark.parametrize("size", [3, "n"])
def test_prepared_model_follows_shapes_and_values(size: int | str) -> None:
    prepared = backend.prepare(reshape_model(size))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for shape in ([6, 2], [2, 6], [6, 2]):
        (y,) = prepared.run([x, np.array(shape)])
        np.testing.assert_array_equal(y, x.reshape(shape))
    assert prepared.specialized == ()  # the code reads the shape
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
    node = helper.make_node("ImageDecoder", ["x"], ["y"])
    with pytest.raises(backend.Refused, match="ImageDecoder") as caught:
        backend.run_node(node, [np.ones(2, np.uint8)])
    assert isinstance(caught.value, unittest.SkipTest)
    assert isinstance(caught.value, UnsupportedOpError)
    info = helper.make_tensor_value_info("x", TensorProto.UINT8, [2])
    out = helper.make_tensor_value_info("y", TensorProto.UINT8, [None, None, 3])
    model = helper.make_model(helper.make_graph([node], "g", [info], [out]), ir_version=8)
    assert not backend.is_compatible(model)
    assert backend.is_compatible(reshape_model(3))


def test_onnx_own_runner() -> None:
    """The test runner of the onnx package accepts convc as a backend."""
    from onnx.backend.test import BackendTest

    suite = (
        BackendTest(backend, __name__)
        .include(r"test_(relu|unique_sorted_without_axis|concat_2d_axis_1)_cpu")
        .test_suite
    )
    result = unittest.TestResult()
    suite.run(result)
    assert result.wasSuccessful()
    assert result.testsRun - len(result.skipped) == 3
