"""How CPUs want convolutional data and weights held: in blocks of as many channels as a vector has lanes."""

from __future__ import annotations

from dataclasses import dataclass

from convc.ir.data_layouts import spatial_letters
from convc.ir.graph import Graph, Node
from convc.ir.layout import Layout
from convc.ir.ops.conv import Conv, is_depthwise
from convc.ir.ops.conv_bytes import ConvBytes
from convc.ir.ops.select_channels import joins_channels
from convc.ir.types import TensorType

from .machine import Machine

FLOPS_PER_BYTE = 0.5
"""A row-major convolution, by the fallback schedule, takes the time that converting a byte takes for this many operations."""


HALF_BLOCKS_AT_ONCE = (3, 5, 7)
"""Half blocks are worked on so many at once; their number is odd where they leave less padding than whole ones."""


LEAST_SAVED = 0.05
"""Half blocks are worth while from this share of padding on that they save."""


FEW_CHANNELS = 4
"""A convolution of at most this many input channels reads row-major data: an image needs no conversion."""


@dataclass(frozen=True)
class Blocks:
    """For a CPU: how many channels are kept together: ``full`` of them, or ``half`` where that many leave less padding."""

    full: int
    half: int

    @staticmethod
    def for_machine(machine: Machine) -> Blocks:
        """Half blocks pay where half vectors are not half as fast."""
        return Blocks(machine.block, machine.half_block)

    def of(self, graph: Graph) -> Blocks:
        """Tensors put side by side must be alike."""
        return Blocks(self.full, self.full) if any(joins_channels(n) for n in graph.nodes) else self

    def size(self, channels: int) -> int:
        """The block for a tensor of so many channels."""
        count = -(-channels // self.half)
        saved = (-channels % self.full - -channels % self.half) / channels
        fits = saved >= LEAST_SAVED and any(count % b == 0 for b in HALF_BLOCKS_AT_ONCE)
        return self.half if fits else self.full

    def data(self, t: TensorType) -> Layout:
        """``NCHW16c`` and its kin."""
        return Layout(f"NC{spatial_letters(t)}{self.size(t.sizes[1])}c")

    def takes(self, node: Node) -> bool:
        """Schedules of blocked convolutions sum in the dtype of the data."""
        if not isinstance(node.op, Conv) or node.output.type.dtype in ("f16", "bf16"):
            return False
        group, block = node.op.group, self.size(node.output.type.sizes[1])
        divides = node.inputs[0].type.sizes[1] // group % block == 0 and node.output.type.sizes[1] // group % block == 0
        return group == 1 or is_depthwise(node) or divides or is_narrow(node, block)

    def reads_plain(self, node: Node) -> bool:
        """Whether a convolution has too few input channels to fill a block of them."""
        return reads_plain(node)

    def worth(self, node: Node) -> float:
        """The time that the row-major schedule would lose."""
        return node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs]) / FLOPS_PER_BYTE

    def weight(self, node: Node) -> Layout:
        """Outputs innermost, inputs blocked as the data is."""
        inputs, outputs = (self.size(v.type.sizes[1]) for v in (node.inputs[0], node.output))
        inputs = inputs // 4 if isinstance(node.op, ConvBytes) else inputs
        inner = "" if reads_plain(node) or is_depthwise(node) or is_narrow(node, outputs) else f"{inputs}i"
        return Layout(f"OI{spatial_letters(node.output.type)}{inner}{outputs}o")

    def bias(self, node: Node) -> Layout:
        """Padded as the outputs are."""
        return Layout(f"A{self.size(node.output.type.sizes[1])}a")

    def matrix(self, t: TensorType, *, transposed: bool) -> Layout | None:
        """Panels of output columns, so that they are read in the order of use."""
        if t.dtype != "f32":
            return None
        return Layout(f"AB{self.full}a" if transposed else f"BA{self.full}b")


def reads_plain(node: Node) -> bool:
    """Whether a convolution takes row-major data all the same: all outputs read all of too few channels to convert them."""
    return isinstance(node.op, Conv) and node.op.group == 1 and node.inputs[0].type.sizes[1] <= FEW_CHANNELS


def is_narrow(node: Node, block: int) -> bool:
    """Whether a 2-D convolution has groups of a few channels, as many in as out, that fit a block a whole number of times."""
    group: int = getattr(node.op, "group", 1)
    channels, outputs = node.inputs[0].type.sizes[1], node.output.type.sizes[1]
    wide = channels // group
    narrow = 1 < wide < block and block % wide == 0 and not reads_plain(node)
    return group > 1 and node.output.type.rank == 4 and channels == outputs and narrow
