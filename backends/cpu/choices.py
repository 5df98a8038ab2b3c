"""Choices between ways to compute a convolution that were measured, where the cost model would choose another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convc.ir.graph import Node, Value
from convc.ir.op import Op
from convc.ir.ops.winograd_conv import WinogradConv
from convc.ir.text import print_node


@dataclass(frozen=True)
class Choices:
    """The name of an algorithm (``algorithm``) by the text of a convolution (``kernel``)."""

    algorithms: Mapping[str, str] = field(default_factory=dict)

    def choose(self, node: Node, ranked: Sequence[Op]) -> Op:
        """The op chosen for a convolution, of those given; the first where none of them was."""
        wanted = self.algorithms.get(kernel(node)) if self.algorithms else None
        return next((op for op in ranked if algorithm(op) == wanted), ranked[0])


def kernel(node: Node) -> str:
    """A convolution as text: its attributes and the types of its operands and result, which names are no part of."""
    attributes = print_node(Node(node.op, (), (Value("y", node.output.type),))).partition("()")[2]
    return f"{node.op.name}({', '.join(str(v.type) for v in node.inputs)}) -> {node.output.type}{attributes}"


def algorithm(op: Op) -> str:
    """What an algorithm is called: ``direct``, or ``winograd 4x4``, by its tile of outputs."""
    return f"winograd {'x'.join(map(str, op.tile))}" if isinstance(op, WinogradConv) else "direct"
