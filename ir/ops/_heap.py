"""A binary heap in a program of loops, for sorting that tensor expressions cannot express."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..loops import Memory, block, loop, when
from ..lowering import TensorExpressions
from ..sizes import Dim

COUNT, TAKEN, _PLACE, _BELOW, _HELD = range(5)
"""The columns of ``Heap.state``.

``COUNT`` is the number of items in the heap and ``TAKEN`` the item that was popped last. The others are temporary
values of ``_sift``.
"""
SLOTS = 5
"""The number of int32 elements that the heap needs in a row of its state."""


@dataclass(frozen=True)
class Heap:
    """A binary heap of int32 items in row ``row`` of ``items``.

    ``above(a, b)`` tells whether item a belongs above item b. ``state`` has ``SLOTS`` int32 elements in the same row.
    The heap never holds more than ``most`` items.
    """

    k: TensorExpressions
    items: Memory
    state: Memory
    row: Any
    above: Callable[[Any, Any], Any]
    most: Dim

    def build(self) -> Any:
        """Build a heap of the first ``COUNT`` items."""
        k, n = self.k, self.state(self.row, COUNT)
        return loop(k, n // 2, lambda i: self._sift(n // 2 - 1 - i))

    def pop(self) -> Any:
        """Remove the topmost item, which is then in the slot ``TAKEN``."""
        k, row, last = self.k, self.row, self.state(self.row, COUNT) - self.k.const(1, "int32")
        return block(
            k,
            self.state.store(self.items(row, 0), row, TAKEN),
            self.items.store(self.items(row, last), row, 0),
            self.state.store(last, row, COUNT),
            self._sift(k.const(0, "int32")),
        )

    def replace(self, item: Any) -> Any:
        """Replace the topmost item by another one."""
        return block(self.k, self.items.store(item, self.row, 0), self._sift(self.k.const(0, "int32")))

    def _sift(self, start: Any) -> Any:
        """Move the item at an index down until it lies above both items below it."""
        k, row, state, items = self.k, self.row, self.state, self.items
        at, below, n = state(row, _PLACE), state(row, _BELOW), state(row, COUNT)
        one = k.const(1, "int32")
        swap = block(
            k,
            state.store(items(row, at), row, _HELD),
            items.store(items(row, below), row, at),
            items.store(state(row, _HELD), row, below),
            state.store(below, row, _PLACE),
        )
        other = when(k, self.above(items(row, below + one), items(row, below)), state.store(below + one, row, _BELOW))
        step = block(
            k,
            when(k, below + one < n, other),
            when(k, self.above(items(row, below), items(row, at)), swap, state.store(n, row, _PLACE)),
        )
        level = block(k, state.store(2 * at + one, row, _BELOW), when(k, below < n, step))
        return block(k, state.store(start, row, _PLACE), loop(k, self._levels(), lambda _: level))

    def _levels(self) -> Any:
        """The number of levels of the full heap."""
        return self.most.bit_length() if isinstance(self.most, int) else 32 - self.k.tirx.clz(self.most)
