"""Floats of 8 and 4 bits and integers of 4 and 2 bits.

They are stored, moved and converted, and all other ops refuse them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support.oracles import run_reference

import convc
from convc.ir.builder import Builder
from convc.ir.dtypes import SMALL, SMALL_FLOATS, numpy_dtype
from convc.ir.errors import ConvcError, ShapeError
from convc.ir.graph import Constant
from convc.ir.op import REGISTRY
from convc.ir.ops.binary import Add
from convc.ir.ops.cast import Cast
from convc.ir.ops.concat import Concat
from convc.ir.ops.gather import Gather
from convc.ir.ops.quantize import Dequantize, Quantize
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.slice import Slice
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.where import Where
from convc.ir.text import parse_graph, print_graph
from convc.ir.types import TensorType, type_of

MOVING = {
    "bit_cast", "cast", "concat", "depth_to_space", "dequantize", "expand", "eye_like", "gather", "gather_elements",
    "gather_nd", "identity",
    "one_hot", "quantize", "reshape", "reverse_sequence", "scatter_elements", "scatter_nd", "select_channels", "slice",
    "space_to_depth", "tensor_scatter", "tile", "transpose", "trim", "where",
}  # fmt: skip
"""The ops that take small dtypes: conversions, ops that only move elements, and eye_like, which reads only the shape.
"""


def accepts(case: Any, small: str) -> bool:
    """Whether an op takes the operands of a case when one of their dtypes is replaced by a small one."""
    types = [x if isinstance(x, TensorType) else type_of(x) for x in case.inputs]
    for dtype in {t.dtype for t in types}:
        try:
            case.op.infer(*(t.with_dtype(small) if t.dtype == dtype else t for t in types))
        except ConvcError:
            continue
        return True
    return False


def test_who_takes_them() -> None:
    taking = {
        name for name, cls in REGISTRY.items() for case in cls.cases() if any(accepts(case, small) for small in SMALL)
    }
    assert taking == MOVING


def values(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every finite number of a dtype in ascending order, with its code."""
    codes = np.arange(16 if dtype == "f4e2m1" else 256, dtype=np.uint8)
    numbers = codes.view(numpy_dtype(dtype)).astype(np.float64)
    kept = np.isfinite(numbers) & ~((numbers == 0) & np.signbit(numbers))
    order = np.argsort(numbers[kept])
    return numbers[kept][order], codes[kept][order]


