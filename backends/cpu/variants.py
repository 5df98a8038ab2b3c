"""The variants of a kernel of open extents: the same computation scheduled for other sizes.

A register tile suits some sizes better than others, and cannot be larger than the plane. So convolutions and pooling of
open planes are compiled for the typical plane and for small tiles, and so are dense layers of open numbers of rows.
When a model is called with sizes that it has not met before, the runtime chooses the cheapest of those that the sizes
allow (``convc/runtime/cpu/sized.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from convc.ir.graph import Node
from convc.ir.ops.gemm import Gemm
from convc.ir.ops.matmul import MatMul
from convc.ir.sizes import Dim, Size, bounds, named, typical

from ..extents import is_conv_of_any_size, with_named
from ..group import Group, anchor_of
from .conv_tiles import tile_of_plane
from .target import Target

SMALL_PLANES = {28: (4,), 14: (2,), 2: (2, 1)}
"""By the least typical plane: the small planes for which kernels are made too. Their tiles waste little on planes of
any size. In a network for pictures of 224 by 224 they serve those of 32 by 32.
"""

FEW_ROWS = 4
"""The rows of the second kernel of a dense layer of an open number of rows, which are typically more."""


def variants(group: Group, nodes: Sequence[Node], target: Target) -> list[Group]:
    """The group as it is scheduled for different sizes: those of the nodes that it computes first."""
    found: dict[str, Group] = {}
    others = _in_tiles(group, nodes, target) if is_conv_of_any_size(group.anchor) else [group, *_others(group)]
    for scheduled in others:
        found.setdefault(scheduled.key, scheduled)
    return list(found.values())


def scheduled_as(node: Node, target: Target) -> Group:
    """The group of a node, as it is scheduled for the sizes of the node."""
    return variants(Group.of(node), [node], target)[0]


def _in_tiles(group: Group, nodes: Sequence[Node], target: Target) -> Iterator[Group]:
    """The group in the register tiles that suit the planes of the nodes; for open planes, in small ones too."""
    for node in nodes:
        out = anchor_of(node).output.type
        high, wide = (max(typical(d), 1) for d in out.shape[2:])
        yield replace(group, tile=tile_of_plane(out, high, wide, target))
        if any(isinstance(d, Size) for d in out.shape[2:]):
            small = next((small for least, small in SMALL_PLANES.items() if high >= least), ())
            for side in (*small, 1):
                yield replace(group, tile=tile_of_plane(out, min(side, high), min(side, wide), target))


def _others(group: Group) -> Iterator[Group]:
    out = group.anchor.output.type
    if group.anchor.op.injective:
        return  # what only moves elements has no tiles
    if isinstance(group.anchor.op, Gemm | MatMul):
        yield from _of_few_rows(group)
        return
    if out.rank != 4 or out.layout is None or not out.layout.is_blocked:
        return
    plane = [d for d in out.shape[2:] if isinstance(d, Size)]
    expected = typical(plane[0]) if plane else 0
    for small in next((small for least, small in SMALL_PLANES.items() if expected >= least), ()):
        yield scheduled_for(group, small / expected)


def _of_few_rows(group: Group) -> Iterator[Group]:
    """A dense layer scheduled for few rows."""
    rows = group.anchor.output.type.shape[-2:-1]
    if any(isinstance(d, Size) and d in group.extents and typical(d) > FEW_ROWS for d in rows):
        (size,) = rows
        assert isinstance(size, Size)
        yield Group(with_named(group.body, {str(size): named(str(size), *bounds(size), FEW_ROWS)}))


def scheduled_for(group: Group, scale: float) -> Group:
    """The group with planes whose typical sizes are scaled."""
    x = group.anchor.inputs[0].type
    scaled: dict[str, Dim] = {
        str(d): _scaled(d, scale) for d in x.shape[2:] if isinstance(d, Size) and d in group.extents
    }
    return Group(with_named(group.body, scaled))


def _scaled(size: Size, scale: float) -> Size:
    low, high = bounds(size)
    return named(str(size), low, high, max(round(typical(size) * scale), low, 1))
