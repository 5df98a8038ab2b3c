"""The forms that nodes have among ONNX Runtime's own operators (domain ``com.microsoft``).

A rewrite replaces one node by nodes that compute the same, and may take in the nodes that make its operands: these stay
and die where nothing else reads them. Operators that round where the original does not, such as QLinearAdd and
MatMulNBits, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .contrib_site import MICROSOFT, Site, attributes, given

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")

# -- convolutions and products ----------------------------------------------------------------------------------

PARAMETERS: dict[str, dict[str, float]] = {
    "Elu": {"alpha": 1.0}, "HardSigmoid": {"alpha": 0.2, "beta": 0.5}, "HardSwish": {}, "LeakyRelu": {"alpha": 0.01},
    "Mish": {}, "Relu": {}, "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Sigmoid": {}, "Softplus": {}, "Softsign": {}, "Tanh": {}, "ThresholdedRelu": {"alpha": 1.0},
}  # fmt: skip
"""The parameters of activations, with ONNX's defaults, in the order in which FusedConv has them."""


def parameters(s: Site, n: onnx.NodeProto) -> dict[str, float] | None:
    """The parameters of an activation, where they are known."""
    if n.op_type != "Clip":
        return {**PARAMETERS[n.op_type], **attributes(n, *PARAMETERS[n.op_type])}
    bounds = {}
    for i, name in enumerate(("low", "high"), 1):
        value = s.constant(given(n, i))
        if value is None:
            return None
        bounds[name] = float(value)
    return bounds


def activation(s: Site, n: onnx.NodeProto) -> bool:
    """An activation of a convolution or of a product, in one node with it."""
    params = parameters(s, n)
    if params is None:
        return False
    made = s.maker(n.input[0], "Conv", "Gemm", "MatMul", "Add")
    if made is None:
        return False
    if made.op_type == "Gemm" and n.op_type not in ("Clip", "HardSwish", "Mish"):
        own = {f"activation_{name}": value for name, value in params.items()}
        attrs = attributes(made, "alpha", "beta", "transA", "transB")
        return s.put("FusedGemm", list(made.input), n, activation=n.op_type, **attrs, **own)
    if made.op_type == "MatMul" and n.op_type not in ("Clip", "HardSwish", "Mish"):
        own = {f"activation_{name}": value for name, value in params.items()}
        return s.put("FusedMatMulActivation", list(made.input), n, activation=n.op_type, **own)
    own = {"activation": n.op_type, **({"activation_params": list(params.values())} if params else {})}
    if made.op_type == "Add":
        return fused_sum(s, made, n, **own)
    return made.op_type == "Conv" and fused_conv(s, made, n, "", **own)


def fused_conv(s: Site, conv: onnx.NodeProto, n: onnx.NodeProto, added: str, **own: Any) -> bool:
    """A convolution that makes the result of ``n``, with the channels first or last."""
    x, w, shape = conv.input[0], conv.input[1], s.shape(conv.input[0])
    if shape is None:
        return False
    attrs = {**attributes(conv, *WINDOW), **own}
    if s.rng.random() < 0.6:
        return s.put("FusedConv", [x, w, given(conv, 2), added], n, **attrs)
    operands = [s.channels_last(x), w, given(conv, 2)] + ([s.channels_last(added)] if added else [])
    while not operands[-1]:
        operands.pop()
    return s.put_channels_last("NhwcFusedConv", operands, n, len(shape), **attrs)


def plain_conv(s: Site, n: onnx.NodeProto) -> bool:
    shape, w_shape = s.shape(n.input[0]), s.shape(n.input[1])
    if shape is None or w_shape is None or s.rng.random() < 0.5:
        return fused_conv(s, n, n, "")
    operands = [s.channels_last(n.input[0]), s.channels_last(n.input[1]), *n.input[2:]]
    return s.put_channels_last("NhwcConv", operands, n, len(shape), **attributes(n, *WINDOW))


def fused_sum(s: Site, n: onnx.NodeProto, result: onnx.NodeProto | None = None, **own: Any) -> bool:
    """The sum of a convolution and another value of its shape."""
    for one, other in ((0, 1), (1, 0)):
        conv = s.maker(n.input[one], "Conv")
        if conv is not None and s.shape(n.input[other]) == s.shape(n.input[one]) is not None:
            return fused_conv(s, conv, result or n, n.input[other], **own)
    return False


