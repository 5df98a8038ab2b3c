"""The cost model: what each way to compute a convolution takes on a machine, in cycles of one core.

Arithmetic and memory overlap, since weights are fetched ahead: the longer of the two counts. In a network weights come from
memory, or from the last-level cache when all of them fit there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from convc.ir.graph import Node
from convc.ir.layout import round_up
from convc.ir.ops._winograd import Matrix, matrices
from convc.ir.ops.conv import Conv
from convc.ir.ops.winograd_conv import WinogradConv, taps, transformed
from convc.ir.types import TensorType

from .machine import Machine
from .tiles import idle, tile_size, tile_worth

DIRECT_EFFICIENCY = 0.93
"""Share of peak that direct convolution reaches."""
GATHER_CYCLES = 3.0
"""To bring one element of a row-major input to its place in a block."""


def direct_cycles(node: Node, machine: Machine, bandwidth: float) -> float:
    """Cycles of the direct form."""
    flops = node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])
    return max(flops / (machine.flops_per_cycle * DIRECT_EFFICIENCY), node.inputs[1].type.nbytes / bandwidth)


@dataclass(frozen=True)
class WinogradPlan:
    """One way to run a Winograd convolution: ``rows`` of tiles at a time from transform to result, or, ``by_channel``, all
    tiles transformed first and the work shared out by blocks of output channels; and what it takes.
    """

    by_channel: bool
    rows: int
    cycles: float


def winograd_plan(x: TensorType, out: TensorType, op: WinogradConv, machine: Machine, bandwidth: float) -> WinogradPlan:
    """The cheaper of the two ways for a convolution from x to out, on all threads of the machine."""
    sizes = _Sizes.of(x, out, op, machine)
    return min(_by_rows(sizes, machine, bandwidth), _by_channel(sizes, machine, bandwidth), key=lambda p: p.cycles)


def winograd_rows(x: TensorType, out: TensorType, op: WinogradConv, machine: Machine) -> int:
    """How many rows of tiles to work on at once, where the work is cut by rows."""
    return _by_rows(_Sizes.of(x, out, op, machine), machine, machine.memory_bytes_per_cycle).rows


@dataclass(frozen=True)
class _Sizes:
    """What both ways share: elements of a transformed tile, tiles down and across, images, blocks and bytes."""

    elements: int
    high: int
    wide: int
    images: int
    channels: int
    outputs: int
    blocks: int
    """Blocks of output channels."""
    products: float
    transforms: float
    weight_bytes: float

    @staticmethod
    def of(x: TensorType, out: TensorType, op: WinogradConv, machine: Machine) -> _Sizes:
        inner, block = (t.layout.block(1) if t.layout else machine.block for t in (x, out))
        phases = math.prod(op.strides)
        # a vector of few channels is transformed whole, but multiplied one by one
        channels = phases * x.sizes[1] if x.layout is None else phases * round_up(x.sizes[1], inner)
        outputs = round_up(out.sizes[1], block)
        elements = math.prod(transformed(op.tile, op.kernel, op.strides))
        high, wide = op.tiles(out)
        tiles = out.sizes[0] * high * wide
        (ath, _, bth), (atw, _, btw) = (
            matrices(m, r) for m, r in zip(op.tile, taps(op.kernel, op.strides), strict=True)
        )
        pixels = math.prod(
            t * m + r - 1 for t, m, r in zip((high, wide), op.tile, taps(op.kernel, op.strides), strict=True)
        )
        gathered = GATHER_CYCLES * out.sizes[0] * pixels * round_up(channels, inner) if x.layout is None else 0.0
        into = len(btw) * _steps(bth) + len(bth) * _steps(btw)
        back = len(btw) * _steps(ath) + len(ath) * _steps(atw)
        return _Sizes(
            elements,
            high,
            wide,
            out.sizes[0],
            round_up(channels, inner),
            outputs,
            outputs // block,
            2.0 * elements * tiles * channels * outputs / machine.flops_per_cycle,
            2.0 * tiles * (round_up(channels, inner) * into + outputs * back) / machine.flops_per_cycle + gathered,
            4.0 * elements * channels * outputs,
        )

    def tile_bytes(self) -> float:
        """One transformed tile and its products."""
        return 4.0 * self.elements * (self.channels + self.outputs)


def _steps(matrix: Matrix) -> float:
    """Vector operations to multiply by a transform matrix: some sums are shared, and each row is stored."""
    return 0.0 if len(matrix) == len(matrix[0]) == 1 else sum(0.7 * sum(c != 0 for c in row) + 1 for row in matrix)


def _by_rows(s: _Sizes, machine: Machine, bandwidth: float) -> WinogradPlan:
    def plan(rows: int) -> WinogradPlan:
        groups = s.images * (s.high // rows)
        worth = tile_worth(rows * s.wide, tile_size(rows * s.wide, machine.tile_pixels))
        again = (
            machine.second_level_bytes_per_cycle
            if s.weight_bytes < machine.cache_bytes / 2
            else machine.cache_bytes_per_cycle
        )
        spilled = rows * s.wide * s.tile_bytes() > machine.cache_bytes / 2
        work = (s.products / worth + s.transforms * (1.5 if spilled else 1.0)) * idle(groups, machine.threads)
        return WinogradPlan(False, rows, max(work, s.weight_bytes * (1 / bandwidth + (groups - 1) / again)))

    return min((plan(r) for r in range(1, s.high + 1) if s.high % r == 0), key=lambda p: p.cycles)


def _by_channel(s: _Sizes, machine: Machine, bandwidth: float) -> WinogradPlan:
    tiles = s.high * s.wide
    data = 4.0 * s.elements * s.images * tiles * s.channels
    # each block of outputs reads all data again, which nothing fetches ahead
    again = 0.0 if data < 0.7 * machine.cache_bytes else s.blocks * data / machine.cache_bytes_per_cycle
    worth = tile_worth(tiles, tile_size(tiles, machine.tile_pixels))
    spilled = 4.0 * s.elements * tiles * s.outputs / s.blocks > machine.cache_bytes / 2
    work = (s.products / worth + s.transforms * (1.5 if spilled else 1.0)) * idle(s.images * s.blocks, machine.threads)
    return WinogradPlan(True, s.high, max(work, s.weight_bytes / bandwidth) + again)


def winograd_candidates(node: Node) -> list[WinogradConv]:
    """The algorithms worth trying for a convolution, none where none applies.

    Rounding errors grow with the number of points, and multiply over two transformed axes: seven points in two dimensions
    and ten in one stay within eight times the direct form's error, and whole networks within four times other libraries'.
    """
    if not isinstance(node.op, Conv) or node.op.exact or node.op.group != 1 or node.output.type.rank != 4:
        return []
    strides, pads, dilations = node.op.geometry(2)
    kernel = node.inputs[1].type.sizes[2:]
    window = taps(kernel, strides)
    if dilations != (1, 1) or max(window) == 1 or any(s > r for s, r in zip(strides, kernel, strict=True)):
        return []
    if strides != (1, 1) and node.inputs[0].type.layout is not None:
        return []  # the phases' weights and data together outgrow the caches: measured, no shape gained
    most = 7 if min(window) > 1 else 10
    sizes = [(1,) if r == 1 else [m for m in (2, 3, 4, 5) if m + r - 1 <= most] for r in window]
    return [WinogradConv((h, w), kernel, strides, pads) for h in sizes[0] for w in sizes[1]]
