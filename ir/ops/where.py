"""Selection by a condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..lowering import TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, boolean, f16, f32, i64, sample, u8
from ..types import TensorType
from ._elementwise import ALL_DTYPES, Elementwise


@onnx_op("Where", folds=True)
class Where(Elementwise):
    """a where the condition holds, else b; the operands condition, a and b are broadcast; ONNX Where-16."""

    name = "where"
    rounds = False
    arity = 3
    dtypes = ALL_DTYPES
    cost = 0

    def check_dtypes(self, *types: TensorType) -> None:
        if types[0].dtype != "bool":
            raise ShapeError(f"the condition is {dtype_names(types[0].dtype)}, not bool")
        super().check_dtypes(*types[1:])

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.select(*xs)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), boolean[2, 3, 5], f32[2, 3, 5], f32[2, 3, 5])
        yield sample(cls(), boolean[2, 1, 5], f32[3, 1], f32[()])
        yield sample(cls(), boolean[()], i64[4], i64[3, 1])
        yield sample(cls(), boolean[40], u8[40], u8[40])
        yield sample(cls(), boolean[40], f16[40], f16[40], oracle="reference", note="ONNX Runtime has no float16 Where")
        yield sample(
            cls(), boolean[3], boolean[3], boolean[3], oracle="reference", note="ONNX Runtime has no bool Where"
        )
