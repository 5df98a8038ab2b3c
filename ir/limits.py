"""Limits on what a model may ask of the compiler, so that a hostile file costs an error and not the machine.

They hold in importers, the text form, inference, folding and building, for the code inside ``with using(limits)``.
Sizes are counted in Python's integers, which do not overflow, and before anything of that size is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING

from .dtypes import dtype_names
from .errors import LimitError, ShapeError

if TYPE_CHECKING:
    from .types import TensorType


@dataclass(frozen=True)
class Limits:
    """What is refused with a ``LimitError``.

    The defaults are far above what real networks need; trust a model to raise one.
    """

    file_bytes: int = (1 << 31) - 1
    """Bytes of a model's file, or of constants beside a text form, unpacked.

    Protobuf itself ends here; weights in external data do not count."""
    text_bytes: int = 1 << 26
    """Bytes of a graph in text form."""
    nodes: int = 20_000
    """Nodes of a graph, and those of ONNX once functions are expanded and loops unrolled."""
    operands: int = 512
    """Inputs or outputs of one node."""
    depth: int = 32
    """How deep functions, subgraphs and lists nest."""
    rank: int = 16
    """Axes of a tensor."""
    tensor_bytes: int = 1 << 33
    """Bytes of one tensor that is made from a constant's description, or that compiled code works on."""
    window: int = 1 << 14
    """How far a window of a convolution or pooling, or its padding, extends along an axis."""
    constant_bytes: int = 1 << 32
    """Bytes of constants that are made while importing, by one pass, or at load: weights as the code reads them among
    these.
    """
    folded_bytes: int = 1 << 33
    """Bytes that computing constants reads and writes in all, while importing or in one pass: it bounds time."""
    constant_flops: int = 1 << 37
    """Operations on constants that are left to be computed at load, which ``compile`` ends with: it bounds time."""
    workspace_bytes: int = 1 << 35
    """Bytes of memory that a call of the compiled model works in."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise LimitError(f"the limit {f.name} must be an integer of at least 1, not {value!r}")


_WHAT = {
    "file_bytes": "bytes",
    "text_bytes": "bytes of text",
    "nodes": "nodes",
    "operands": "inputs or outputs",
    "depth": "levels of nesting",
    "rank": "axes",
    "tensor_bytes": "bytes",
    "window": "elements along an axis",
    "constant_bytes": "bytes of constants",
    "folded_bytes": "bytes read and written to fold constants",
    "constant_flops": "operations on constants",
    "workspace_bytes": "bytes of workspace",
}
_DEFAULT = Limits()
_current: ContextVar[Limits] = ContextVar("limits", default=_DEFAULT)


@contextmanager
def using(limits: Limits | None) -> Iterator[None]:
    """Use these limits inside; ``None`` leaves those that are in use."""
    token = None if limits is None else _current.set(limits)
    try:
        yield
    finally:
        if token is not None:
            _current.reset(token)


@contextmanager
def guarded(limits: Limits | None = None) -> Iterator[None]:
    """As ``using``, around code that works on a model: what gets past the limits and meets the end of Python's stack or
    of memory is a ``LimitError`` as well.
    """
    try:
        with using(limits):
            yield
    except RecursionError:
        raise LimitError("the model nests deeper than Python's stack is") from None
    except MemoryError as e:
        raise LimitError(f"the model takes more memory than there is ({e or 'out of memory'})") from None


def current() -> Limits:
    """The limits in use."""
    return _current.get()


def check(name: str, met: int, what: str) -> None:
    """Raises ``LimitError`` when ``what`` has more than the limit of that name."""
    limit = getattr(_current.get(), name)
    if met > limit:
        number = str(met) if met < 1 << 200 else "more than 2^200"
        raise LimitError(
            f"{what} has {number} {_WHAT[name]}; the limit is {limit}. If you trust the model, raise it with "
            f"limits=convc.Limits({name}=...) (--limit {name}=...)"
        )


def check_type(type: TensorType, what: str) -> None:
    """Raises ``LimitError`` when a type has too many axes, and ``ShapeError`` when its bytes cannot be counted in 62
    bits.

    Sizes of 0, and symbolic ones, count as 1. A type may be of more bytes than a tensor: to look at it costs nothing.
    """
    if len(type.shape) > _current.get().rank:
        check("rank", len(type.shape), f"{what} ({dtype_names(type.dtype)})")
    if _nbytes(type) >= 1 << 62:
        raise ShapeError(f"{what} ({type}) is too large: it has 2^62 bytes or more")


def check_made(type: TensorType, what: str) -> None:
    """Raises ``LimitError`` when a tensor that memory is about to be taken for has too many bytes."""
    check("tensor_bytes", _nbytes(type), f"{what} ({type})")


def _nbytes(type: TensorType) -> int:
    return prod([d for d in type.shape if isinstance(d, int) and d > 0]) * type.numpy_dtype.itemsize


class Folding:
    """Counts what folding constants takes, in one pass or import."""

    def __init__(self) -> None:
        self.made = self.moved = 0

    def add(self, what: str, read: int, written: int) -> None:
        """Raises ``LimitError`` when computing a constant more would go beyond the limits."""
        self.made += written
        self.moved += read + written
        check("constant_bytes", self.made, f"{what}, with the constants computed before it,")
        check("folded_bytes", self.moved, f"{what}, with the constants computed before it,")