def max_pool(s: Site, n: onnx.NodeProto) -> bool:
    shape = s.shape(n.input[0])
    if shape is None or len(n.output) > 1:
        return False
    return s.put_channels_last("NhwcMaxPool", [s.channels_last(n.input[0])], n, len(shape), **attributes(n, *POOL))


def mat_mul(s: Site, n: onnx.NodeProto) -> bool:
    """A product whose operands are transposed before and in the node; a factor of a half is taken back after it."""
    shapes = [s.shape(name) for name in n.input]
    if any(x is None for x in shapes):
        return False
    operands, attrs = list(n.input), {}
    ranks = [len(x or ()) for x in shapes]
    if ranks == [3, 3] and s.rng.random() < 0.3:  # the rows before the batch
        for i, name in enumerate("AB"):
            operands[i] = s.add("Transpose", [n.input[i]], perm=[1, 0, 2])
            attrs[f"transBatch{name}"] = 1
    else:
        for i, name in enumerate("AB"):
            if ranks[i] >= 2 and s.rng.random() < 0.5:
                perm = [*range(ranks[i] - 2), ranks[i] - 1, ranks[i] - 2]
                operands[i] = s.add("Transpose", [n.input[i]], perm=perm)
                attrs[f"trans{name}"] = 1
    if ranks == [2, 2] and s.rng.random() < 0.5:
        return s.put("FusedGemm", operands, n, **attrs)
    op = "TransposeMatMul" if attrs.keys() <= {"transA", "transB"} and s.rng.random() < 0.2 else "FusedMatMul"
    if s.dtype(n.input[0]) not in FLOATS or s.rng.random() < 0.5:
        return s.put(op, operands, n, **attrs)
    half = s.add(op, operands, domain=MICROSOFT, alpha=0.5, **attrs)
    two = s.weight(np.array(2, helper.tensor_dtype_to_np_dtype(s.dtype(n.input[0]))))
    s.add("Mul", [half, two], n.output[0])
    return True


def gemm(s: Site, n: onnx.NodeProto) -> bool:
    return s.put("FusedGemm", list(n.input), n, **attributes(n, "alpha", "beta", "transA", "transB"))


# -- activations and norms --------------------------------------------------------------------------------------


def gelu(s: Site, n: onnx.NodeProto) -> bool:
    """A GELU of either kind, with the bias that is added before it."""
    x, fast = n.input[0], attributes(n, "approximate").get("approximate") == b"tanh"
    total = s.maker(x, "Add")
    if total is not None:
        for one, other in (total.input, reversed(total.input)):
            shape, bias = s.shape(one), s.shape(other)
            if shape and bias and len(bias) == 1 and shape[-1:] == bias and len(shape) > 1:
                return s.put("FastGelu" if fast else "BiasGelu", [one, other], n)
    return s.put("FastGelu" if fast else "Gelu", [x], n)


def quick_gelu(s: Site, n: onnx.NodeProto) -> bool:
    """``x * sigmoid(alpha * x)``."""
    for one, other in (n.input, reversed(n.input)):
        sigmoid = s.maker(other, "Sigmoid")
        if sigmoid is None:
            continue
        if sigmoid.input[0] == one:
            return s.put("QuickGelu", [one], n, alpha=1.0)
        scaled = s.maker(sigmoid.input[0], "Mul")
        if scaled is not None and scaled.input[0] == one:
            factor = s.constant(scaled.input[1])
            if factor is not None and factor.shape == ():
                return s.put("QuickGelu", [one], n, alpha=float(factor))
    return False


