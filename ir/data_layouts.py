"""How a backend wants convolutional data and weights held: what `passes/assign_layouts.py` and `passes/pack_dense.py`
ask.
"""

from __future__ import annotations

from typing import Protocol

from .graph import Graph, Node
from .layout import Layout
from .types import TensorType


class DataLayouts(Protocol):
    """The layouts of one backend. Convolutions alone decide where data is converted; other ops follow."""

    def of(self, graph: Graph) -> DataLayouts:
        """The layouts for the tensors of this graph, where they depend on it."""

    def data(self, t: TensorType) -> Layout:
        """The layout of a tensor ``N C spatial``."""

    def takes(self, node: Node) -> bool:
        """Whether a node is a convolution that can run on data in the backend's layout."""

    def reads_plain(self, node: Node) -> bool:
        """Whether a convolution reads row-major data although its result is in the backend's layout."""

    def worth(self, node: Node) -> float:
        """What running a convolution in the backend's layout saves, in bytes converted."""

    def weight(self, node: Node) -> Layout:
        """The layout of a convolution's weight."""

    def bias(self, node: Node) -> Layout | None:
        """The layout of a convolution's bias."""

    def matrix(self, t: TensorType, *, transposed: bool) -> Layout | None:
        """The layout of a dense layer's constant weight, ``K N`` or, when ``transposed``, ``N K``; ``None`` leaves it
        as it is.
        """


def spatial_letters(t: TensorType) -> str:
    """The letters of the spatial axes of a tensor ``N C spatial``: ``HW`` for rank 4."""
    return "DHW"[5 - t.rank :]
