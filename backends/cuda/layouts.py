"""The layouts in which GPUs hold the data and weights of convolutions."""

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
"""A convolution of at most this many input channels reads row-major data, so that an image needs no conversion."""


@dataclass(frozen=True)
class ChannelsLast:
    """Layouts with channels innermost, so that neighbouring threads read neighbouring channels.

    Weights are matrices with the output channels innermost. Nothing is padded.
    """

    def of(self, graph: Graph) -> ChannelsLast:
        return self

    def data(self, t: TensorType) -> Layout:
        """The layout of data: ``NHWC``, or the same with other spatial axes."""
        return Layout(f"N{spatial_letters(t)}C")

    def takes(self, node: Node) -> bool:
        """Whether the node is a convolution. All convolutions take these layouts."""
        return isinstance(node.op, Conv | ConvTranspose)

    def reads_plain(self, node: Node) -> bool:
        """Whether a convolution has one group and so few input channels that it reads row-major data."""
        return isinstance(node.op, Conv) and node.op.group == 1 and node.inputs[0].type.sizes[1] <= FEW_CHANNELS

    def worth(self, node: Node) -> float:
        return math.inf

    def weight(self, node: Node) -> Layout:
        """The layout of a weight: ``HWIO``.

        For a transposed convolution the first two axes of the weight, inputs and outputs, are called A and B.
        """
        matrix = "IO" if isinstance(node.op, Conv) else "AB"
        return Layout(spatial_letters(node.output.type) + matrix)

    def bias(self, node: Node) -> None:
        return None

    def matrix(self, t: TensorType, *, transposed: bool) -> Layout | None:
        """The layout of a weight matrix, output channels innermost; ``None`` when it already has this order."""
        return Layout("BA") if transposed else None