def layer_norm(s: Site, n: onnx.NodeProto) -> bool:
    """A normalization of a sum, or with a skip connection of zeros; of rows, where it is over several axes."""
    x, shape, dtype = n.input[0], s.shape(n.input[0]), s.dtype(n.input[0])
    if shape is None or len(shape) < 2:
        return False
    axis = attributes(n, "axis").get("axis", -1) % len(shape)
    params = [name for name in n.input[1:] if name]
    if any(s.shape(name) != shape[axis:] for name in params):
        return False
    attrs = {"epsilon": 1e-5, **attributes(n, "epsilon")}
    total = s.maker(x, "Add")
    if axis == len(shape) - 1:
        if total is not None and all(s.shape(v) == shape for v in total.input):
            operands = [*total.input]
        else:  # the skip connection may lack the batch
            operands = [x, s.zeros(shape[s.rng.choice((0, 0, len(shape) - 2)) :], dtype)]
        bias = s.zeros(shape[-1:], dtype) if s.rng.random() < 0.4 else ""
        return s.put("SkipLayerNormalization", [*operands, *params, *[""] * (2 - len(params)), bias], n, **attrs)
    if len(n.output) > 1:
        return False
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis:])
    if not outer * inner:
        return False
    rows = s.add("Reshape", [x, s.weight(np.array([outer, inner]))])
    vectors = [s.add("Reshape", [name, s.weight(np.array([inner]))]) for name in params]
    operands = [rows, s.zeros([outer, inner], dtype), *vectors]
    made = s.add("SkipLayerNormalization", operands, domain=MICROSOFT, **attrs)
    s.add("Reshape", [made, s.weight(np.array(shape))], n.output[0])
    return True


def rms_norm(s: Site, n: onnx.NodeProto) -> bool:
    """``x / sqrt(mean(x * x) + epsilon) * scale``, as it is exported in float32 and float64."""
    ratio = s.maker(n.input[0], "Div")
    root = ratio and s.maker(ratio.input[1], "Sqrt")
    moved = root and s.maker(root.input[0], "Add")
    mean = moved and s.maker(moved.input[0], "ReduceMean")
    square = mean and s.maker(mean.input[0], "Mul")
    if square is None or ratio is None or moved is None or mean is None:
        return False
    x, shape = ratio.input[0], s.shape(ratio.input[0])
    axes, epsilon = s.constant(given(mean, 1)), s.constant(moved.input[1])
    if list(square.input) != [x, x] or shape is None or axes is None or epsilon is None:
        return False
    axis = int(min(axes % len(shape)))
    if sorted(axes % len(shape)) != list(range(axis, len(shape))) or s.shape(n.input[1]) != shape[axis:]:
        return False
    if axis == len(shape) - 1 and len(shape) <= 3 and s.rng.random() < 0.6:
        operands = [x, s.zeros(shape, s.dtype(x)), n.input[1]]
        return s.put("SkipSimplifiedLayerNormalization", operands, n, epsilon=float(epsilon))
    s.add("SimplifiedLayerNormalization", [x, n.input[1]], n.output[0], axis=axis, epsilon=float(epsilon))
    return True


def group_norm(s: Site, n: onnx.NodeProto) -> bool:
    x, shape = n.input[0], s.shape(n.input[0])
    if shape is None or len(shape) < 3 or any(s.shape(name) != shape[1:2] for name in n.input[1:3]):
        return False
    attrs = {"groups": attributes(n, "num_groups")["num_groups"], "activation": 0, **attributes(n, "epsilon")}
    wide = [name if s.dtype(name) != TensorProto.FLOAT16 else s.add("Cast", [name], to=1) for name in n.input[1:3]]
    if s.rng.random() < 0.5:
        return s.put("GroupNorm", [x, *wide], n, channels_last=0, **attrs)
    if s.rng.random() < 0.5:
        return s.put_channels_last("GroupNorm", [s.channels_last(x), *wide], n, len(shape), **attrs)
    if len(shape) != 4:
        return False
    skip = s.zeros(s.rng.choice(([shape[0], *shape[2:], shape[1]], [shape[0], shape[1]])), s.dtype(x))
    return s.put_channels_last("SkipGroupNorm", [s.channels_last(x), *wide, skip], n, 4, **attrs)


def softmax(s: Site, n: onnx.NodeProto) -> bool:
    """A softmax over the last axis, of data with a bias."""
    x, shape = n.input[0], s.shape(n.input[0])
    axis = attributes(n, "axis").get("axis", -1)
    if shape is None or len(shape) < 2 or axis not in (-1, len(shape) - 1):
        return False
    bias = s.zeros([*(1,) * (len(shape) - 2), *shape[-2:]], s.dtype(x))
    total = s.maker(x, "Add")
    if total is not None and s.shape(total.input[0]) == shape and len(s.shape(total.input[1]) or ()) == len(shape):
        x, bias = total.input
    return s.put("BiasSoftmax", [x, bias], n, axis=len(shape) - 1, is_inner_broadcast=1)


