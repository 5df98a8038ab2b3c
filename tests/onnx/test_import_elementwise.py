"""Import of elementwise ops in each opset and form, and of constant operands that become immediates."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.onnx_text import check, model
from support.tolerances import assert_close

import convc
from convc.ir.builder import Builder
from convc.ir.errors import ConvcError, ModelFileError, ShapeError, UnsupportedOpError
from convc.ir.op import REGISTRY
from convc.ir.types import type_of

FORMS = {
    "clip attributes": (6, "float[9] x", "y = Clip<min=0.5, max=2.0>(x)"),
    "clip attributes, one": (10, "float[9] x", "y = Clip<max=2.0>(x)"),
    "clip nothing": (13, "float[9] x", "y = Clip(x)"),
    "clip constants": (13, "float[9] x", "a = Constant<value_float=0.5>() "
                       "b = Constant<value_float=2.0>() y = Clip(x, a, b)"),
    "clip second constant": (13, "float[9] x", 'b = Constant<value_float=2.0>() y = Clip(x, "", b)'),
    "clip computed": (13, "float[9] x, float[] a, float[] b", "y = Clip(x, a, b)"),
    "clip computed and constant": (13, "float[9] x, float[] a", "b = Constant<value_float=2.0>() y = Clip(x, a, b)"),
    "max of one": (13, "float[3] x", "y = Max(x)"),
    "max of three": (8, "float[2,3] x, float[3] a, float[2,1] b", "y = Max(x, a, b)"),
    "min of four": (13, "float[3] x, float[3] a, float[3] b, float[3] c", "y = Min(x, a, b, c)"),
    "sum of one": (13, "float[3] x", "y = Sum(x)"),
    "sum of three": (13, "float[3] x, float[2,1] a, float[1] b", "y = Sum(x, a, b)"),
    "mean of one": (13, "float[3] x", "y = Mean(x)"),
    "mean of three": (13, "float[3] x, float[2,1] a, float[1] b", "y = Mean(x, a, b)"),
    "dropout": (7, "float[9] x", "y = Dropout<ratio=0.7>(x)"),
    "dropout inputs": (13, "float[9] x", "r = Constant<value_float=0.7>() y = Dropout(x, r)"),
    "pow constant": (13, "float[9] x", "e = Constant<value_float=2.0>() y = Pow(x, e)"),
    "pow integer exponent": (13, "float[9] x, int64[9] e", "y = Pow(x, e)"),
    "identity": (13, "float[9] x", "y = Identity(x)"),
    "prelu channels": (9, "float[2,3,4] x, float[3,1] s", "y = PRelu(x, s)"),
    "isinf": (10, "float[9] x", "y = IsInf<detect_negative=0>(x)"),
    "cast like": (15, "float[9] x, int32[1] l", "y = CastLike(x, l)"),
    "cast to itself": (13, "float[9] x", "y = Cast<to=1>(x)"),
    "swish": (24, "float[9] x", "y = Swish<alpha=1.5>(x)"),
}  # fmt: skip
"""Cases for ONNX Runtime: opset, inputs and nodes."""
OLD = {
    "add along an axis": ("float[2,3,4] x, float[3] b", "y = Add<broadcast=1, axis=1>(x, b)", (3, 1)),
    "sub along the first axis": ("float[2,3,4] x, float[2,3] b", "y = Sub<broadcast=1, axis=0>(x, b)", (2, 3, 1)),
    "div along a negative axis": ("float[2,3,4] x, float[3,4] b", "y = Div<broadcast=1, axis=-2>(x, b)", (3, 4)),
    "mul from the end": ("float[2,3,4] x, float[4] b", "y = Mul<broadcast=1>(x, b)", (4,)),
}
"""Cases of opset 6, which ONNX Runtime does not run: inputs, nodes, and the shape of b by numpy's rule."""
NUMPY: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
}
REFUSED: dict[str, tuple[int, str, str, type[ConvcError], str]] = {
    "cast to string": (13, "float[3] x", "y = Cast<to=8>(x)", UnsupportedOpError, "string"),
    "cast to nothing": (13, "float[3] x", "y = Cast(x)", ModelFileError, "Cast node 'y': attribute 'to' is missing"),
    "bad axis": (6, "float[2,3] x, float[3] b", "y = Add<broadcast=1, axis=2>(x, b)", ModelFileError, "rank 2 and 1"),
    "wide bound": (
        13,
        "float[3] x",
        "a = Constant<value_floats=[0.0, 1.0]>() y = Clip(x, a)",
        ModelFileError,
        "Clip node 'y': bound 'a_1' has shape [2]",
    ),
    "wide slope": (13, "float[2,3] x, float[1,2,3] s", "y = PRelu(x, s)", ShapeError, "does not broadcast to"),
    "no condition": (
        13, "float[3] x, float[3] a", "y = Where(x, x, a)", ShapeError, "the condition is float32, not bool",
    ),
    "mixed dtypes": (
        13, "float[3] x, double[3] a", "y = Add(x, a)", ShapeError, "operands differ in dtype: float32, float64",
    ),
    "no direction": (11, "uint8[3] x, uint8[3] b", 'y = BitShift<direction="UP">(x, b)', ShapeError, "'UP'"),
    "unknown gelu": (20, "float[3] x", 'y = Gelu<approximate="x">(x)', ShapeError, "approximate"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    opset, inputs, body = FORMS[name]
    out = {"isinf": "bool y", "cast like": "int32 y"}.get(name, "float y")
    check(model(opset, inputs, body, out), "reference" if opset > 23 else "onnxruntime")


@pytest.mark.parametrize("name", OLD)
def test_broadcasting_before_opset_7(name: str) -> None:
    inputs, body, shape = OLD[name]
    made = model(6, inputs, body)
    x, b = (
        np.random.default_rng(0).uniform(1, 2, [d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in made.graph.input
    )
    want = NUMPY[made.graph.node[0].op_type](x, b.reshape(shape))
    assert_close(convc.compile(made, threads=1)(x, b), want, name)


def test_prelu_before_opset_7() -> None:
    made = model(6, "float[2,3,4] x", "s = Constant<value=float[3] {0.5, -1.0, 2.0}>() y = PRelu(x, s)")
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    slope = np.array([0.5, -1, 2], np.float32).reshape(3, 1)
    assert_close(convc.compile(made, threads=1)(x), np.where(x < 0, x * slope, x))


@pytest.mark.parametrize(("opset", "dtype"), [(7, np.float32), (10, bool), (13, bool)])
def test_dropout_mask(opset: int, dtype: type) -> None:
    made = model(opset, "float[2,3] x", "y, mask = Dropout(x)", f"float y, {'float' if opset < 10 else 'bool'} mask")
    x = np.ones((2, 3), np.float32)
    y, mask = convc.compile(made, threads=1)(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(mask, np.ones((2, 3), dtype), strict=True)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    opset, inputs, body, error, message = REFUSED[name]
    with pytest.raises(error) as e:
        convc.load_onnx(model(opset, inputs, body))
    assert message in str(e.value)


FLOAT_IMMEDIATES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, np.inf, -np.inf, np.nan]
FLOAT_OPS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power, "max": np.maximum,
    "min": np.minimum,
    "greater": np.greater, "less_or_equal": np.less_equal, "equal": np.equal,
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT_OPS)
@pytest.mark.parametrize("swapped", [False, True])
def test_float_immediates(name: str, swapped: bool) -> None:
    """A constant of one element on either side becomes a float immediate.

    The constants include zero divisors, whole exponents, infinities and NaN.
    """
    x = np.array([0, -0.0, 0.25, -2, 3, np.inf, -np.inf, np.nan], np.float32)
    b = Builder()
    value = b.input("x", type_of(x))
    constants = [b.constant(np.array(c, np.float32)) for c in FLOAT_IMMEDIATES]
    outputs = [b.emit(REGISTRY[name](), *((c, value) if swapped else (value, c))) for c in constants]
    got = convc.compile(b.finish(outputs), threads=1)(x)
    for g, c in zip(got, np.array(FLOAT_IMMEDIATES, np.float32), strict=True):
        with np.errstate(all="ignore"):
            full = np.full_like(x, c)  # a scalar exponent of 0.5 is numpy's sqrt, wrong for -inf
            assert_close(g, FLOAT_OPS[name](*((full, x) if swapped else (x, full))), f"{name} with {c}")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8])
def test_integer_division_never_traps(dtype: type) -> None:
    """Division by zero gives zero, as in numpy, and the least integer divided by -1 wraps, constant or not."""
    least = np.iinfo(dtype).min
    x: np.ndarray = np.array([7, -7, 0, least, 100, -1], dtype)
    divisors: np.ndarray = np.array([2, -2, 0, -1, 1, -3], dtype)
    b = Builder()
    value = b.input("x", type_of(x))
    names = ("div", "mod")
    by = b.input("d", type_of(divisors))
    outputs = [b.emit(REGISTRY[n](), value, d) for n in names for d in [by, *(b.constant(c) for c in divisors)]]
    got = convc.compile(b.finish(outputs), threads=1)(x, divisors)
    with np.errstate(all="ignore"):
        for d, q, r in zip([divisors, *divisors], got[: len(got) // 2], got[len(got) // 2 :], strict=True):
            safe = np.where(np.equal(d, 0) | np.equal(d, -1), 1, d)
            whole = np.trunc(x.astype(np.longdouble) / safe).astype(dtype)
            quotient = np.where(np.equal(d, 0), 0, np.where(np.equal(d, -1), np.negative(x), whole))
            np.testing.assert_array_equal(q, quotient.astype(dtype), f"{x} / {d}")
            np.testing.assert_array_equal(r, np.where(np.equal(d, 0), 0, np.mod(x, safe)).astype(dtype), f"{x} mod {d}")


def test_long_chains_compile_quickly() -> None:
    """Functions that read their argument more than once are nested, and their results read twice again.

    Compile time does not grow with the product of the reads.
    """
    x = np.linspace(-3, 3, 64).astype(np.float32)
    b = Builder()
    value = b.input("x", type_of(x))
    for name in ("silu", "gelu", "mish", "elu", "tanh", "hard_swish", "sigmoid", "leaky_relu", "softplus", "erf") * 3:
        value = b.emit(REGISTRY["add"](), value, b.emit(REGISTRY[name](), value))
    y = convc.compile(b.finish([value]), threads=1)(x)
    assert np.all(np.isfinite(y))
