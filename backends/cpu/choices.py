"""Measured choices between the algorithms for a convolution, which override the cost model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convc.ir.graph import Node, Value
from convc.ir.op import Op
from convc.ir.ops.winograd_conv import WinogradConv
from convc.ir.text import print_node


@dataclass(frozen=True)
class Choices:
    """The measured choices: the name of an algorithm (``algorithm``) by the text of a convolution (``signature``)."""

    algorithms: Mapping[str, str] = field(default_factory=dict)

    def choose(self, node: Node, ranked: Sequence[Op]) -> Op:
        """The op of ``ranked`` that measurements chose for a convolution; the first one where they chose none."""
        wanted = self.algorithms.get(signature(node)) if self.algorithms else None
        return next((op for op in ranked if algorithm(op) == wanted), ranked[0])


def signature(node: Node) -> str:
    """A convolution as text: its attributes and the types of its operands and result. Names of values are left out."""
    attributes = print_node(Node(node.op, (), (Value("y", node.output.type),))).partition("()")[2]
    return f"{node.op.name}({', '.join(str(v.type) for v in node.inputs)}) -> {node.output.type}{attributes}"


def algorithm(op: Op) -> str:
    """The name of an algorithm: ``direct``, or ``winograd 4x4`` with its output tile."""
    return f"winograd {'x'.join(map(str, op.tile))}" if isinstance(op, WinogradConv) else "direct"
