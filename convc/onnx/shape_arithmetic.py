"""Shape arithmetic on open sizes, done while importing: integers and floats that are sizes, element by element.

An element is an integer, a size, a truth value, or a ``Ratio`` where the tensor holds floats. Whatever cannot be said
exactly is left to the op's importer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from convc.ir.dtypes import FLOATS
from convc.ir.errors import ConvcError
from convc.ir.graph import Value
from convc.ir.onnx_io import ImportNode, dtype_from_onnx
from convc.ir.ops.known_sizes import KnownSizes
from convc.ir.sizes import Dim, Size, at_least, bounds, equal, largest, least, names, product

MOST = 1024
"""The number of elements up to which tensors are taken for shape arithmetic."""
EXACT = 1 << 16
"""Numerators and denominators of constants up to this one leave products with sizes exact in float32."""


class Inexact(Exception):
    """A result that no size or ratio says."""


@dataclass(frozen=True)
class Ratio:
    """A float that is a size divided by a power of two."""

    number: Dim
    divisor: int = 1

    @staticmethod
    def of(number: Dim, divisor: Dim) -> Ratio:
        """The exact quotient. Raises ``Inexact`` when it has no such form."""
        if isinstance(divisor, int) and divisor < 0:
            number, divisor = -number, -divisor
        if isinstance(divisor, Size) or divisor & (divisor - 1):
            part = divisor if isinstance(divisor, Size) else divisor // (divisor & -divisor)
            whole = number // part if part else 0
            if whole * part != number:
                raise Inexact
            number, divisor = whole, 1 if isinstance(divisor, Size) else divisor & -divisor
        while divisor > 1 and number // 2 * 2 == number:
            number, divisor = number // 2, divisor // 2
        if not divisor:
            raise Inexact
        return Ratio(number, divisor)

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.number * other.divisor + other.number * self.divisor, self.divisor * other.divisor)

    def __sub__(self, other: Ratio) -> Ratio:
        return self + Ratio(-other.number, other.divisor)

    def __mul__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.number * other.number, self.divisor * other.divisor)

    def __truediv__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.number * other.divisor, self.divisor * other.number)

    def floor(self) -> Dim:
        return self.number // self.divisor

    def ceil(self) -> Dim:
        return -(-self.number // self.divisor)


def elements(n: ImportNode, value: Value) -> np.ndarray | None:
    """The elements of a tensor that is constant or follows from sizes; ``None`` for any other, and for large ones."""
    known = n.builder.known_sizes(value)
    if known is not None:
        if not all(isinstance(d, int) for d in known.shape) or product(known.shape) != len(known.values):
            return None  # data that is one number everywhere
        made = (
            [Ratio(v, d) for v, d in zip(known.values, known.divisors, strict=True)] if known.divisors else known.values
        )
        return _array(list(made), known.shape)
    array = n.builder.constant_of(value)
    if array is None or array.size > MOST or array.dtype.kind not in "biuf":
        return None
    if array.dtype.kind != "f":
        return _array(array.reshape(-1).tolist(), array.shape)
    if not np.isfinite(array).all():
        return None
    pairs = [Fraction(float(v)) for v in array.reshape(-1)]
    if any(abs(p.numerator) > EXACT or p.denominator > EXACT for p in pairs):
        return None
    return _array([Ratio(p.numerator, p.denominator) for p in pairs], array.shape)


def compute_sizes(n: ImportNode) -> list[Value] | None:
    """The outputs of Shape and Size, and of a node that reads tensors that follow from open sizes, and else constants.

    The answer is ``None`` where the node is none of these, or its results are no sizes.
    """
    if n.operator in ("Shape", "Size"):
        x = n.input(0)
        part = x.type.shape[slice(n.attr("start", 0), n.attr("end"))]
        sizes = _array(part, (len(part),)) if n.operator == "Shape" else _array([product(x.type.shape)], ())
        return [emit_sizes(n, sizes, "i64")]
    compute = _OPERATORS.get(n.operator)
    if compute is None or not any(v is not None and n.builder.known_sizes(v) is not None for v in n.inputs):
        return None
    inputs = [None if v is None else elements(n, v) for v in n.inputs]
    if any(v is not None and a is None for v, a in zip(n.inputs, inputs, strict=True)):
        return None
    try:
        decided = _are_decided_by_data(n, inputs)
        with n.builder.settled() if decided else nullcontext():
            made = compute(n, *inputs)
        made = made if isinstance(made, list) else [made]
        if decided and any(_may_be_negative(n, np.asarray(a, object)) for a in made):
            return None  # what uses it as a size reads it
    except (Inexact, ConvcError, IndexError, ValueError, TypeError, ZeroDivisionError, AttributeError):
        return None  # its importer says what is wrong, or compiles the node
    return [emit_sizes(n, np.asarray(a, object), _dtype(n)) for a in made]


def _are_decided_by_data(n: ImportNode, arrays: Sequence[np.ndarray | None]) -> bool:
    numbers = [v.number if isinstance(v, Ratio) else v for a in arrays if a is not None for v in a.reshape(-1)]
    return any(name.name in n.builder.data_sizes for number in numbers for name in names(number))


def _may_be_negative(n: ImportNode, array: np.ndarray) -> bool:
    """Whether an element that data decides may be negative."""
    numbers = [v.number if isinstance(v, Ratio) else v for v in array.reshape(-1)]
    decided = (v for v in numbers if any(name.name in n.builder.data_sizes for name in names(v)))
    return any(bounds(v)[0] < 0 for v in decided)


def emit_sizes(n: ImportNode, array: np.ndarray, dtype: str) -> Value:
    """The tensor that holds these elements, a constant where they are all known."""
    flat = array.reshape(-1).tolist()
    if dtype == "bool":
        return n.constant(np.array(flat, bool).reshape(array.shape), n.proto.output[0])
    ratios = [v if isinstance(v, Ratio) else Ratio(v) for v in flat]
    divisors = tuple(r.divisor for r in ratios) if dtype in FLOATS else ()
    made = KnownSizes(tuple(r.number for r in ratios), array.shape, divisors, dtype)
    known = made.known()
    if known is not None:
        return n.constant(known, n.proto.output[0])
    value: Value = n.emit(made)
    return value


def _dtype(n: ImportNode) -> str:
    if n.op_type == "Cast":
        return dtype_from_onnx(n.attr("to"))
    if n.op_type in _COMPARISONS or n.op_type in ("Not", "And", "Or"):
        return "bool"
    return n.input(1 if n.op_type == "Where" else 0).type.dtype


def _array(values: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made.reshape(tuple(shape))


def _each(f: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The function of tensors that computes each element by one of elements."""

    def compute(n: ImportNode, *arrays: np.ndarray) -> np.ndarray:
        together = np.broadcast_arrays(*arrays)
        return _array([f(*x) for x in zip(*(a.reshape(-1) for a in together), strict=True)], together[0].shape)

    return compute


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(a, Ratio):
        return a / b
    if at_least(a, 0) and at_least(b, 1):  # ONNX rounds towards 0
        return a // b
    if isinstance(a, Size) or isinstance(b, Size):
        raise Inexact
    return int(Fraction(a, b))


