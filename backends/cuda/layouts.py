"""How GPUs want convolutional data and weights held."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convc.ir.data_layouts import spatial_letters
from convc.ir.graph import Graph, Node
from convc.ir.layout import Layout
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_transpose import ConvTranspose
from convc.ir.types import TensorType

FEW_CHANNELS = 4
"""A convolution of at most this many input channels reads row-major data: an image needs no conversion."""


@dataclass(frozen=True)
class ChannelsLast:
    """For a GPU: channels innermost, so that neighbouring threads read neighbouring ones; weights as the matrix that they are
    multiplied as, outputs innermost. Nothing is padded.
    """

    def of(self, graph: Graph) -> ChannelsLast:
        return self

    def data(self, t: TensorType) -> Layout:
        """``NHWC`` and its kin."""
        return Layout(f"N{spatial_letters(t)}C")

    def takes(self, node: Node) -> bool:
        """Every convolution."""
        return isinstance(node.op, Conv | ConvTranspose)

    def reads_plain(self, node: Node) -> bool:
        """Whether a convolution in one group reads an image, or as few channels."""
        return isinstance(node.op, Conv) and node.op.group == 1 and node.inputs[0].type.sizes[1] <= FEW_CHANNELS

    def worth(self, node: Node) -> float:
        return math.inf

    def weight(self, node: Node) -> Layout:
        """``HWIO``; a transposed convolution's two first axes, which are inputs and outputs, are called A and B."""
        matrix = "IO" if isinstance(node.op, Conv) else "AB"
        return Layout(spatial_letters(node.output.type) + matrix)

    def bias(self, node: Node) -> None:
        return None

    def matrix(self, t: TensorType, *, transposed: bool) -> Layout | None:
        """Outputs innermost."""
        return Layout("BA") if transposed else None
