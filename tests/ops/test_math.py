"""The accuracy of the elementary functions, and their compilation to vector code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import pytest
from support.functions import SPECIAL, erf

import convc
from convc.backends.cpu.profile import assembly
from convc.backends.cpu.target import host_target
from convc.backends.kernels import distinct
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import REGISTRY, Op
from convc.ir.passes.fuse import fuse
from convc.ir.types import type_of

Function = Callable[[np.ndarray], np.ndarray]


def op(name: str, **attrs: object) -> Op:
    return REGISTRY[name](**attrs)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


# op, reference, range, and the allowed error: in units in the last place, or absolute
SWEEPS: list[tuple[Op, Function, float, float, float, float]] = [
    (op("exp"), np.exp, -110, 95, 1.5, 0),
    (op("log"), np.log, 1e-30, 1e30, 1.5, 0),
    (op("log"), np.log, 0.25, 4, 1.5, 0),
    (op("tanh"), np.tanh, -20, 20, 6.5, 0),
    (op("erf"), erf, -20, 20, 7.5, 0),
    (op("erf"), erf, -4, 4, 7.5, 0),
    # down to 2**-126 the error grows with abs(x), since ln 2 is rounded to float32
    (op("sigmoid"), sigmoid, -100, 100, 6.5, 1e-38),
    (op("sigmoid"), sigmoid, -20, 20, 4.5, 0),
    (op("softplus"), softplus, -100, 100, 3, 0),
    (op("elu"), elu, -30, 2, 3, 0),
    (op("silu"), lambda x: x * sigmoid(x), -20, 20, 4.5, 0),
    (op("gelu"), lambda x: x * 0.5 * (1 + erf(x * math.sqrt(0.5))), -20, 20, 4, 1e-6),
    (op("gelu", approximate="tanh"), gelu_tanh, -20, 20, 4, 1e-6),
    (op("mish"), lambda x: x * np.tanh(softplus(x)), -20, 20, 6, 0),
    (op("sin"), np.sin, -100, 100, 2, 0),
    (op("cos"), np.cos, -100, 100, 2, 0),
    (op("tan"), np.tan, -100, 100, 2, 0),
    (op("sinh"), np.sinh, -80, 80, 3, 0),
    (op("cosh"), np.cosh, -80, 80, 3, 0),
    (op("asinh"), np.arcsinh, -1e3, 1e3, 3, 0),
    (op("acosh"), np.arccosh, 1, 1e3, 3, 0),
    (op("atanh"), np.arctanh, -1, 1, 3, 0),
    (op("asin"), np.arcsin, -1, 1, 3, 0),
    (op("acos"), np.arccos, -1, 1, 3, 0),
    (op("atan"), np.arctan, -1e3, 1e3, 3, 0),
]
IDS = [f"{i}-{s[0].name}" for i, s in enumerate(SWEEPS)]
VECTORISED = [
    [op(name)]
    for name in (
        "exp",
        "log",
        "tanh",
        "erf",
        "sigmoid",
        "softplus",
        "elu",
        "selu",
        "silu",
        "gelu",
        "mish",
        "hard_swish",
    )
] + [[op("gelu", approximate="tanh")], [op("softplus"), op("tanh"), op("exp")]]
LIBRARY = {"expf", "exp2f", "expm1f", "logf", "log1pf", "tanhf", "erff", "powf", "fmaf", "fminf", "fmaxf"}


def run(ops: Sequence[Op], x: np.ndarray) -> np.ndarray:
    b = Builder("math")
    value = b.input("x", type_of(x))
    for each in ops:
        value = b.emit(each, value)
    result: np.ndarray = convc.compile(b.finish([value]), threads=1)(x)
    return result


@pytest.mark.parametrize(("function", "reference", "low", "high", "ulps", "atol"), SWEEPS, ids=IDS)
def test_error(function: Op, reference: Function, low: float, high: float, ulps: float, atol: float) -> None:
    """Errors in float32 stay within bounds over the range. Results for NaN, infinities and denormals are right."""
    steps = np.geomspace(low, high, 50000) if low > 0 else np.linspace(low, high, 50000)
    x = np.concatenate(
        [steps.astype(np.float32), np.float32(1e-3) * np.linspace(-1, 1, 999, dtype=np.float32), SPECIAL]
    )
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
        rounded = want.astype(np.float32)
    got = run([function], x)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    unit = np.spacing(np.maximum(np.abs(rounded[finite]), np.finfo(np.float32).tiny)).astype(np.float64)
    error = np.abs(got[finite] - want[finite])
    worst = int(np.argmax(error / (unit * ulps + atol)))
    assert error[worst] <= unit[worst] * ulps + atol, f"at {x[finite][worst]}: {error[worst] / unit[worst]} ulp"


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_bounded(name: str) -> None:
    """Results never exceed 1, and reach it."""
    x = np.linspace(-12, 12, 100001).astype(np.float32)
    y = run([op(name)], x)
    assert (y.min(), y.max()) == (-1, 1)
    assert np.all(np.abs(y[np.abs(x) > 9.2]) == 1)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf", "sigmoid", "softplus", "silu", "gelu", "mish", "sqrt"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats(name: str, dtype: type) -> None:
    """For every 16-bit number, the result is that of float32, rounded once."""
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        want = run([op(name)], x.astype(np.float32)).astype(dtype)
        np.testing.assert_array_equal(run([op(name)], x).astype(np.float32), want.astype(np.float32))


@pytest.mark.parametrize(("function", "reference", "low", "high", "ulps", "atol"), SWEEPS[:14], ids=IDS[:14])
def test_float64(function: Op, reference: Function, low: float, high: float, ulps: float, atol: float) -> None:
    x = np.linspace(low, high, 2001)
    np.testing.assert_allclose(run([function], x), reference(x), rtol=1e-13, atol=1e-14)


def code_of(graph: Graph) -> str:
    """The assembly of the only kernel of a graph."""
    (found,) = distinct(fuse(graph))
    return assembly(found.group, host_target())[0]


@pytest.mark.parametrize("ops", VECTORISED, ids=lambda ops: "-".join(o.name for o in ops))
@pytest.mark.parametrize("size", [4096, 7])
def test_no_library_calls(ops: list[Op], size: int) -> None:
    """A kernel of these functions calls no function for each element."""
    b = Builder("math")
    value = b.input("x", type_of(np.zeros(size, np.float32)))
    for each in ops:
        value = b.emit(each, value)
    text = code_of(b.finish([value]))
    called = set(re.findall(r"\b(?:call\w*|bl|jmp|b)\s+_?(\w+)", text))
    assert not called & LIBRARY
    assert not [c for c in called if c.startswith("convc_")], "not inlined"


def test_library_calls_are_seen() -> None:
    """The check of the previous test detects a call where there is one."""
    b = Builder("math")
    value = b.emit(op("sinh"), b.input("x", type_of(np.zeros(64, np.float32))))
    text = code_of(b.finish([value]))
    assert "sinhf" in set(re.findall(r"\b(?:call\w*|bl|jmp|b)\s+_?(\w+)", text))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 17, 33, 47, 64, 65, 200])
def test_every_length(size: int) -> None:
    """Lengths that are not a multiple of the vector length give the same results."""
    x = np.linspace(-5, 5, size).astype(np.float32)
    np.testing.assert_allclose(run([op("tanh")], x), np.tanh(x.astype(np.float64)), rtol=1e-6)
    np.testing.assert_allclose(run([op("relu"), op("exp")], x), np.exp(np.maximum(x, 0).astype(np.float64)), rtol=1e-6)
