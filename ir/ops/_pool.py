"""The base class of poolings: attributes, types, access to windows, and the ONNX mapping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..dtypes import FLOATS, dtype_names
from ..errors import ShapeError, plural
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode
from ..op import Op
from ..sizes import Dim
from ..types import TensorType
from ._window import (
    Ints,
    Pads,
    flat_pads,
    full,
    full_pads,
    onnx_pads,
    onnx_strides,
    out_size,
    pad_spatial,
    some_window_is_empty,
)


@dataclass(frozen=True)
class Pool(Op):
    """Each output element follows from the window at ``stride * i - pad`` of its channel.

    Data ``N C spatial`` with any number of spatial axes, in any layout. ``ceil_mode`` adds a last window that hangs
    over the end padding, unless it would start there.
    """

    dtypes: ClassVar[tuple[str, ...]] = FLOATS

    kernel: Ints
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()
    ceil_mode: bool = False

    def geometry(self) -> tuple[Ints, Pads, Ints]:
        """Strides, pads and dilations, one per spatial axis."""
        rank = len(self.kernel)
        return full(self.strides, rank), full_pads(self.pads, rank), full(self.dilations, rank)

    def needs_elements(self) -> bool:
        """Whether a window that holds only padding has no result."""
        return False

    def infer(self, *types: TensorType) -> Any:
        (x,) = types
        if x.dtype not in self.dtypes:
            raise ShapeError(f"does not take {dtype_names(x.dtype)}; it takes {dtype_names(*self.dtypes)}")
        if x.rank < 3 or x.rank - 2 != len(self.kernel):
            raise ShapeError(
                f"data of rank {x.rank} does not fit a kernel of "
                f"{plural(len(self.kernel), 'spatial axis', 'spatial axes')}"
            )
        strides, pads, dilations = self.geometry()
        if any(p < 0 for pair in pads for p in pair):
            raise ShapeError(f"pads {pads} must not be negative")
        axes = list(zip(x.shape[2:], self.kernel, strides, dilations, pads, strict=True))
        spatial = tuple(out_size(*axis, self.ceil_mode) for axis in axes)
        if self.needs_elements() and any(
            some_window_is_empty(count, *axis) for axis, count in zip(axes, spatial, strict=True)
        ):
            raise ShapeError(f"pads {pads} are so large that a window of {self.kernel} holds only padding")
        return x.with_shape((*x.shape[:2], *spatial))

    def taps(self, k: TensorExpressions) -> list[Any]:
        """The reduction axes over the kernel."""
        return [k.reduce_axis(size, "rk") for size in self.kernel]

    def windows(self, k: TensorExpressions, x: Operand, out: TensorType, fill: float = 0.0) -> Callable[..., Any]:
        """A function that reads a tap of the window at an output index, ``read((n, c, *i), taps)``, and gives ``fill``
        in padding.
        """
        strides, pads, dilations = self.geometry()
        reach = tuple(
            (begin, self._reach((count - 1) * s + d * (size - 1) + 1 - begin - extent, end, s))
            for count, s, d, size, (begin, end), extent in zip(
                out.shape[2:], strides, dilations, self.kernel, pads, x.shape[2:], strict=True
            )
        )
        padded = pad_spatial(k, x, reach, fill)

        def read(index: Sequence[Any], taps: Sequence[Any]) -> Any:
            at = (s * i + d * r for s, i, d, r in zip(strides, index[2:], dilations, taps, strict=True))
            return padded(*index[:2], *at)

        return read

    def _reach(self, needed: Dim, end: int, stride: int) -> int:
        """How far windows reach past the end of the data: what is needed, or where that is open, the most it can be."""
        return max(needed, 0) if isinstance(needed, int) else end + (stride - 1 if self.ceil_mode else 0)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].numel * math.prod(self.kernel)

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == inputs[0].rank


def pool_geometry(n: ImportNode) -> dict[str, Any]:
    """The fields of ``Pool`` from an ONNX pooling node.

    With auto_pad VALID, ceil_mode counts windows as it does with pads of zero. ONNX's shape inference and ONNX Runtime
    do so, although the formula in the operator's documentation always gives the lower count.
    """
    spatial = n.input(0).type.shape[2:]
    if not n.attr("kernel_shape"):
        raise n.error("attribute 'kernel_shape' is missing")
    kernel = n.ints_attr("kernel_shape", len(spatial), least=1)
    strides, dilations = onnx_strides(n, kernel)
    pads = onnx_pads(n, spatial, kernel, strides, dilations)
    return {
        "kernel": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "ceil_mode": bool(n.attr("ceil_mode", 0)),
    }


def export_pool(op: Pool, n: ExportNode, operator: str, **attrs: Any) -> None:
    """Write an ONNX pooling node, with ``attrs`` beside the attributes that all of them have."""
    strides, pads, dilations = op.geometry()
    n.node(
        operator,
        n.inputs,
        n.outputs,
        kernel_shape=op.kernel,
        strides=strides,
        pads=flat_pads(pads),
        dilations=dilations,
        ceil_mode=op.ceil_mode,
        **attrs,
    )
