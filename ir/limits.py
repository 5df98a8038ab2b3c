"""Limits on the resources that a model may ask for, so that an untrusted file causes an error and does no harm.

Importers, the parser of the text form, type inference, folding and building check the limits of ``with using(limits)``.
Sizes are counted in Python's integers, which do not overflow, before anything of that size is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .dtypes import dtype_names
from .errors import LimitError, ShapeError

if TYPE_CHECKING:
    from .types import TensorType


@dataclass(frozen=True)
class Limits:
    """Limits beyond which a model is refused with a ``LimitError``.

    The defaults are far above what real networks need; raise a limit for a model that you trust.
    """

    file_bytes: int = (1 << 31) - 1
    """Bytes of a model's file, or of the unpacked constants of a text form.

    The default is the limit of Protobuf itself; weights in external data do not count.
    """
    text_bytes: int = 1 << 26
    """Bytes of a graph in text form."""
    nodes: int = 20_000
    """Nodes of a graph, and nodes of an ONNX model with functions expanded, and loops whose steps differ unrolled."""
    operands: int = 1 << 16
    """Inputs or outputs of one node."""
    steps: int = 1 << 22
    """Steps of a loop that is compiled as one, those of the loops inside it included. This bounds the time of a call.
    """
    depth: int = 32
    """How deep functions, subgraphs and lists nest."""
    rank: int = 16
    """Axes of a tensor."""
    tensor_bytes: int = 1 << 33
    """Bytes of one tensor that is made from the description of a constant, or that compiled code reads or writes."""
    window: int = 1 << 14
    """Elements along one axis that a window of a convolution or pooling, or its padding, covers beyond the size of the
    data: either may be as long as the data is."""
    constant_bytes: int = 1 << 32
    """Bytes of constants that are made by the importer, by one pass, or at load, weights in the layout of the code
    included.
    """
    folded_bytes: int = 1 << 33
    """Bytes that the importer or one pass reads and writes to compute constants. This bounds the time."""
    constant_flops: int = 1 << 37
    """Operations on constants that are computed at load, which is the last step of ``compile``.

    This bounds the time.
    """
    workspace_bytes: int = 1 << 35
    """Bytes of memory that one call of the compiled model needs for intermediate results."""

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
    "steps": "steps",
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
    """Use these limits inside the ``with`` block; ``None`` keeps those in use."""
    token = None if limits is None else _current.set(limits)
    try:
        yield
    finally:
        if token is not None:
            _current.reset(token)


@contextmanager
def guarded(limits: Limits | None = None) -> Iterator[None]:
    """Use these limits, as ``using`` does, and raise ``LimitError`` also when Python's stack or the memory runs out.

    It stands around code that works on a model.
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
    """Raises ``LimitError`` when ``met``, the amount that ``what`` asks for, exceeds the limit called ``name``."""
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

    Sizes of 0 and dynamic sizes count as 1. A type may describe more bytes than a tensor may take, since a type needs
    no memory.
    """
    if len(type.shape) > _current.get().rank:
        check("rank", len(type.shape), f"{what} ({dtype_names(type.dtype)})")
    if _nbytes(type) >= 1 << 62:
        raise ShapeError(f"{what} ({type}) is too large: it has 2^62 bytes or more")


def check_made(type: TensorType, what: str) -> None:
    """Raises ``LimitError`` when a tensor that is about to be allocated has too many bytes.

    A tensor without elements has none.
    """
    if 0 in type.shape:
        return
    check("tensor_bytes", _nbytes(type), f"{what} ({type})")


def _nbytes(type: TensorType) -> int:
    n = type.numpy_dtype.itemsize
    for d in type.shape:
        if isinstance(d, int) and d > 0:
            n *= d
    return n


class Folding:
    """Counts the bytes that folding constants reads and writes, in one pass or one import."""

    def __init__(self) -> None:
        self.made = self.moved = 0

    def add(self, what: str, read: int, written: int) -> None:
        """Raises ``LimitError`` when computing one more constant would exceed a limit.

        ``read`` and ``written`` are in bytes.
        """
        self.made += written
        self.moved += read + written
        check("constant_bytes", self.made, f"{what}, with the constants computed before it,")
        check("folded_bytes", self.moved, f"{what}, with the constants computed before it,")
