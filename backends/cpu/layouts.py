"""The layouts CPUs want for convolutions: channels in blocks as long as a vector has lanes."""

from __future__ import annotations

from dataclasses import dataclass

from convc.ir.data_layouts import spatial_letters
from convc.ir.graph import Graph, Node
from convc.ir.layout import Layout
from convc.ir.ops._axes import size_of
from convc.ir.ops.conv import Conv, is_depthwise
from convc.ir.ops.conv_bytes import ConvBytes
from convc.ir.ops.select_channels import joins_channels
from convc.ir.types import TensorType

from .machine import Machine

FLOPS_PER_BYTE = 0.5
"""Operations that a row-major convolution (the fallback schedule) does in the time that converting one byte to another
layout takes. An estimate.
"""


HALF_BLOCKS_AT_ONCE = (3, 5, 7)
"""How many half blocks of output channels one register tile may hold. All are odd: half blocks are used where an odd
number of them leaves less padding than whole blocks do.
"""


LEAST_SAVED = 0.05
"""Half blocks are used when they reduce the padding by at least this share of the channels. An estimate."""


FEW_CHANNELS = 4
"""A convolution of at most this many input channels reads row-major data, so an image needs no conversion."""


@dataclass(frozen=True)
class Blocks:
    """The block sizes of a CPU: ``full`` channels, or ``half`` as many where that leaves less padding."""

    full: int
    half: int

    @staticmethod
    def for_machine(machine: Machine) -> Blocks:
        """The block sizes of a machine; half blocks only where a half vector runs at more than half the speed."""
        return Blocks(machine.block, machine.half_block)

    def of(self, graph: Graph) -> Blocks:
        """The block sizes for a graph; both are full where tensors are joined along channels: those must be alike."""
        return Blocks(self.full, self.full) if any(joins_channels(n) for n in graph.nodes) else self

    def size(self, channels: int) -> int:
        """The block size for a tensor of this many channels."""
        count = -(-channels // self.half)
        saved = (-channels % self.full - -channels % self.half) / max(channels, 1)
        fits = saved >= LEAST_SAVED and any(count % b == 0 for b in HALF_BLOCKS_AT_ONCE)
        return self.half if fits else self.full

    def data(self, t: TensorType) -> Layout:
        """The layout of data: ``NCHW16c`` and the like."""
        return Layout(f"NC{spatial_letters(t)}{self.size(size_of(t, 1))}c")

    def takes(self, node: Node) -> bool:
        """Whether a node is a convolution that the blocked schedules compute.

        float16 and bfloat16 are refused, since those schedules accumulate in the dtype of the data.
        """
        if not isinstance(node.op, Conv) or node.output.type.dtype in ("f16", "bf16"):
            return False
        group, block = node.op.group, self.size(size_of(node.output.type, 1))
        divides = all(size_of(v.type, 1) // group % block == 0 for v in (node.inputs[0], node.output))
        return group == 1 or is_depthwise(node) or divides or is_narrow(node, block)

    def reads_plain(self, node: Node) -> bool:
        """Whether a convolution has too few input channels to fill a block of them."""
        return reads_plain(node)

    def worth(self, node: Node) -> float:
        """What a convolution loses by being row-major, in bytes of layout conversion (see ``FLOPS_PER_BYTE``)."""
        return node.flops / FLOPS_PER_BYTE

    def weight(self, node: Node) -> Layout:
        """The layout of a weight: outputs innermost, inputs blocked as the data is."""
        inputs, outputs = (self.size(size_of(v.type, 1)) for v in (node.inputs[0], node.output))
        inputs = inputs // 4 if isinstance(node.op, ConvBytes) else inputs
        inner = "" if reads_plain(node) or is_depthwise(node) or is_narrow(node, outputs) else f"{inputs}i"
        return Layout(f"OI{spatial_letters(node.output.type)}{inner}{outputs}o")

    def bias(self, node: Node) -> Layout:
        """The layout of a bias, padded as the outputs are."""
        return Layout(f"A{self.size(size_of(node.output.type, 1))}a")

    def matrix(self, t: TensorType, *, transposed: bool) -> Layout | None:
        """The layout of a float32 constant matrix, in panels of ``full`` output columns; ``None`` for other dtypes.

        The panels are read in the order of use.
        """
        if t.dtype != "f32":
            return None
        return Layout(f"AB{self.full}a" if transposed else f"BA{self.full}b")


def reads_plain(node: Node) -> bool:
    """Whether a convolution reads row-major data: a single group of at most ``FEW_CHANNELS`` input channels."""
    if not isinstance(node.op, Conv) or node.op.group != 1:
        return False
    channels = node.inputs[0].type.shape[1]
    return isinstance(channels, int) and channels <= FEW_CHANNELS


def is_narrow(node: Node, block: int) -> bool:
    """Whether a 2-D convolution has groups narrower than a block.

    Each group has more than one channel, as many inputs as outputs, and a whole number of groups fills a block.
    """
    group: int = getattr(node.op, "group", 1)
    if group == 1 or node.output.type.rank != 4 or reads_plain(node):
        return False
    channels, outputs = size_of(node.inputs[0].type, 1), size_of(node.output.type, 1)
    wide = channels // group
    return 1 < wide < block and block % wide == 0 and channels == outputs
