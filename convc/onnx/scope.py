"""The values that the nodes of a graph, of a subgraph or of a function body read, each imported when it is needed.

Only what the outputs need is imported. A node that nothing reads is never judged, and neither is what only the branch
of an If needs that is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx

from convc.ir.errors import GraphError, ModelFileError
from convc.ir.graph import Value, sort_topologically

from .sequences import Item


def describe(node: onnx.NodeProto) -> str:
    """A node's operator and name, as errors begin: ``Conv node 'n1'``."""
    return f"{node.op_type} node '{node.name or next((o for o in node.output if o), '')}'"


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The subgraphs that a node holds as attributes."""
    found = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found + [g for a in node.attribute if a.type == onnx.AttributeProto.GRAPHS for g in a.graphs]


def reads(node: onnx.NodeProto, branches: bool = True) -> list[str]:
    """The names of the values that a node reads, also those that its subgraphs read from around them.

    Without ``branches`` what only the branches of an If read is left out: one branch of the two is taken.
    """
    found = dict.fromkeys(name for name in node.input if name)
    if branches or node.op_type != "If":
        for graph in subgraphs(node):
            found |= _free(graph)
    return list(found)


def _free(graph: onnx.GraphProto) -> dict[str, None]:
    """The names that a subgraph reads and does not define."""
    defined = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    defined |= {o for n in graph.node for o in n.output}
    read = {name: None for n in graph.node for name in reads(n)} | {o.name: None for o in graph.output}
    return {name: None for name in read if name not in defined}


def needed(nodes: Sequence[onnx.NodeProto], wanted: Iterable[str]) -> tuple[list[int], set[str]]:
    """The indices of the nodes that the wanted values depend on, in the given order, and the names that are read."""
    writer = {name: i for i, n in enumerate(nodes) for name in n.output if name}
    found: set[int] = set()
    names = set(wanted)
    todo = list(names)
    while todo:
        i = writer.get(todo.pop())
        if i is None or i in found:
            continue
        found.add(i)
        more = set(reads(nodes[i])) - names
        names |= more
        todo += more
    return sorted(found), names


class Scope:
    """Values by their ONNX names: those given, and those of tensors and nodes, which are imported on demand."""

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        values: Mapping[str, Item],
        wanted: Sequence[str],
        opsets: Mapping[str, int],
        *,
        depth: int,
        outer: Scope | None,
        tensors: Iterable[onnx.TensorProto],
        node: Callable[[onnx.NodeProto, Scope], None],
        tensor: Callable[[onnx.TensorProto], Value],
    ) -> None:
        """``wanted`` names the values that are returned. A subgraph also sees the values of ``outer``.

        ``node`` imports a node and adds what it makes to ``values``; ``tensor`` imports a tensor. Nothing is imported
        yet. Raises ``ModelFileError`` for a cycle, or a value that two nodes write.
        """
        self.values = dict(values)
        self.opsets = opsets
        self.depth = depth
        self._outer = outer
        self._nodes = nodes
        self._node, self._tensor = node, tensor
        self._tensors = {t.name: t for t in tensors}
        try:
            order = sort_topologically(
                nodes,
                lambda i: reads(nodes[i]),
                lambda i: [o for o in nodes[i].output if o],
                lambda i: describe(nodes[i]),
            )
        except GraphError as e:
            raise ModelFileError(str(e)) from None
        self._place = {i: place for place, i in enumerate(order)}
        self._writer = {name: i for i, n in enumerate(nodes) for name in n.output if name}
        self._started: set[int] = set()
        self.read = {name for n in nodes for name in reads(n)} | set(wanted)
        """The names that some node reads or the caller wants; other outputs of nodes need not be made."""

    def need(self, wanted: Iterable[str]) -> None:
        """Import the tensors and nodes that the wanted values depend on and that were not imported yet."""
        names = dict.fromkeys(wanted)
        todo = list(names)
        found: set[int] = set()
        while todo:
            i = self._writer.get(todo.pop())
            if i is None or i in found or i in self._started:
                continue
            found.add(i)
            more = [name for name in reads(self._nodes[i], branches=False) if name not in names]
            names.update(dict.fromkeys(more))
            todo += more
        for name in [name for name in self._tensors if name in names]:
            self.values[name] = self._tensor(self._tensors.pop(name))
        if self._outer is not None:  # before, so that a loop's body holds nothing from around it
            for name in names:
                if name not in self._writer and name not in self.values:
                    self._outer.find(name)
        for i in sorted(found, key=self._place.__getitem__):
            if i not in self._started:
                self._started.add(i)
                self._node(self._nodes[i], self)

    def find(self, name: str) -> Item | None:
        """The value of a name, or ``None`` when nothing defines it."""
        if name not in self.values and (name in self._writer or name in self._tensors):
            self.need([name])
        found = self.values.get(name)
        return self._outer.find(name) if found is None and self._outer is not None else found
