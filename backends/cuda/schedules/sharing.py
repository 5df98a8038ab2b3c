"""How threads share the elements of one result: common to reductions and normalisations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import tirx

from ..gpu import Gpu
from ..reducers import register_reducers
from .threads import THREADS

register_reducers()

ALONE = 4
"""A thread works on about this many elements before more threads share them."""
MOST_ALONG = 512
"""Most threads per result, where its elements lie innermost in memory."""
MOST_ROWS = 16
"""Most rows of lanes that share the elements of a result, where lanes run along results."""


@dataclass(frozen=True)
class Sharing:
    """The shape of a thread block: ``across`` results side by side, ``along`` threads for the elements of each.

    Lanes run along elements where these lie ``innermost`` in memory, else across results.
    """

    innermost: bool
    across: int
    along: int

    @property
    def result_axis(self) -> str:
        """The thread axis that runs across results."""
        return "threadIdx.y" if self.innermost else "threadIdx.x"

    @property
    def element_axis(self) -> str:
        """The thread axis that runs along the elements of a result."""
        return "threadIdx.x" if self.innermost else "threadIdx.y"

    def blocks(self, results: int) -> int:
        """How many thread blocks compute this many results."""
        return -(-results // self.across)

    def each(self, size: int) -> int:
        """How many elements of a result of this size one thread works on."""
        return -(-size // self.along)


def sharing(results: int, size: int, gpu: Gpu, *, innermost: bool) -> Sharing:
    """How threads share ``results`` of ``size`` elements each.

    Where the elements lie ``innermost`` in memory, each result gets a warp, or a block of several warps. Otherwise
    neighbouring results get the lanes of a warp, and several warps share the elements of each.
    """
    if not innermost:
        most = min(max(size // ALONE, 1), MOST_ROWS)
        return Sharing(innermost, gpu.warp, max(d for d in range(1, most + 1) if size % d == 0))
    threads = 1 << max(size // ALONE, 1).bit_length() - 1
    along = min(max(threads, gpu.warp), MOST_ALONG)
    return Sharing(innermost, max(1, min(THREADS // along, results // gpu.sms)) if along == gpu.warp else 1, along)


def bind(sch: Any, results: Sequence[Any], elements: Sequence[Any], plan: Sharing) -> Any:
    """Bind the loops over results and over their elements; returns the loop of the threads across results."""
    place, result = sch.split(sch.fuse(*results), [None, plan.across])
    sch.bind(place, "blockIdx.x")
    sch.bind(result, plan.result_axis)
    bind_elements(sch, elements, plan)
    return result


def bind_elements(sch: Any, elements: Sequence[Any], plan: Sharing) -> None:
    """Bind the loops over the elements of a result to threads."""
    if len(elements) > 1:
        sch.reorder(*elements)
    _, element = sch.split(sch.fuse(*elements), [None, plan.along])
    sch.bind(element, plan.element_axis)


def reads_innermost(sch: Any, block: Any) -> bool:
    """Whether a reduction runs along the innermost axis of the largest tensor that it reads."""
    region, shape = _largest_read(sch, block)
    reduced = [iv.var for iv in sch.get(block).iter_vars if iv.iter_type == tirx.IterVar.CommReduce]
    last = next((r.min for r, n in zip(reversed(region), reversed(shape), strict=True) if n > 1), None)
    return last is None or any(v.same_as(r) for v in _variables(last) for r in reduced)


def in_memory_order(sch: Any, block: Any, reduction: Sequence[Any]) -> list[Any]:
    """The loops of a reduction in the order in which the largest tensor that it reads lies in memory."""
    region, _ = _largest_read(sch, block)
    reduced = [iv.var for iv in sch.get(block).iter_vars if iv.iter_type == tirx.IterVar.CommReduce]
    places = [
        max((i for i, r in enumerate(region) if any(v.same_as(var) for v in _variables(r.min))), default=-1)
        for var in reduced
    ]
    return [reduction[i] for i in sorted(range(len(places)), key=places.__getitem__)]


def _largest_read(sch: Any, block: Any) -> tuple[Sequence[Any], Sequence[int]]:
    """The region and the shape of the largest tensor that a block reads, not counting its own result."""
    b = sch.get(block)
    reads = [r for r in b.reads if not r.source.same_as(b.writes[0].source)]
    shapes = [tuple(int(n) for n in r.source.shape) for r in reads]
    if not reads:
        return (), ()
    largest = max(range(len(reads)), key=lambda i: prod(shapes[i]))
    return reads[largest].region, shapes[largest]


def _variables(expr: Any) -> Iterator[Any]:
    """The variables of an expression."""
    if isinstance(expr, int):
        return iter(())
    found: list[Any] = []
    tvm_ffi.structural_walk(expr, (tirx.Var, found.append), order="post")
    return iter(found)
