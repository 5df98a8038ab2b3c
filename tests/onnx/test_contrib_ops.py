"""ONNX Runtime's own operators, each node compared with ONNX Runtime, and their signatures with its schemas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort
from support import compare
from support.malformed import raises
from support.models import one_node
from support.oracles import run_onnxruntime

import convc
import convc.ir.contrib  # registers the operators
from convc import UnsupportedOpError
from convc.ir.onnx_io import SIGNATURES

rng = np.random.default_rng(0)


def floats(*shape: int, low: float = -2, high: float = 2) -> np.ndarray:
    return rng.uniform(low, high, shape).astype(np.float32)


def whole(dtype: Any, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def check(op: str, *inputs: Any, outputs: int = 1, free: int = 1, **attrs: Any) -> None:
    """Compare a node with ONNX Runtime, which runs it as it is. The first ``free`` inputs are not constant."""
    tolerance, domain = attrs.pop("tolerance", None), attrs.pop("domain", "com.microsoft")
    made, feeds = one_node(op, inputs, free=free, outputs=outputs, opset=17, domain=domain, **attrs)
    compare.check(made, feeds, lambda m, f: run_onnxruntime(m, f, optimized=False), f"{op} {attrs}", tolerance)


def near(op: str, *inputs: Any, free: int = 1, **attrs: Any) -> None:
    """Compare a node whose result is quantized: it may differ by one in a few places."""
    made, feeds = one_node(op, inputs, free=free, opset=17, domain="com.microsoft", **attrs)
    got = convc.compile(made, threads=1)(*feeds.values()).astype(int)
    want = run_onnxruntime(made, feeds, optimized=False)[0].astype(int)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1
    assert (got != want).mean() <= 0.06


def compiled(op: str, *inputs: Any, outputs: int = 1, free: int = 1, **attrs: Any) -> list[np.ndarray]:
    """The outputs of a node that ONNX Runtime has no kernel for on CPUs."""
    made, feeds = one_node(op, inputs, free=free, outputs=outputs, opset=17, domain="com.microsoft", **attrs)
    return list(convc.compile(made, threads=1).run(feeds).values())


def test_signatures_are_those_of_onnx_runtime() -> None:
    """Inputs, outputs and attributes, which have been added to since, are those of the installed release."""
    theirs = {(s.domain, s.name): s for s in ort.get_all_operator_schema()}
    ends = {"Optional": "?", "Variadic": "*"}
    for operator, ours in SIGNATURES.items():
        domain, _, name = operator.rpartition("::")
        schema = theirs[domain, name]
        for formal, names in ((schema.inputs, ours.inputs), (schema.outputs, ours.outputs)):
            assert [i.name + ends.get(str(i.option).rpartition(".")[2], "") for i in formal] == list(names), operator
        attributes = {
            a: str(v.type).rpartition(".")[2].lower() + "!" * v.required for a, v in schema.attributes.items()
        }
        more = set(ours.attributes) - set(attributes)
        assert more <= {"block_size", "dilations"}, (operator, more)
        assert {a: ours.attributes.get(a) for a in attributes} == attributes, operator


# -- activations ------------------------------------------------------------------------------------------------------


def test_gelu_and_its_kin() -> None:
    x, b = floats(2, 3, 8), floats(8)
    check("Gelu", x)
    check("QuickGelu", x)
    check("QuickGelu", x, alpha=1.0)
    check("FastGelu", x)
    check("FastGelu", x, b)
    check("BiasGelu", x, b)
    check("BiasGelu", x, b, free=2)


def test_sums_with_a_bias() -> None:
    x, b, skip = floats(2, 3, 8), floats(8), floats(2, 3, 8)
    np.testing.assert_allclose(compiled("BiasAdd", x, b, skip, free=3)[0], x + b + skip, rtol=1e-6)
    np.testing.assert_allclose(compiled("BiasDropout", x, b, skip)[0], x + b + skip, rtol=1e-6)
    gated = compiled("BiasSplitGelu", x, b)[0]
    half = run_onnxruntime(*one_node("Gelu", [(x + b)[..., 4:]], domain="com.microsoft"))[0]
    np.testing.assert_allclose(gated, (x + b)[..., :4] * half, rtol=1e-4, atol=1e-6)
    fast = run_onnxruntime(*one_node("FastGelu", [x @ floats(8, 5)], domain="com.microsoft"))[0]
    assert fast.shape == compiled("GemmFastGelu", x, floats(8, 5), floats(5))[0].shape


@pytest.mark.parametrize(("bias", "inner"), [((1, 1, 4, 5), 1), ((4, 5), 1), ((2, 1, 4, 5), 0)])
def test_bias_softmax(bias: tuple[int, ...], inner: int) -> None:
    x, b = floats(2, 3, 4, 5), floats(*bias)
    e = np.exp(x + b)
    made = compiled("BiasSoftmax", x, b, axis=3, is_inner_broadcast=inner)[0]
    np.testing.assert_allclose(made, e / e.sum(-1, keepdims=True), rtol=1e-5)


# -- products ---------------------------------------------------------------------------------------------------------

FUSED = {"Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": (0.1,), "Clip": (-0.5, 0.7), "HardSigmoid": (0.3, 0.4)}


@pytest.mark.parametrize("activation", FUSED)
def test_fused_conv(activation: str) -> None:
    x, w, b = floats(1, 4, 7, 6), floats(6, 2, 3, 3), floats(6)
    attrs: dict[str, Any] = {"activation": activation, "kernel_shape": [3, 3], "group": 2, "strides": [2, 1]}
    if FUSED[activation]:
        attrs["activation_params"] = FUSED[activation]
    check("FusedConv", x, w, b, **attrs)
    check("FusedConv", x, w, None, floats(1, 6, 3, 4), **attrs)
    check("FusedConv", x, w, b, floats(1, 6, 4, 6), free=4, **attrs | {"pads": [1, 1, 1, 1]})


def test_fused_conv_without_an_activation() -> None:
    check("FusedConv", floats(1, 3, 6, 5), floats(4, 3, 1, 1))
    check("FusedConv", floats(1, 3, 6, 5), floats(4, 3, 2, 2), auto_pad="SAME_UPPER", strides=[2, 1])


def test_fused_gemm() -> None:
    a, b, c = floats(3, 5), floats(5, 7), floats(7)
    for activation, attrs in {
        "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Softsign": {}, "Softplus": {},
        "LeakyRelu": {"activation_alpha": 0.2}, "Elu": {"activation_alpha": 0.7},
        "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
        "Selu": {"activation_alpha": 1.2, "activation_gamma": 1.1}, "ThresholdedRelu": {"activation_alpha": 0.5},
    }.items():  # fmt: skip
        check("FusedGemm", a, b, c, activation=activation, **attrs)
    check("FusedGemm", a.T.copy(), b.T.copy(), transA=1, transB=1, alpha=0.5, activation="Relu")
    check("FusedGemm", a, b, floats(3, 1), beta=0.25, activation="Relu")


@pytest.mark.parametrize("batch_a", [0, 1])
@pytest.mark.parametrize("batch_b", [0, 1])
@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_fused_mat_mul(a: int, b: int, batch_a: int, batch_b: int) -> None:
    """Rows of 4 columns, batches of 3 and 2, sums of 5."""
    left = floats(3, 2, 5, 4) if a else floats(3, 2, 4, 5)
    right = floats(3, 2, 6, 5) if b else floats(3, 2, 5, 6)
    left, right = (np.moveaxis(x, 2, 0).copy() if t else x for x, t in ((left, batch_a), (right, batch_b)))
    check("FusedMatMul", left, right, free=2, transA=a, transB=b, transBatchA=batch_a, transBatchB=batch_b, alpha=0.5)


def test_transposed_products() -> None:
    check("TransposeMatMul", floats(2, 5, 4), floats(2, 5, 3), transA=1, alpha=2.0)
    check("FusedMatMul", floats(5), floats(5, 4), transA=1)
    a, b = floats(3, 5), floats(5, 4)
    got = compiled("FusedMatMulActivation", a, b, activation="LeakyRelu", activation_alpha=0.1, alpha=0.5)[0]
    np.testing.assert_allclose(got, np.where(a @ b > 0, 0.5, 0.05) * (a @ b), rtol=1e-4, atol=1e-6)


# -- channels last ----------------------------------------------------------------------------------------------------


def test_channels_last() -> None:
    x, w, b = floats(2, 7, 6, 4), floats(6, 2, 3, 3), floats(6)
    want = run_onnxruntime(*one_node("Conv", [np.moveaxis(x, 3, 1), w, b], group=2, strides=[2, 1]))[0]
    want = np.moveaxis(want, 1, 3)
    got = compiled("NhwcConv", x, np.moveaxis(w, 1, 3).copy(), b, group=2, strides=[2, 1])[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    got = compiled("NhwcFusedConv", x, w, b, want, free=4, group=2, strides=[2, 1], activation="Relu")[0]
    np.testing.assert_allclose(got, np.maximum(2 * want, 0), rtol=1e-4, atol=1e-5)
    check("NhwcMaxPool", whole(np.uint8, 1, 7, 6, 3), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    check("NhwcMaxPool", whole(np.int8, 1, 7, 6, 3), kernel_shape=[2, 2], dilations=[2, 1])


# -- norms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_skip_layer_normalization(beta: bool, bias: bool) -> None:
    params = [floats(8), floats(8) if beta else None, floats(8) if bias else None]
    while params[-1] is None:
        params.pop()
    for skip in (floats(2, 3, 8), floats(1, 3, 8), floats(3, 8)):
        check("SkipLayerNormalization", floats(2, 3, 8), skip, *params, free=2, epsilon=0.01)
    made, feeds = one_node("SkipLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), *params], free=2, outputs=4,
                           domain="com.microsoft")  # fmt: skip
    made.graph.node[0].output[1:3] = ["", ""]
    del made.graph.output[1:3]
    compare.check(made, feeds)


def test_skip_rms_normalization() -> None:
    x, skip = floats(2, 3, 8), floats(2, 3, 8)
    check("SkipSimplifiedLayerNormalization", x, skip, floats(8), free=2, epsilon=0.01)
    check("SkipSimplifiedLayerNormalization", x, skip, floats(8), floats(8), free=2)


def test_rms_normalization_in_onnx_own_domain() -> None:
    check("SimplifiedLayerNormalization", floats(2, 3, 8), floats(8), domain="")
    check("SimplifiedLayerNormalization", floats(2, 3, 8), floats(3, 8), domain="", axis=1, epsilon=0.1, stash_type=1)


def test_layer_normalization_before_opset_17() -> None:
    made, feeds = one_node("LayerNormalization", [floats(2, 3, 8), floats(8), floats(8)], free=1, epsilon=0.01)
    made.opset_import[0].version = 13
    compare.check(made, feeds)


@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_group_normalization(last: int, activation: int) -> None:
    x, gamma, beta = floats(2, 6, 4, 5), floats(6), floats(6)
    groups = x.reshape(2, 3, -1)
    normal = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + 1e-5)
    want = normal.reshape(x.shape) * gamma[:, None, None] + beta[:, None, None]
    want = want / (1 + np.exp(-want)) if activation else want
    given, want = (np.moveaxis(v, 1, 3).copy() if last else v for v in (x, want))
    attrs = {"groups": 3, "activation": activation, "channels_last": last}
    np.testing.assert_allclose(compiled("GroupNorm", given, gamma, beta, **attrs)[0], want, rtol=1e-4, atol=1e-5)
    if last:
        skip, bias = floats(2, 4, 5, 6), floats(6)
        y, s = compiled("SkipGroupNorm", given - skip - bias, gamma, beta, skip, bias, outputs=2, **attrs)
        np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(s, given, rtol=1e-4, atol=1e-5)


def test_embed_layer_normalization() -> None:
    ids, kinds = (rng.integers(0, most, (2, 5)).astype(np.int32) for most in (11, 2))
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    words, places, segments, params = floats(11, 8), floats(9, 8), floats(2, 8), [floats(8), floats(8)]
    check("EmbedLayerNormalization", ids, kinds, words, places, segments, *params, mask, free=2, outputs=2)
    check("EmbedLayerNormalization", ids, None, words, places, None, *params, outputs=2)
    spots = rng.integers(0, 9, (2, 5)).astype(np.int32)
    check("EmbedLayerNormalization", ids, kinds, words, places, segments, *params, mask, spots, free=2, outputs=3,
          epsilon=0.1)  # fmt: skip


# -- quantized --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_quantize_and_dequantize(dtype: Any) -> None:
    x, scale = floats(2, 3, 4), np.float32(0.013)
    for zero in ([dtype(3)], [np.array([3], dtype)] if dtype is np.int8 else [dtype(0)]):
        check("QuantizeLinear", x, scale.reshape(zero[0].shape), *zero)
        check("DequantizeLinear", whole(dtype, 2, 3, 4), scale.reshape(zero[0].shape), *zero)
    check("QuantizeLinear", x, floats(3, low=0.001, high=0.01), np.array([1, 0, 9], dtype), axis=1)
    check("DequantizeLinear", whole(dtype, 2, 3, 4), floats(4), np.array([1, 0, 9, 5], dtype), axis=-1)


def test_dequantize_without_a_zero_point() -> None:
    check("QuantizeLinear", floats(2, 3), np.float32(0.02))
    check("DequantizeLinear", whole(np.uint8, 2, 3), np.float32(0.02))
    check("DequantizeLinear", rng.integers(-999, 999, (2, 3)).astype(np.int32), np.float32(0.02))


U8, SCALE, ZERO, Y_SCALE, Y_ZERO = np.uint8, np.float32(0.02), np.uint8(117), np.float32(0.03), np.uint8(100)


def test_quantized_pools() -> None:
    x = whole(U8, 2, 7, 6, 3)
    each = x, SCALE, ZERO, Y_SCALE, Y_ZERO
    for last in (0, 1):
        near("QLinearAveragePool", *each, kernel_shape=[3, 2], strides=[2, 1], channels_last=last)
        near("QLinearAveragePool", *each, kernel_shape=[2, 2], pads=[1, 0, 1, 0], count_include_pad=1,
             channels_last=last)  # fmt: skip
        near("QLinearGlobalAveragePool", *each, channels_last=last)


def test_quantized_conv_with_channels_last() -> None:
    w, b = whole(np.int8, 6, 2, 3, 3), rng.integers(-999, 999, 6).astype(np.int32)
    w_scale, w_zero = floats(6, low=0.001, high=0.01), np.zeros(6, np.int8)
    for last, x in ((1, whole(U8, 1, 7, 6, 4)), (0, whole(U8, 1, 4, 7, 6))):
        near("QLinearConv", x, SCALE, ZERO, w, w_scale, w_zero, Y_SCALE, Y_ZERO, b, channels_last=last, group=2)


def test_other_quantized_operators() -> None:
    x, y = whole(U8, 2, 3, 4), whole(U8, 2, 3, 4)
    near("QLinearWhere", rng.integers(0, 2, (2, 3, 4)).astype(bool), x, SCALE, ZERO, y, np.float32(0.04), np.uint8(9),
         Y_SCALE, Y_ZERO, free=2)  # fmt: skip
    near("QLinearSigmoid", x, SCALE, ZERO, np.float32(1 / 256), np.uint8(0))
    near("QLinearLeakyRelu", x, SCALE, ZERO, Y_SCALE, Y_ZERO, alpha=0.3)
    near("QLinearAdd", x, SCALE, ZERO, y[0], np.float32(0.04), np.uint8(9), Y_SCALE, Y_ZERO)
    near("QLinearMul", x, SCALE, ZERO, y[0], np.float32(0.04), np.uint8(9), Y_SCALE, Y_ZERO)
    got = compiled("QLinearReduceMean", x, SCALE, ZERO, Y_SCALE, Y_ZERO, axes=[1], keepdims=0)[0]
    want = np.clip(np.rint(((x.astype(int) - 117) * 0.02).mean(1) / 0.03) + 100, 0, 255)
    assert np.abs(got - want).max() <= 1


def test_dynamically_quantized_products() -> None:
    a, b = floats(2, 3, 5), whole(np.int8, 5, 4)
    columns, zeros = floats(4, low=0.01, high=0.02), np.array([1, 0, -4, 90], np.int8)
    check("DynamicQuantizeMatMul", a, b, np.float32(0.02))
    check("DynamicQuantizeMatMul", a, b, np.array([0.02], np.float32), np.array([3], np.int8), floats(4))
    check("DynamicQuantizeMatMul", a, b, columns, zeros, floats(4))
    check("DynamicQuantizeMatMul", np.zeros((2, 5), np.float32), b, columns, zeros)
    bytes_ = whole(U8, 2, 3, 5)
    check("MatMulIntegerToFloat", bytes_, b, SCALE, columns, ZERO, zeros, floats(4))
    check("MatMulIntegerToFloat", bytes_, whole(U8, 5, 4), SCALE, np.float32(0.1))
    made = compiled("MatMulInteger16", whole(np.int16, 3, 5) // 9, b.astype(np.int16))[0]
    assert made.dtype == np.int32


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mat_mul_n_bits(bits: int) -> None:
    columns, inner, block = 6, 40, 16
    blocks = 3
    w = whole(U8, columns, blocks, block * bits // 8)
    scales, a = floats(columns * blocks, low=0.01, high=0.1), floats(2, 3, inner)
    attrs = {"K": inner, "N": columns, "bits": bits, "block_size": block}
    check("MatMulNBits", a, w, scales, **attrs)
    check("MatMulNBits", a, w, scales, whole(U8, columns * -(-blocks * bits // 8)), **attrs)
    check("MatMulNBits", a, w, scales, None, None, floats(columns), **attrs)
    if bits == 4:
        check("MatMulNBits", a, w, scales, floats(columns * blocks, low=0, high=9), **attrs)
        order = (np.arange(48) % 3).astype(np.int32)
        check("MatMulNBits", a, w, scales, None, order, **attrs)


@pytest.mark.parametrize("kind", [0, 1], ids=["fp4", "nf4"])
def test_mat_mul_of_four_bit_floats(kind: int) -> None:
    """Every code occurs, and rows do not begin with a block."""
    columns, inner, block = 6, 40, 16
    w, factors = whole(U8, columns * inner // 2), floats(columns * inner // block, low=0.1, high=2)
    attrs = {"K": inner, "N": columns, "block_size": block, "quant_type": kind}
    check("MatMulBnb4", floats(2, 3, inner), w, factors, **attrs)
    a = floats(3, columns)
    (eye,) = compiled("MatMulBnb4", np.eye(inner, dtype=np.float32), w, factors, **attrs)
    (back,) = compiled("MatMulBnb4", a, w, factors, transB=0, **attrs)
    np.testing.assert_allclose(back, a @ eye.T, rtol=1e-4, atol=1e-5)
    half = compiled("MatMulBnb4", a.astype(np.float16), w, factors.astype(np.float16), transB=0, **attrs)[0]
    np.testing.assert_allclose(half, back, rtol=4e-3, atol=2e-2)
    with raises(convc.ModelFileError, "MatMulBnb4 node 'n1': it has 14 factors, not 15"):
        compiled("MatMulBnb4", floats(2, inner), w, factors[:-1], **attrs)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_dynamically_quantized_lstm(direction: str) -> None:
    """ONNX Runtime rounds the hidden state to 8 bits in each step, which moves the results by about 0.01."""
    ways = 2 if direction == "bidirectional" else 1
    x, hidden = floats(5, 2, 12), 8
    w, r = whole(np.int8, ways, 12, 4 * hidden), whole(np.int8, ways, hidden, 4 * hidden)
    each = floats(ways, low=0.002, high=0.004), np.zeros(ways, np.int8)
    check("DynamicQuantizeLSTM", x, w, r, floats(ways, 8 * hidden), None, None, None, None, *each, *each, outputs=3,
          direction=direction, hidden_size=hidden, tolerance=(0, 0.03))  # fmt: skip


# -- operators that ONNX has too --------------------------------------------------------------------------------------


def test_operators_that_onnx_has_too() -> None:
    x = floats(2, 4, 4)
    check("Trilu", x, np.array(1))
    check("Trilu", x, upper=0)
    check("GatherND", floats(3, 4), np.array([[0, 1], [2, 3]]))
    check("Pad", x, np.array([0, 1, 0, 0, 0, 2]), np.float32(3))
    check("Pad", x, np.array([0, 1, 0, 0, 0, 2]), mode="reflect")
    check("Unique", np.array([3, 1, 3, 2, 1, 7], np.float32), outputs=3)
    check("ExpandDims", x, np.array(1, np.int32))
    check("CDist", floats(3, 4), floats(5, 4), metric="euclidean", tolerance=(1e-3, 1e-3))
    check("CDist", floats(3, 4), floats(5, 4), metric="sqeuclidean")
    grid = floats(2, 3, 5, 2, low=-1.2, high=1.2)
    for mode in ("bilinear", "nearest", "bicubic"):
        check("GridSample", floats(2, 3, 6, 7), grid, mode=mode, padding_mode="border", align_corners=1)
    check("GridSample", floats(2, 3, 6, 7), grid)


def test_defaults_that_are_written_out() -> None:
    """ONNX Runtime writes ONNX's default of an RNN's activations, which is that of two directions, for one too."""
    x, w, r = floats(3, 2, 4), floats(1, 5, 4), floats(1, 5, 5)
    check("RNN", x, w, r, domain="", outputs=2, hidden_size=5, activations=["Tanh", "Tanh"])


# -- errors -----------------------------------------------------------------------------------------------------------


def model(op: str, *inputs: Any, outputs: int = 1, free: int = 1, **attrs: Any) -> Any:
    return one_node(op, inputs, free=free, outputs=outputs, opset=17, **{"domain": "com.microsoft"} | attrs)[0]


def test_errors() -> None:
    x, w = floats(1, 3, 5, 5), floats(4, 3, 1, 1)
    for want, made in {
        "FusedConv node 'n1': FusedConv (opset 1) has no attribute 'sharpness'; it has: ": model(
            "FusedConv", x, w, sharpness=1
        ),
        "attribute 'group' is FLOAT; FusedConv wants INT": model("FusedConv", x, w, group=1.0),
        "attribute 'K' is missing": model("MatMulNBits", x, w, floats(3), N=4, bits=4, block_size=16),
        "input 1 ('B') is missing": model("BiasGelu", x),
        "it has 3 inputs; Gelu has at most 1": model("Gelu", x, x, x),
        "activation LeakyRelu takes 1 activation_params, not 0": model("FusedConv", x, w, activation="LeakyRelu"),
        "its bias has shape [3], not [5]": model("BiasGelu", x, floats(3)),
        "the tensor to add has shape [4], not the result's [1, 4, 5, 5]": model("FusedConv", x, w, None, floats(4)),
        "its weight holds 12 float32, not 32 bytes for N=4, K=16": model(
            "MatMulNBits", floats(2, 16), w, floats(4), N=4, K=16, bits=4, block_size=16
        ),
    }.items():
        with raises(convc.ModelFileError, want):
            convc.load_onnx(made)
    with raises(UnsupportedOpError, "FusedConv node 'n1': activation 'Swoosh' is not supported; Clip, Elu, "):
        convc.load_onnx(model("FusedConv", x, w, activation="Swoosh"))
