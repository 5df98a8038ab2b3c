"""Comparisons: two operands of one dtype, broadcast; the result is bool. NaN compares false."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ..dtypes import COMPUTED, FLOATS, INTEGERS
from ..lowering import TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, boolean, f16, f32, f64, i32, i64, sample, u8
from ._elementwise import Elementwise
from ._math import wide
from .binary import import_binary
from .unary import SPECIAL


class Comparison(Elementwise):
    """A comparison of two operands, for example ``y = a < b``."""

    arity = 2
    dtypes: ClassVar[tuple[str, ...]] = FLOATS + INTEGERS
    result = "bool"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return self.holds(k, wide(xs[0]), wide(xs[1]))

    def holds(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        """The comparison of two scalars, as a bool expression."""
        raise NotImplementedError(self.name)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5], f32[3, 1])
        yield sample(cls(), SPECIAL, SPECIAL[:, None])
        yield sample(cls(), f64[8], f64[8])
        yield sample(cls(), i32[40], i32[40])
        yield sample(cls(), i64[2, 20], i64[20])
        yield sample(cls(), u8[40], u8[()], oracle="reference", note="ONNX Runtime compares uint8 only in Equal")
        yield sample(cls(), f16[40], f16[1], oracle="reference", note="ONNX Runtime has few of these in float16")


@onnx_op("Equal", read=import_binary, folds=True)
class Equal(Comparison):
    """``a == b``; ONNX Equal-19."""

    name = "equal"
    dtypes = COMPUTED

    def holds(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        if k.dtype(a) == "bool":  # TVM compares booleans as floats
            a, b = a.astype("int8"), b.astype("int8")
        return k.tirx.EQ(a, b)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), boolean[40], boolean[40])


@onnx_op("Greater", read=import_binary, folds=True)
class Greater(Comparison):
    """``a > b``; ONNX Greater-13."""

    name = "greater"

    def holds(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        return a > b


@onnx_op("GreaterOrEqual", read=import_binary, folds=True)
class GreaterOrEqual(Comparison):
    """``a >= b``; ONNX GreaterOrEqual-16."""

    name = "greater_or_equal"

    def holds(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        return a >= b


@onnx_op("Less", read=import_binary, folds=True)
class Less(Comparison):
    """``a < b``; ONNX Less-13."""

    name = "less"

    def holds(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        return a < b


@onnx_op("LessOrEqual", read=import_binary, folds=True)
class LessOrEqual(Comparison):
    """``a <= b``; ONNX LessOrEqual-16."""

    name = "less_or_equal"

    def holds(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        return a <= b
