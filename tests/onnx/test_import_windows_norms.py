"""Import of poolings, transposed convolutions, matrix products and normalisations, against ONNX Runtime.

Each is tested in each opset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compare, models
from support.models import one_node
from support.oracles import run_onnxruntime
from support.tolerances import assert_close

import convc
from convc.ir.errors import ConvcError, ModelFileError, ShapeError, UnsupportedOpError

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.uniform(-2, 2, shape).astype(np.float32)


def model(op: str, opset: int, inputs: list[np.ndarray], constants: int = 0, outputs: int = 1, **attrs: Any) -> Any:
    """A model of one node, and the feeds of its inputs. The last ``constants`` inputs of the node are initializers."""
    return one_node(op, inputs, free=len(inputs) - constants, outputs=outputs, opset=opset, **attrs)


def check(op: str, opset: int, inputs: list[np.ndarray], **options: Any) -> None:
    made, feeds = model(op, opset, inputs, **options)
    compare.check(made, feeds, what=f"{op} of opset {opset} with {options}")


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_auto_pad(op: str, auto_pad: str) -> None:
    window = {"kernel_shape": [3, 4], "strides": [2, 3], "auto_pad": auto_pad}
    check(op, 11, [floats(1, 2, 8, 10)], **window)
    if op != "LpPool":
        check(op, 22, [floats(1, 2, 9, 9)], ceil_mode=1, **window)
    if op != "AveragePool" and not auto_pad.startswith("SAME"):
        check(op, 22, [floats(1, 2, 12, 12)], dilations=[2, 1], **window)


@pytest.mark.parametrize(("auto_pad", "pads"), [("SAME_UPPER", [1, 2]), ("SAME_LOWER", [2, 1])])
def test_same_pads_take_dilation_into_account(auto_pad: str, pads: list[int]) -> None:
    """Automatic padding takes dilation into account, as specified. ONNX Runtime pads as if there were no dilation."""
    x, window = floats(1, 2, 10), {"kernel_shape": [3], "strides": [2], "dilations": [2]}
    made, _ = model("MaxPool", 22, [x], auto_pad=auto_pad, **window)
    explicit, feeds = model("MaxPool", 22, [x], pads=pads, **window)
    assert_close(np.asarray(convc.compile(made, threads=1)(x)), run_onnxruntime(explicit, feeds)[0])


@pytest.mark.parametrize("opset", [7, 10, 11, 19, 22])
def test_average_pool(opset: int) -> None:
    for include in (0, 1):
        window = {"kernel_shape": [3], "strides": [2], "pads": [1, 0], "count_include_pad": include}
        check("AveragePool", opset, [floats(2, 3, 8)], **window, **({"ceil_mode": 1} if opset >= 10 else {}))


@pytest.mark.parametrize("order", [0, 1])
def test_max_pool_indices(order: int) -> None:
    window = {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2], "outputs": 2}
    check("MaxPool", 8, [floats(2, 2, 4, 6)], storage_order=order, **window)
    check("MaxPool", 22, [np.zeros((1, 2, 4, 6), np.float32)], storage_order=order, **window)


@pytest.mark.parametrize("opset", [1, 11, 22])
@pytest.mark.parametrize(
    "attrs",
    [
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"output_shape": [9, 11]},
        {"output_shape": [9, 11], "auto_pad": "SAME_UPPER"},
        {"output_shape": [10, 14], "output_padding": [1, 1]},
        {"output_padding": [1, 2], "pads": [0, 1, 2, 1]},
        {"output_shape": [10, 15]},
    ],
    ids=str,
)
def test_conv_transpose(opset: int, attrs: dict[str, Any]) -> None:
    check("ConvTranspose", opset, [floats(1, 2, 4, 5), floats(2, 3, 3, 2)], strides=[2, 3], **attrs)


@pytest.mark.parametrize("opset", [7, 11, 12, 13, 22])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(op: str, opset: int) -> None:
    check(op, opset, [floats(2, 3, 4, 5)])
    for axis in (0, 2, *((-1, -2) if opset >= 11 else ())):
        check(op, opset, [floats(2, 3, 4, 5)], axis=axis)
    check(op, opset, [floats(2, 5, 1, 1)], axis=1)


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("constants", [0, 4])
def test_batch_norm(opset: int, constants: int) -> None:
    vectors = [floats(3), floats(3), floats(3), rng.uniform(0.1, 3, 3).astype(np.float32)]
    for shape in ((2, 3), (2, 3, 4), (1, 3, 5, 4), (1, 3, 2, 3, 4)):
        check("BatchNormalization", opset, [floats(*shape), *vectors], constants=constants, epsilon=1e-3)


def test_batch_norm_of_constants_is_a_scale() -> None:
    inputs = [floats(1, 3, 5, 4), *[np.ones(3, np.float32)] * 4]
    ops = [n.op.name for n in convc.load_onnx(model("BatchNormalization", 15, inputs, constants=4)[0]).nodes]
    assert ops == ["mul", "add"]


def test_batch_norm_not_spatial() -> None:
    x, *params = floats(2, 3, 4), floats(3, 4), floats(3, 4), floats(3, 4), np.ones((3, 4), np.float32)
    made, _ = model("BatchNormalization", 8, [x, *params], constants=4, spatial=0)
    want = (x - params[2]) / np.sqrt(params[3] + np.float32(1e-5)) * params[0] + params[1]
    assert_close(np.asarray(convc.compile(made, threads=1)(x)), want)


def test_group_norm_of_opset_18() -> None:
    check("GroupNormalization", 18, [floats(2, 6, 4), floats(3), floats(3)], num_groups=3)
    check("GroupNormalization", 21, [floats(2, 6, 4), floats(6), floats(6)], num_groups=3)


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_gemm(opset: int) -> None:
    a, b = floats(5, 3), floats(7, 5)
    for c in (floats(3, 7), floats(7), floats(3, 1), floats(1)):
        check("Gemm", opset, [a, b, c], alpha=0.5, beta=-2.0, transA=1, transB=1)


@pytest.mark.parametrize(
    ("error", "op", "opset", "inputs", "attrs"),
    [
        (UnsupportedOpError, "BatchNormalization", 6, [(1, 2, 3), *[(2,)] * 4], {}),
        (ModelFileError, "MaxUnpool", 11, [(1, 2, 5), (1, 2, 4)], {"kernel_shape": [2]}),
        (ShapeError, "Det", 11, [(2, 3)], {}),
        (ModelFileError, "DFT", 17, [(1, 8, 3)], {}),
        (UnsupportedOpError, "DFT", 17, [(1, (1 << 22) + 1, 1)], {}),
        (ModelFileError, "MaxPool", 12, [(1, 2, 5)], {}),
        (ShapeError, "MaxPool", 12, [(1, 2, 5)], {"kernel_shape": [2], "pads": [2, 0]}),
        (ShapeError, "MaxPool", 12, [(1, 2, 5)], {"kernel_shape": [7]}),
        (ShapeError, "AveragePool", 12, [(1, 2, 5)], {"kernel_shape": [2], "pads": [0, 2]}),
        (ModelFileError, "MaxPool", 12, [(1, 2, 5)], {"kernel_shape": [2, 2]}),
        (ModelFileError, "MaxPool", 12, [(1, 2, 5)], {"kernel_shape": [2], "strides": [0]}),
        (ShapeError, "LpPool", 12, [(1, 2, 5)], {"kernel_shape": [2], "p": 0}),
        (ShapeError, "ConvTranspose", 12, [(1, 2, 5), (2, 3, 2)], {"output_padding": [1]}),
        (ShapeError, "ConvTranspose", 12, [(1, 2, 5), (2, 3, 2)], {"group": 3}),
        (ModelFileError, "ConvTranspose", 12, [(1, 2, 5), (2, 3, 2)], {"output_shape": [1, 3, 6]}),
        (ModelFileError, "ConvTranspose", 12, [(1, 2, 5), (2, 3, 2)], {"auto_pad": "SAME"}),
        (ShapeError, "Gemm", 13, [(2, 3), (4, 5)], {}),
        (ShapeError, "Gemm", 13, [(2, 3), (3, 5), (3, 5)], {}),
        (ShapeError, "MatMul", 13, [(2, 3), (4, 5)], {}),
        (ShapeError, "Softmax", 13, [(2, 3)], {"axis": 2}),
        (ShapeError, "Softmax", 11, [(2, 3)], {"axis": 2}),
        (ModelFileError, "GroupNormalization", 21, [(1, 4, 3), (4,), (4,)], {}),
        (ShapeError, "GroupNormalization", 21, [(1, 4, 3), (4,), (4,)], {"num_groups": 3}),
        (ShapeError, "LayerNormalization", 17, [(2, 3), (2, 1, 3)], {}),
        (ShapeError, "LpNormalization", 22, [(2, 3)], {"p": 3}),
        (ModelFileError, "LRN", 13, [(1, 2, 3)], {}),
    ],
)
def test_refused(
    error: type[ConvcError], op: str, opset: int, inputs: list[tuple[int, ...]], attrs: dict[str, Any]
) -> None:
    """A malformed node raises an error that names the node."""
    shapes = {f"x{i}": shape for i, shape in enumerate(inputs)}
    made = models.model(
        [models.node(op, list(shapes), ["y"], name="the_node", **attrs)], shapes, opset=opset, ir_version=8
    )
    with pytest.raises(error, match="the_node"):
        convc.load_onnx(made)


@pytest.mark.parametrize(
    "x", [np.zeros((3, 4)), np.full((2, 3), -5), np.array(7), np.array([-1, 0, 1e30]), np.zeros(0)]
)
def test_dynamic_quantization_of_constant_data(x: np.ndarray) -> None:
    """The scale of zeros is 1, where the formula of the function body divides 0 by 0."""
    check("DynamicQuantizeLinear", 11, [x.astype(np.float32)], outputs=3)
