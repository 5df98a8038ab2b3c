"""What the compiler knows about an op: one class, one place.

To add an op, write a frozen dataclass deriving from ``Op`` in a file under ``ir/ops``; nothing else needs to change.
Its fields are its attributes. The class says how types follow (``infer``) and what it computes (``compute``), and gives
sample inputs (``cases``) that every generic test runs over. The same file registers how the op maps to ONNX and back,
with the decorators of ``onnx_io.py``.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .dtypes import FLOATS
from .errors import UnsupportedOpError
from .layout import Layout
from .sizes import Dim, Named, Size, Sizes, at, names
from .types import TensorType

if TYPE_CHECKING:
    from .lowering import Operand, TensorExpressions

REGISTRY: dict[str, type[Op]] = {}
"""The class of every op, by its name in the text form."""

READ = "read_sizes"
"""The name of the op ``ReadSizes``, which defines sizes (``data_sizes.py``)."""

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_.]*")
"""What the text form can read as the name of an op."""


def place_of(defined: Any) -> str:
    """Where a class or function was defined: its module and qualified name."""
    return f"{defined.__module__}.{defined.__qualname__}"


def from_outside(op: type[Op]) -> bool:
    """Whether a class of ops is not convc's own."""
    return not op.__module__.startswith("convc.")


@dataclass(frozen=True)
class Case:
    """Sample operands of an op for the generic tests.

    Each input is a type, whose values are drawn at random, or an array.

    ``low`` and ``high`` bound the random values, for ops with a limited domain. ``oracle`` says which implementation
    computes the case correctly: ``"onnxruntime"``, ``"reference"`` (onnx's own), ``"reference in float64"``, which gets
    the same values in float64, or ``"both"``, the first two; ``note`` says why it is not both.
    """

    op: Op
    inputs: tuple[TensorType | np.ndarray, ...]
    low: float = -2.0
    high: float = 2.0
    oracle: str = "both"
    note: str = ""


