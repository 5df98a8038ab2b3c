"""Random valid graphs with convolutions at their centre. A seed always gives the same graph.

Each seed leaves out some kinds of node, so that the others meet more often (A. Groce and others, Swarm Testing, 2012).
"""

from __future__ import annotations

from collections.abc import Callable

from convc.ir.errors import ConvcError
from convc.ir.graph import Graph, Value
from convc.ir.types import TensorType

from . import heads, layers, loops, movement, pointwise, selection, unusual
from .draw import CHANNELS, SIZES, Draw

LAYERS: tuple[tuple[float, Callable[[Draw], Value]], ...] = (
    (14, layers.conv),
    (2, layers.conv_transpose),
    (4, layers.pool),
    (0.7, layers.max_pool_indices),
    (1, layers.global_pool),
    (1.5, layers.batch_norm),
    (2.5, layers.norm),
    (1.2, layers.softmax),
    (2.5, layers.matmul),
    (8, pointwise.activation),
    (0.7, pointwise.prelu),
    (1, pointwise.bounded_function),
    (3, pointwise.with_constant),
    (5, pointwise.residual),
    (2, pointwise.broadcasting),
    (1.5, pointwise.gate),
    (0.6, pointwise.power),
    (1, pointwise.cast),
    (1.5, pointwise.jump),
    (2, movement.transpose),
    (2, movement.reshape),
    (1.5, movement.shuffle),
    (4, movement.concat),
    (2, movement.split),
    (1.5, movement.cut),
    (2, movement.pad),
    (1.5, movement.resize),
    (1, movement.depth_space),
    (1, movement.repeat),
    (1, movement.gather),
    (1.5, movement.reduce),
    (0.4, movement.cumulate),
    (1, movement.squeeze_and_excite),
    (0.7, selection.top_k),
    (0.3, selection.hardmax),
    (0.7, selection.gather_by_element),
    (0.7, selection.gather_tuples),
    (1, selection.scatter),
    (0.4, selection.triangle),
    (0.5, selection.one_hot),
    (1, selection.integers),
    (2, heads.recurrent),
    (0.8, heads.einsum),
    (0.6, heads.sample_grid),
    (0.8, heads.deformed_conv),
    (2, heads.quantized),
    (1.5, heads.moved_quantized),
    (1, unusual.attribute),
    (1, unusual.far_norm),
    (1, unusual.repeated),
    (1.5, loops.loop),
)


DTYPES = ("f32",) * 8 + ("f16",) * 3 + ("f64",)
"""The dtypes of the first inputs: a third of the graphs begin in float16 or float64. Casts mix them."""
SMALL_INPUT = 0.15
"""The share of graphs that have an input of rank 0 or 1 too."""
EMPTY = 0.08
"""The share of graphs in which an input has a size of 0: its batch, its channels or a spatial size."""
WILD = 0.12
"""The share of graphs with an input that holds NaN, infinities, negative zeros or denormal numbers."""


def generate(seed: int) -> Graph:
    """The graph of a seed."""
    d = Draw(seed)
    rank = d.pick((1, 1, 2, 2, 2, 2, 2, 2, 2, 3))
    dtype = d.pick(DTYPES)
    shape = [d.pick((1, 1, 1, 2, 3)), d.pick(CHANNELS), *(d.pick(SIZES) for _ in range(rank))]
    if rank == 3:
        shape[2:] = [min(s, 9) for s in shape[2:]]
    elif d.chance(0.4):
        shape[2:] = [shape[2]] * rank
    empty, wild = d.chance(EMPTY), d.chance(WILD)
    for i in range(d.pick((1, 1, 2, 3) if empty or wild else (1, 1, 1, 2))):
        at = d.whole(0, rank + 1)
        sizes = [0 if empty and i == 0 and a == at else size for a, size in enumerate(shape)]
        d.input(TensorType(dtype, tuple(sizes)), wild and (i == 0 or d.chance(0.2)))
        if d.chance(0.3):
            shape[1] = d.pick(CHANNELS)
    if d.chance(SMALL_INPUT):
        small = ((), (1,), (shape[-1],), (d.pick(CHANNELS),))
        d.input(TensorType(dtype, d.pick((*small, (0,)) if empty else small)))
    weights, draws = zip(*(layer for layer in LAYERS if d.chance(0.6)), strict=True)
    target = d.whole(1, 9)
    for _ in range(200):
        if len(d.b.nodes) >= target:
            break
        try:
            d.rng.choices(draws, weights)[0](d)
        except ConvcError:  # what was drawn does not fit together
            continue
    return d.finish()
