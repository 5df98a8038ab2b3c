"""The cost model: the cycles of one core that each way to compute a convolution takes on a machine.

Arithmetic and memory traffic overlap, since weights are fetched ahead (``schedules/prefetch.py``), so the longer of the
two counts. In a network, weights come from memory, or from the last-level cache when all of them fit there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from convc.ir.graph import Node
from convc.ir.layout import round_up
from convc.ir.ops._window import kernel_of
from convc.ir.ops._winograd import Matrix, matrices
from convc.ir.ops.conv import Conv
from convc.ir.ops.winograd_conv import WinogradConv, taps, transformed
from convc.ir.types import TensorType

from ..group import Group
from .machine import Machine
from .target import Target
from .tiles import CACHE_PARTS, divisors, idle, tile_size, tile_worth

DIRECT_EFFICIENCY = 0.93
"""Share of the peak that direct convolution reaches: most kernels measure 0.90 to 0.97 (Zen 4, docs/speed.md)."""
COEFFICIENT_OPERATIONS = 0.7
"""Vector operations per non-zero coefficient of a transform matrix: less than one, since rows of p and -p share their
sums. An estimate.
"""
SPILLED_TRANSFORM = 1.5
"""The factor by which transforms take longer when the transformed tiles do not stay in the second-level cache. An
estimate: no measurement of it alone is recorded.
"""
KEPT_DATA = 0.7
"""Share of the second-level cache up to which all transformed data is assumed to stay there while one block of output
channels after another reads it. An estimate: no measurement of it alone is recorded.
"""
OUTPUT_TILES = (2, 3, 4, 5)
"""Output tile sizes along one axis that are tried."""
MOST_POINTS_2D = 7
"""Most interpolation points on an axis where both axes are transformed; bounded by rounding, see
``winograd_candidates``.
"""
MOST_POINTS_1D = 10
"""Most interpolation points where only one axis is transformed; bounded by rounding, see ``winograd_candidates``."""
GATHER_CYCLES = 3.0
"""Cycles to move one element of a row-major input to its place in a block of channels."""


def direct_cycles(node: Node, machine: Machine, bandwidth: float) -> float:
    """Cycles that a direct convolution takes when it reads weights at ``bandwidth`` bytes per cycle."""
    return max(node.flops / (machine.flops_per_cycle * DIRECT_EFFICIENCY), node.inputs[1].type.nbytes / bandwidth)


@dataclass(frozen=True)
class WinogradSplit:
    """How a Winograd convolution is run, and its estimated ``cycles``.

    Either ``rows`` of tiles go from input transform to result at a time, or (``by_channel``) all tiles are transformed
    first and the threads share out the blocks of output channels.
    """

    by_channel: bool
    rows: int
    cycles: float


@lru_cache(maxsize=1024)
def winograd_split(
    x: TensorType, out: TensorType, op: WinogradConv, machine: Machine, bandwidth: float
) -> WinogradSplit:
    """The faster of the two plans for a convolution from x to out, on all threads of the machine."""
    sizes = _Sizes.of(x, out, op, machine)
    return min(_by_rows(sizes, machine, bandwidth), _by_channel(sizes, machine, bandwidth), key=lambda p: p.cycles)


def winograd_rows(x: TensorType, out: TensorType, op: WinogradConv, machine: Machine) -> int:
    """How many rows of tiles are worked on at once when the work is cut by rows."""
    return _by_rows(_Sizes.of(x, out, op, machine), machine, machine.memory_bytes_per_cycle).rows


@dataclass(frozen=True)
class _Sizes:
    """The sizes of a Winograd convolution on a machine, which both plans are computed from.

    A transformed tile has ``elements``; an image has ``high`` by ``wide`` tiles. ``channels`` and ``outputs`` are
    padded to whole blocks.
    """

    elements: int
    high: int
    wide: int
    images: int
    channels: int
    outputs: int
    blocks: int
    """Blocks of output channels."""
    products: float
    """Cycles of the matrix products, on one core at peak."""
    transforms: float
    """Cycles of the input and output transforms, and of gathering a row-major input."""
    weight_bytes: float
    """Bytes of the transformed weights."""

    @staticmethod
    def of(x: TensorType, out: TensorType, op: WinogradConv, machine: Machine) -> _Sizes:
        x, out = x.at_typical(), out.at_typical()
        inner, block = (t.layout.block(1) if t.layout else machine.block for t in (x, out))
        phases = math.prod(op.strides)
        # few row-major channels fill one vector in the transform, but are multiplied one by one
        channels = phases * x.sizes[1] if x.layout is None else phases * round_up(x.sizes[1], inner)
        outputs = round_up(out.sizes[1], block)
        elements = math.prod(transformed(op.tile, op.kernel, op.strides))
        high, wide = map(int, op.tiles(out))
        tiles = out.sizes[0] * high * wide
        (points_h, into_h, back_h), (points_w, into_w, back_w) = (
            _transforms(m, r) for m, r in zip(op.tile, taps(op.kernel, op.strides), strict=True)
        )
        pixels = math.prod(
            t * m + r - 1 for t, m, r in zip((high, wide), op.tile, taps(op.kernel, op.strides), strict=True)
        )
        gathered = GATHER_CYCLES * out.sizes[0] * pixels * round_up(channels, inner) if x.layout is None else 0.0
        into = points_w * into_h + points_h * into_w
        back = points_w * back_h + op.tile[0] * back_w
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
        """Bytes of one transformed tile and its products."""
        return 4.0 * self.elements * (self.channels + self.outputs)


@lru_cache(maxsize=256)
def _transforms(m: int, r: int) -> tuple[int, float, float]:
    """The number of points on an axis, and the vector operations to transform one input line and one result line."""
    at, _, bt = matrices(m, r)
    return len(bt), _steps(bt), _steps(at)


def _steps(matrix: Matrix) -> float:
    """Vector operations that multiplying by a transform matrix takes, with a store per row; none for 1x1."""
    return (
        0.0
        if len(matrix) == len(matrix[0]) == 1
        else sum(COEFFICIENT_OPERATIONS * sum(c != 0 for c in row) + 1 for row in matrix)
    )


def _by_rows(s: _Sizes, machine: Machine, bandwidth: float) -> WinogradSplit:
    def plan(rows: int) -> WinogradSplit:
        groups = s.images * (s.high // rows)
        worth = tile_worth(rows * s.wide, tile_size(rows * s.wide, machine.tile_pixels))
        again = (
            machine.second_level_bytes_per_cycle
            if s.weight_bytes < machine.cache_bytes / CACHE_PARTS
            else machine.cache_bytes_per_cycle
        )
        spilled = rows * s.wide * s.tile_bytes() > machine.cache_bytes / CACHE_PARTS
        transforms = s.transforms * (SPILLED_TRANSFORM if spilled else 1.0)
        work = (s.products / worth + transforms) * idle(groups, machine.threads)
        return WinogradSplit(False, rows, max(work, s.weight_bytes * (1 / bandwidth + (groups - 1) / again)))

    return min((plan(r) for r in divisors(s.high)), key=lambda p: p.cycles)


def _by_channel(s: _Sizes, machine: Machine, bandwidth: float) -> WinogradSplit:
    tiles = s.high * s.wide
    data = 4.0 * s.elements * s.images * tiles * s.channels
    # each block of outputs reads all data again, and nothing prefetches it
    again = 0.0 if data < KEPT_DATA * machine.cache_bytes else s.blocks * data / machine.cache_bytes_per_cycle
    worth = tile_worth(tiles, tile_size(tiles, machine.tile_pixels))
    spilled = 4.0 * s.elements * tiles * s.outputs / s.blocks > machine.cache_bytes / CACHE_PARTS
    transforms = s.transforms * (SPILLED_TRANSFORM if spilled else 1.0)
    work = (s.products / worth + transforms) * idle(s.images * s.blocks, machine.threads)
    return WinogradSplit(True, s.high, max(work, s.weight_bytes / bandwidth) + again)


def winograd_candidates(node: Node) -> list[WinogradConv]:
    """The Winograd algorithms worth trying for a convolution; an empty list where none applies.

    Rounding errors grow with the number of points, and multiply over two transformed axes. Seven points in two
    dimensions and ten in one keep the error within eight times that of the direct form, and that of whole networks
    within four times other libraries'.
    """
    if not isinstance(node.op, Conv) or node.op.exact or node.op.group != 1 or node.output.type.rank != 4:
        return []
    strides, pads, dilations = node.op.geometry(2)
    kernel = kernel_of(node.inputs[1].type)
    window = taps(kernel, strides)
    if dilations != (1, 1) or max(window) == 1 or any(s > r for s, r in zip(strides, kernel, strict=True)):
        return []
    if strides != (1, 1) and node.inputs[0].type.layout is not None:
        return []  # measured, no shape gained: the phases' weights and data together outgrow the caches
    most = MOST_POINTS_2D if min(window) > 1 else MOST_POINTS_1D
    sizes = [(1,) if r == 1 else [m for m in OUTPUT_TILES if m + r - 1 <= most] for r in window]
    return [WinogradConv((h, w), kernel, strides, pads) for h in sizes[0] for w in sizes[1]]


def is_worth_sharing(group: Group, target: Target) -> bool:
    """Whether a kernel is large enough to share out its loops among threads."""
    return kernel_cycles(group, target.machine) > target.launch_cycles


def kernel_cycles(group: Group, machine: Machine) -> float:
    """An estimate of a kernel's cycles on one core: its arithmetic, plus reads and writes of cache."""
    flops = sum(n.flops for n in group.body.nodes)
    moved = sum(v.type.at_typical().nbytes for v in (*group.body.inputs, *group.body.outputs))
    return flops / machine.flops_per_cycle + moved / machine.cache_bytes_per_cycle