@dataclass(frozen=True)
class Op:
    """Base class of all ops: an immutable record of attributes, and the rules of the op as methods."""

    name: ClassVar[str] = ""
    """The op's name in the text form; empty for an abstract family."""
    elementwise: ClassVar[bool] = False
    """Whether each output element depends only on the input elements at the same (broadcast) index."""
    injective: ClassVar[bool] = False
    """Whether each output element is a cheap expression of few input elements, so that the op can be inlined."""
    contraction: ClassVar[bool] = False
    """Whether the op sums products of two operands, as convolutions and matrix products do.

    Networks spend most of their time in these ops, and they are computed in float16 where the target has fast
    instructions for it."""
    moves_elements: ClassVar[bool] = False
    """Whether every element of the result is an element of the only operand, chosen by its place or its rank in size,
    so that integers at one scale may take the place of floats.

    ``False`` is always safe."""
    rounds: ClassVar[bool] = True
    """Whether right implementations may give results that differ in their last bits.

    It is ``False`` for ops that move or choose elements, or compute each by one operation. ``True`` is always safe."""
    normalises_rows: ClassVar[bool] = False
    """Whether each element of the result follows from the operand's element at its place and from statistics of the
    row, the elements along some axes, that it lies in: softmax, and layer, group and instance normalization."""
    needs_range: ClassVar[bool] = False
    """Whether the op must not be computed in float16 although its operands fit: because results may be too large for
    it, or because operands are positions that need more digits than float16 has."""
    on_gpu: ClassVar[bool] = True
    """Whether GPUs can compute the op. Programs of loops with large working memory run on CPUs only."""

    between_segments: ClassVar[bool] = False
    """Whether the runtime does what the op says, between two segments of a call: no code is made of it."""

    counted: ClassVar[int | None] = None
    """The axis of results whose size follows from data, or ``None`` (``data_sizes.py``).

    A result is as large as it can get along this axis; the second result, int64[1], is the number of elements in use,
    which come first.
    """
    counted_results: ClassVar[tuple[int, ...]] = (0,)
    """The indices of the results that have the axis ``counted``. All elements of the others are in use."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name := cls.__dict__.get("name"):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise TypeError(
                    f"the name of op {cls.__qualname__} is {name!r}, and must be of ASCII letters, digits, '_' and "
                    "'.', with a letter or '_' first"
                )
            if name in REGISTRY and place_of(REGISTRY[name]) != place_of(cls):
                raise TypeError(
                    f"{place_of(cls)} and {place_of(REGISTRY[name])} are both named {name!r}: give one another name"
                )
            REGISTRY[name] = cls  # a class that is defined again, as in a notebook, takes the place of the first

    # -- meaning --------------------------------------------------------------------------------------------------

    @abstractmethod
    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        """The type of the result, or the types of several results.

        Raises ``ShapeError`` when the operands do not fit the op.
        """
        raise UnsupportedOpError(f"class {type(self).__qualname__} has no method infer")

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        """The result, or the results, as tensor expressions over the operands ``xs``; ``outs`` are the types to
        produce.
        """
        raise UnsupportedOpError(f"op {self.name} cannot be lowered: class {type(self).__qualname__} has no compute")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """The number of floating-point operations; a multiply-add counts as two."""
        return 0

    def bodies(self) -> tuple[Any, ...]:
        """The graphs (``Graph``) among the op's attributes."""
        return ()

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        """Whether the op computes correctly and efficiently with data operands and results in ``layout``."""
        return False

    def defines(self) -> Sizes:
        """The named sizes that the op defines for the nodes after it (``data_sizes.py``)."""
        return ()

    def held_as(self, dtype: str) -> bool:
        """Whether results of this dtype may be held in a memory layout that is not row-major: floats may, and so may 8-
        and 32-bit integers of an op that computes each element by itself.
        """
        return dtype in FLOATS or (self.injective and dtype in ("i8", "u8", "i32"))

    def reads_any_layout(self) -> bool:
        """Whether operands may be held in any layout although the result is row-major."""
        return False

    def known(self) -> np.ndarray | None:
        """The result of an op without operands that follows from known sizes, which is a constant then."""
        return None

    def named_sizes(self) -> Iterator[Named]:
        """The named sizes among the op's attributes. A name may come several times."""
        for f in fields(self):
            yield from _names(getattr(self, f.name))
        for body in self.bodies():
            for n in body.nodes:
                yield from n.op.named_sizes()

    def at(self, values: Mapping[str, Dim]) -> Op:
        """The op with named sizes among its attributes replaced by other sizes."""
        return self.mapped(lambda size: at(size, values))

    def mapped(self, change: Callable[[Size], Dim]) -> Op:
        """The op with each open size among its attributes replaced by what ``change`` makes of it."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: new for name, old in found.items() if (new := _mapped(old, change)) is not old}
        return replace(self, **moved) if moved else self

    # -- tests ----------------------------------------------------------------------------------------------------

    @classmethod
    def cases(cls) -> Iterator[Case]:
        """Sample operands for the generic tests."""
        return iter(())


def _mapped(value: Any, change: Callable[[Size], Dim]) -> Any:
    """An attribute with open sizes replaced. An attribute without any is returned as it is."""
    if isinstance(value, Size):
        return change(value)
    if isinstance(value, tuple):
        moved = tuple(_mapped(v, change) for v in value)
        return moved if any(a is not b for a, b in zip(moved, value, strict=True)) else value
    return value


def _names(value: Any) -> Iterator[Named]:
    if isinstance(value, Size):
        yield from names(value)
    elif isinstance(value, tuple):
        for v in value:
            yield from _names(v)


def sample(op: Op, *inputs: TensorType | np.ndarray, **options: Any) -> Case:
    """Make a ``Case``, in the order in which ``cases()`` reads well."""
    return Case(op, tuple(inputs), **options)


class _Shorthand:
    """``f32[1, 3, 7, 9]`` is ``TensorType("f32", (1, 3, 7, 9))``; ``f32[()]`` is a scalar."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __getitem__(self, shape: int | tuple[int, ...]) -> TensorType:
        return TensorType(self.dtype, shape if isinstance(shape, tuple) else (shape,))


f16, f32, f64 = _Shorthand("f16"), _Shorthand("f32"), _Shorthand("f64")
i8, i32, i64, u8, boolean = _Shorthand("i8"), _Shorthand("i32"), _Shorthand("i64"), _Shorthand("u8"), _Shorthand("bool")

__all__ = [
    "REGISTRY",
    "Case",
    "Op",
    "boolean",
    "f16",
    "f32",
    "f64",
    "field",
    "i8",
    "i32",
    "i64",
    "sample",
    "u8",
]