def nearest(x: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest number of the dtype, found by trying all numbers. Of two equally near ones it has the even code."""
    numbers, codes = values(dtype)
    distance = np.abs(x[:, None] - numbers)
    near = distance == distance.min(1, keepdims=True)
    even = near & (codes % 2 == 0)
    return numbers[np.where(even.any(1), even.argmax(1), near.argmax(1))]


@pytest.mark.parametrize("dtype", [d for d in SMALL_FLOATS if d != "f8e8m0"])
@pytest.mark.parametrize("source", [np.float32, np.float64])
def test_rounding(dtype: str, source: Any) -> None:
    """Conversion rounds once, to nearest. float64 is not rounded to float32 first, as ml_dtypes does."""
    rng = np.random.default_rng(0)
    every, _ = values(dtype)
    halves = (every[1:] + every[:-1]) / 2
    x = np.concatenate([halves, halves * (1 + 2.0**-40), halves * (1 - 2.0**-40), rng.normal(0, 3, 500)]).astype(source)
    b = Builder()
    y = b.emit(Cast(dtype), b.input("x", type_of(x)))
    got = convc.compile(b.finish((y,)), threads=1)(x)
    assert got.dtype == numpy_dtype(dtype)
    np.testing.assert_array_equal(got.astype(np.float64), nearest(x.astype(np.float64), dtype))


@pytest.mark.parametrize("dtype", SMALL)
def test_moving(dtype: str) -> None:
    """Elements are unchanged by a chain of moves and by a constant in the code."""
    x = (np.arange(24) % 4).reshape(4, 6).astype(numpy_dtype(dtype))
    one = np.ones((1, 1)).astype(numpy_dtype(dtype))
    b = Builder()
    v = b.input("x", type_of(x))
    turned = b.emit(Transpose((1, 0)), v)
    joined = b.emit(Concat(0), turned, b.emit(Slice((0,), (1,), (3,)), turned))
    picked = b.emit(Gather(1), joined, b.constant(np.array([2, 0])))
    mask = np.arange(16).reshape(8, 2) % 3 == 0
    chosen = b.emit(Where(), b.constant(mask), picked, b.constant(one))
    graph = b.finish((b.emit(Reshape((4, 4)), chosen),))
    assert parse_graph(print_graph(graph), {c.sha: c.array for c in graph.constants.values()}) == graph
    want = np.concatenate([x.T, x.T[1:3]])[:, [2, 0]]
    want = np.where(mask, want.view(np.uint8), one.view(np.uint8)).reshape(4, 4)
    for same in (graph, convc.load_onnx(convc.to_onnx(graph))):
        np.testing.assert_array_equal(convc.compile(same, threads=1)(x).view(np.uint8), want)


@pytest.mark.parametrize(
    ("dtype", "saturate", "which"),
    [
        ("f8e4m3fn", True, "one"), ("f8e4m3fnuz", True, "one"), ("f8e5m2", True, "one"), ("f8e5m2fnuz", False, "one"),
        ("f4e2m1", True, "one"), ("f8e4m3fn", False, "rows"), ("f4e2m1", True, "blocks"),
    ],
)  # fmt: skip
def test_quantized_and_back(dtype: str, saturate: bool, which: str) -> None:
    """Both ops with a constant zero point of zero, as files have it."""
    every, _ = values(dtype)
    x = np.concatenate([every, (every[1:] + every[:-1]) / 2, [np.nan, np.inf, -np.inf, -0.0, 1e-9, 1e6, -1e6]])
    x = np.resize(x / 2, (2, 256)).astype(np.float32)
    shape = {"one": (), "rows": (2,), "blocks": (2, 128)}[which]
    how = {"axis": len(shape) - 1, "block_size": 2 * (which == "blocks")}
    b = Builder()
    scale, zero = b.constant(np.full(shape, 0.5, np.float32)), b.constant(np.zeros(shape, numpy_dtype(dtype)))
    q = b.emit(Quantize(dtype=dtype, saturate=saturate, **how), b.input("x", type_of(x)), scale, zero)
    graph = b.finish((b.emit(Dequantize(**how), q, scale, zero),))
    want = run_reference(convc.to_onnx(graph), {"x": x})[0]
    np.testing.assert_array_equal(convc.compile(graph, threads=1)(x), want)


@pytest.mark.parametrize("dtype", SMALL)
def test_external_data(dtype: str, tmp_path: Any) -> None:
    """Several elements share a byte in external data, and the last byte is not full."""
    x = (np.arange(7) % 4).astype(numpy_dtype(dtype))
    b = Builder()
    w = b.constant(Constant.of(x), "w")
    model = convc.to_onnx(b.finish((b.emit(Concat(0), w, b.input("x", type_of(x))),)))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (constant,) = convc.load_onnx(tmp_path / "m.onnx").constants.values()
    np.testing.assert_array_equal(constant.array.view(np.uint8), x.view(np.uint8))


@pytest.mark.parametrize("dtype", SMALL)
def test_computing_is_refused(dtype: str) -> None:
    b = Builder()
    x = b.input("x", TensorType(dtype, (2,)))
    with pytest.raises(ShapeError, match=f"does not take {numpy_dtype(dtype)}"):
        b.emit(Add(), x, x)


def test_saved_and_loaded(tmp_path: Any) -> None:
    """4-bit weights, inputs and outputs work in an artifact."""
    b = Builder()
    w = b.constant(Constant.of(np.arange(-8, 8).astype(numpy_dtype("i4"))))
    x = b.input("x", TensorType("i4", (16,)))
    graph = b.finish((b.emit(Add(), b.emit(Cast("f32"), w), b.emit(Cast("f32"), x)), b.emit(Concat(0), w, x)))
    model = convc.compile(graph, threads=1)
    model.save(tmp_path / "m.so")
    again = convc.load(tmp_path / "m.so")
    given = np.arange(-8, 8)[::-1].astype(numpy_dtype("i4"))
    for compiled in (model, again):
        total, joined = compiled(given)
        np.testing.assert_array_equal(total, np.full(16, -1.0, np.float32))
        np.testing.assert_array_equal(joined.astype(int), [*range(-8, 8), *range(7, -9, -1)])
