"""What ONNX Runtime has no kernel for, of what convc exports."""

FLOAT64 = (
    "acos acosh asin asinh atan atanh average_pool col2im conv conv_transpose cosh det erf gelu global_average_pool "
    "global_max_pool gru hardmax instance_norm resize sinh tan"
)
LACKS = {
    **{(name, "f64"): "it has no kernel for float64 in any opset" for name in FLOAT64.split()},
    **{("top_k", dtype): "it has no kernel for this integer" for dtype in ("u16", "u32", "u64")},
    **{("unique", dtype): "it has no kernel for this dtype" for dtype in ("i32", "u64", "bool")},
    ("bit_cast", "bool"): "it has no kernel for bool",
    ("bit_cast", "i8"): "it has no kernel for bool",
    ("conv_integer", "i8"): "it takes one zero point for all channels of a weight, and here they differ",
    ("gemm", "i32"): "it has no kernel for int32",
    ("lrn", "f32"): "it refuses an even size",
    ("one_hot", "f32"): "it has no kernel for these dtypes together",
    ("reduce_max", "bool"): "it refuses bool without elements",
    ("reduce_min", "bool"): "it refuses bool without elements",
    ("resize", "u8"): "its kernel for uint8 fails on this shape",
    ("where", "bool"): "it has no kernel for bool",
}
"""What ONNX Runtime 1.32 lacks: an op and the dtype of its first operand, and why."""

BESIDES = (
    "celu elu global_lp_pool hard_sigmoid hard_swish leaky_relu lp_pool lrn mish prelu resize_nearest selu softplus "
    "softsign thresholded_relu"
)
DRAWN = {*((name, "f64") for name in BESIDES.split()), ("scatter_elements", "f16"), ("scatter_nd", "f16")}
"""What it lacks besides, for which there is no case: these in float64, and scattering of float16 with a reduction."""