def _remainder(n: ImportNode, *arrays: np.ndarray) -> np.ndarray:
    def remainder(a: Any, b: Any) -> Any:
        if isinstance(a, Ratio) or (n.attr("fmod", 0) and not at_least(a, 0)) or not at_least(b, 1):
            raise Inexact
        return a % b

    return _each(remainder)(n, *arrays)


def _compared(ask: Callable[[Dim, Dim], bool]) -> Callable[..., bool]:
    def compare(a: Any, b: Any) -> bool:
        if isinstance(a, Ratio):
            a, b = a.number * b.divisor, b.number * a.divisor
        return ask(a, b)

    return compare


def _extreme(pick: Callable[..., Dim]) -> Callable[..., Any]:
    def extreme(*some: Any) -> Any:
        if not isinstance(some[0], Ratio):
            return pick(*some)
        common = max(r.divisor for r in some)
        return Ratio.of(pick(*(r.number * (common // r.divisor) for r in some)), common)

    return extreme


def _cast(n: ImportNode, x: np.ndarray) -> np.ndarray:
    to = dtype_from_onnx(n.attr("to"))

    def cast(v: Any) -> Any:
        if to in FLOATS:
            return v if isinstance(v, Ratio) else Ratio(v if isinstance(v, Size) else int(v))
        if isinstance(v, Ratio):
            v = v.floor() if at_least(v.number, 0) else v.ceil()
        if to == "bool":
            return not equal(v, 0)
        return v if isinstance(v, Size) else int(v)

    return _each(cast)(n, x)


def _rounded(up: bool) -> Callable[[Any], Any]:
    return lambda v: Ratio(v.ceil() if up else v.floor())


def _where(condition: bool, a: Any, b: Any) -> Any:
    return a if condition else b


def _axes(n: ImportNode, given: np.ndarray | None, default: Sequence[int]) -> list[int]:
    axes = n.attr("axes")
    if axes is None:
        axes = default if given is None else given.reshape(-1).tolist()
    return [int(a) for a in axes]


def _squeeze(n: ImportNode, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.squeeze(x, tuple(_axes(n, axes, [a for a, d in enumerate(x.shape) if d == 1])))


def _unsqueeze(n: ImportNode, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.expand_dims(x, tuple(_axes(n, axes, ())))


def _gather(n: ImportNode, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.take(x, indices.astype(np.int64), axis=n.attr("axis", 0))


def _slice(n: ImportNode, x: np.ndarray, *given: np.ndarray | None) -> np.ndarray:
    lists = [None if a is None else [int(v) for v in a.reshape(-1)] for a in (*given, *[None] * (4 - len(given)))]
    starts, ends = (n.attr(name) or a or [] for name, a in zip(("starts", "ends"), lists, strict=False))
    axes = n.attr("axes") or lists[2] or range(len(starts))
    cuts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, lists[3] or [1] * len(starts), strict=True):
        first = max(start, -x.shape[axis]) if step < 0 else start
        cuts[axis] = slice(first, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(cuts)]


def _split(n: ImportNode, x: np.ndarray, sizes: np.ndarray | None = None) -> list[np.ndarray]:
    axis, count = n.attr("axis", 0), len(n.proto.output)
    given = n.attr("split") or (None if sizes is None else [int(v) for v in sizes.reshape(-1)])
    part = -(-x.shape[axis] // count)
    at = np.cumsum(given)[:-1] if given else [part * (i + 1) for i in range(count - 1)]
    return np.split(x, at, axis)


def _reduced(f: Callable[[Sequence[Any]], Any]) -> Callable[..., np.ndarray]:
    def reduce(n: ImportNode, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        chosen = _axes(n, axes, range(x.ndim))
        if sorted(a % x.ndim for a in chosen) != list(range(x.ndim)) or any(
            isinstance(v, Ratio) for v in x.reshape(-1)
        ):
            raise Inexact
        return _array([f(x.reshape(-1).tolist())], (1,) * x.ndim if n.attr("keepdims", 1) else ())

    return reduce


def _reshape(n: ImportNode, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = [int(d) for d in shape.reshape(-1)]
    return x.reshape([x.shape[a] if d == 0 and not n.attr("allowzero", 0) else d for a, d in enumerate(sizes)])


def _expand(n: ImportNode, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = np.broadcast_shapes(x.shape, tuple(int(d) for d in shape.reshape(-1)))
    if int(np.prod(sizes, dtype=object)) > MOST:
        raise Inexact
    return np.broadcast_to(x, sizes)


_COMPARISONS: dict[str, Callable[[Dim, Dim], bool]] = {
    "Equal": equal,
    "Less": lambda a, b: not at_least(a, b),
    "LessOrEqual": lambda a, b: at_least(b, a),
    "Greater": lambda a, b: not at_least(b, a),
    "GreaterOrEqual": at_least,
}
_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _each(operator.add),
    "Sub": _each(operator.sub),
    "Mul": _each(operator.mul),
    "Div": _each(_quotient),
    "Mod": _remainder,
    "Neg": _each(lambda v: Ratio(-v.number, v.divisor) if isinstance(v, Ratio) else -v),
    "Min": _each(_extreme(least)),
    "Max": _each(_extreme(largest)),
    "Floor": _each(_rounded(up=False)),
    "Ceil": _each(_rounded(up=True)),
    "Cast": _cast,
    "Identity": lambda n, x: x,
    "Where": _each(_where),
    "Not": _each(operator.not_),
    "And": _each(operator.and_),
    "Or": _each(operator.or_),
    **{name: _each(_compared(ask)) for name, ask in _COMPARISONS.items()},
    "Concat": lambda n, *xs: np.concatenate(xs, axis=n.attr("axis", 1)),
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Expand": _expand,
    "ReduceMax": _reduced(lambda values: largest(*values)),
    "ReduceMin": _reduced(lambda values: least(*values)),
    "ReduceProd": _reduced(product),
    "ReduceSum": _reduced(sum),
}
"""For each operator of shape arithmetic, what it makes of a node and the elements of its inputs."""
