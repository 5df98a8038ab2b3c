"""Sliding windows: the geometry that convolutions and poolings share.

Pads are one pair (begin, end) per axis. Sizes follow ONNX: ``out = floor((in + begin + end - extent) / stride) + 1``
with ``extent = dilation * (kernel - 1) + 1``, or ceil with ``ceil_mode``, less a window that would start in the end
padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConvcError, ShapeError, plural
from ..layout import Layout
from ..limits import check, current
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ImportNode
from ..sizes import Dim, equal
from ..types import TensorType

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def full(value: Ints, rank: int, default: int = 1) -> Ints:
    """An attribute with one value per spatial axis, or the default for each when it was left empty.

    Raises ``ShapeError`` on a wrong length.
    """
    if not value:
        return (default,) * rank
    if len(value) != rank:
        raise ShapeError(
            f"{plural(len(value), 'size')} {list(value)} given for {plural(rank, 'spatial axis', 'spatial axes')}"
        )
    return value


def full_pads(pads: Pads, rank: int) -> Pads:
    """The pads of each spatial axis, zero when they were left empty."""
    if not pads:
        return ((0, 0),) * rank
    if len(pads) != rank:
        raise ShapeError(
            f"{plural(len(pads), 'pair')} of pads given for {plural(rank, 'spatial axis', 'spatial axes')}"
        )
    return pads


def kernel_of(w: TensorType) -> Ints:
    """The spatial sizes of a weight ``O C spatial``. Raises ``ShapeError`` when one is open."""
    return replace(w, shape=w.shape[2:], layout=None).sizes


def out_size(size: Dim, kernel: int, stride: int, dilation: int, pads: tuple[int, int], ceil_mode: bool = False) -> Dim:
    """The number of windows along one axis. Raises ``ShapeError`` when none fits."""
    if min(kernel, stride, dilation) < 1:
        name, value = min(("kernel", kernel), ("stride", stride), ("dilation", dilation), key=lambda pair: pair[1])
        raise ShapeError(f"a {name} is {value}; it must be at least 1")
    extent = dilation * (kernel - 1) + 1
    longest = max(map(abs, pads))
    covered = max(extent, stride, dilation, longest)
    beyond = covered > current().window
    if beyond and (longest > size or covered > size + sum(pads)):  # what the data's size bounds needs no limit
        check("window", covered, f"a window of {kernel}, stride {stride}, pads {list(pads)}")
    room = size + pads[0] + pads[1] - extent
    if room < 0 and not (ceil_mode and room > -stride):  # with ceil_mode the first window may hang over
        raise ShapeError(f"a window of {extent} does not fit in size {size} with padding {pads}")
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pads[0] else count


def some_window_is_empty(count: Dim, size: Dim, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> bool:
    """Whether one of the ``count`` windows along an axis holds only padding."""
    # a window that starts inside holds its first element
    early = range(-pads[0], 0, stride)
    if len(early) > count:
        early = early[: int(count)]
    if (count - 1) * stride - pads[0] >= size or (early and -(-pads[0] // dilation) >= kernel):
        return True
    # the first element at or after 0 of the other windows is their start modulo the dilation
    return size < dilation and any(start % dilation >= size for start in early[:dilation])


def same_pads(size: Dim, kernel: int, stride: int, dilation: int, upper: bool = True) -> tuple[int, int]:
    """The pads of one axis that give ``out = ceil(in / stride)``.

    An odd element goes to the end (``upper``) or the beginning. An open size is assumed to be a multiple of the stride.
    """
    extent = dilation * (kernel - 1) + 1
    if isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    elif equal(size % stride, 0):
        total = max(extent - stride, 0)
    else:
        raise ShapeError(f"padding depends on size {size}, which is open; fix it with shapes={{...}} (--shape)")
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def onnx_kernel(n: ImportNode, w: TensorType) -> Ints:
    """The kernel of an ONNX node that convolves with a weight of this type: the weight's spatial sizes."""
    sizes = w.sizes[2:]
    kernel = n.ints_attr("kernel_shape", len(sizes)) if n.attr("kernel_shape") else sizes
    if kernel != sizes:
        raise n.error(f"attribute 'kernel_shape' is {list(kernel)}; the weight has shape {list(w.shape)}")
    return kernel


def onnx_strides(n: ImportNode, kernel: Ints) -> tuple[Ints, Ints]:
    """The strides and dilations of an ONNX node that moves a window of this kernel."""
    return n.ints_attr("strides", len(kernel), 1, least=1), n.ints_attr("dilations", len(kernel), 1, least=1)


def onnx_pads(n: ImportNode, spatial: Sequence[Dim], kernel: Ints, strides: Ints, dilations: Ints) -> Pads:
    """The pads of a Conv or pooling node, its ``auto_pad`` resolved; ONNX Conv, attribute auto_pad."""
    rank = len(kernel)
    if len(spatial) != rank:
        raise n.error(f"its kernel has {plural(rank, 'spatial axis', 'spatial axes')}, and its input {len(spatial)}")
    mode = n.attr("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        try:
            return tuple(
                same_pads(*sizes, mode == "SAME_UPPER")
                for sizes in zip(spatial, kernel, strides, dilations, strict=True)
            )
        except ConvcError as e:
            raise n.unsupported(str(e)) from None
    if mode not in ("NOTSET", "VALID", ""):
        raise n.error(f"unknown auto_pad {mode!r}")
    return ((0, 0),) * rank if mode == "VALID" else explicit_pads(n, rank)


def explicit_pads(n: ImportNode, rank: int) -> Pads:
    """The attribute ``pads`` of an ONNX node: two numbers for each of ``rank`` spatial axes, zero by default."""
    flat = n.ints_attr("pads", 2 * rank)
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


def flat_pads(pads: Sequence[tuple[Dim, Dim]]) -> list[Dim]:
    """Pads as ONNX lists them: all beginnings, then all ends."""
    return [p[0] for p in pads] + [p[1] for p in pads]


def packed_result(x: TensorType, w: TensorType) -> Layout | None:
    """The layout of the result of a convolution of x, which follows from the layout of the weight.

    Raises ``ShapeError`` for data in a layout and a weight in none.
    """
    if w.layout is None:
        if x.layout is not None:
            raise ShapeError(f"data in layout {x.layout} needs a packed weight")
        return None
    spatial, block = "DHW"[5 - w.rank :], w.layout.block(0)
    return Layout(f"NC{spatial}{block}c" if block > 1 else f"N{spatial}C")


def pad_spatial(k: TensorExpressions, x: Operand, pads: Pads, fill: float = 0.0) -> Operand:
    """The operand with its spatial axes padded; the operand itself when there is nothing to pad."""
    if not any(begin or end for begin, end in pads):
        return x
    shape = (*x.shape[:2], *(size + begin + end for size, (begin, end) in zip(x.shape[2:], pads, strict=True)))

    def element(n: Any, c: Any, *i: Any) -> Any:
        inside = [
            test
            for j, size, (begin, end) in zip(i, x.shape[2:], pads, strict=True)
            for test in ([j >= begin] if begin else []) + ([j < size + begin] if end else [])
        ]
        at = [j - begin for j, (begin, _) in zip(i, pads, strict=True)]
        return k.guarded(k.tirx.all(*inside), x(n, c, *at), k.const(fill, x.dtype))

    padded = x.type.with_shape(shape)
    return k.operand(k.compute(padded, element, "pad"), padded)