def plain_sum(s: Site, n: onnx.NodeProto) -> bool:
    """A sum of two values of one shape, with a bias of zeros."""
    shape, dtype = s.shape(n.input[0]), s.dtype(n.input[0])
    if not shape or s.shape(n.input[1]) != shape or dtype not in FLOATS:
        return False
    bias = s.zeros(shape[-1:], dtype)
    if len(shape) == 3 and s.rng.random() < 0.5:
        return s.put("BiasAdd", [n.input[0], bias, n.input[1]], n)
    return s.put("BiasDropout", [n.input[0], bias, n.input[1]], n)


# -- quantized, and operators that ONNX has too -----------------------------------------------------------------


def quantize(s: Site, n: onnx.NodeProto) -> bool:
    narrow = (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16)
    if s.dtype(given(n, 2)) not in narrow or attributes(n, "block_size").get("block_size"):
        return False
    return s.put("QuantizeLinear", list(n.input), n, **attributes(n, "axis"))


def dequantize(s: Site, n: onnx.NodeProto) -> bool:
    if attributes(n, "block_size").get("block_size"):
        return False
    return s.put("DequantizeLinear", list(n.input), n, **attributes(n, "axis"))


def quantized_movement(s: Site, n: onnx.NodeProto) -> bool:
    """A Concat or Where of dequantized tensors that is quantized again; such tensors have one scale and zero point."""
    moved = s.maker(n.input[0], "Concat", "Where")
    if moved is None or len(n.input) < 3 or s.shape(n.input[1]) != []:
        return False
    operands: list[str] = []
    for name in moved.input[1 if moved.op_type == "Where" else 0 :]:
        part = s.maker(name, "DequantizeLinear")
        if part is None or len(part.input) < 3 or s.shape(part.input[1]) != []:
            return False
        operands += part.input
    if moved.op_type == "Where":
        return s.put("QLinearWhere", [moved.input[0], *operands, *n.input[1:3]], n)
    return s.put("QLinearConcat", [*n.input[1:3], *operands], n, **attributes(moved, "axis"))


def same(*names: str, inputs: int = 9) -> Callable[[Site, onnx.NodeProto], bool]:
    """The operator of the same name, for nodes of no more inputs and attributes than it has."""

    def rewrite(s: Site, n: onnx.NodeProto) -> bool:
        attrs = attributes(n, *names)
        if len(attrs) < len(n.attribute) or len(n.input) > inputs or attrs.get("mode") == b"wrap":
            return False
        return s.put(n.op_type, list(n.input), n, **attrs)

    return rewrite


def grid_sample(s: Site, n: onnx.NodeProto) -> bool:
    if len(s.shape(n.input[0]) or ()) != 4:
        return False
    attrs = attributes(n, "align_corners", "mode", "padding_mode")
    mode = {b"linear": "bilinear", b"cubic": "bicubic"}.get(attrs.get("mode", b"linear"), "nearest")
    return s.put("GridSample", list(n.input), n, **{**attrs, "mode": mode})


def expand_dims(s: Site, n: onnx.NodeProto) -> bool:
    axes = s.constant(n.input[1])
    if axes is None or axes.size != 1:
        return False
    return s.put("ExpandDims", [n.input[0], s.weight(axes.astype(np.int32).reshape(()))], n)


def embedding(s: Site, n: onnx.NodeProto) -> bool:
    if attributes(n, "axis").get("axis", 0) != 0 or len(s.shape(n.input[0]) or ()) != 2:
        return False
    return s.put("TorchEmbedding", list(n.input), n)


REWRITES: dict[str, tuple[Callable[[Site, onnx.NodeProto], bool], ...]] = {
    **dict.fromkeys((*PARAMETERS, "Clip"), (activation,)),
    "Add": (fused_sum, plain_sum),
    "Conv": (plain_conv,),
    "DequantizeLinear": (dequantize,),
    "Gather": (embedding,),
    "GatherND": (same(),),
    "Gelu": (gelu,),
    "Gemm": (gemm,),
    "GridSample": (grid_sample,),
    "GroupNormalization": (group_norm,),
    "LayerNormalization": (layer_norm,),
    "MatMul": (mat_mul,),
    "MaxPool": (max_pool,),
    "Mul": (quick_gelu, rms_norm),
    "Pad": (same("mode", inputs=3),),
    "QuantizeLinear": (quantize, quantized_movement),
    "Softmax": (softmax,),
    "Trilu": (same("upper"),),
    "Unsqueeze": (expand_dims,),
}
"""The rewrites of nodes, by the operator of the last node that they take in."""
