"""Sizes that data decides: how many boxes are found, how many elements are not zero, how many of the best are taken.

The code computes such a number as any other, into memory. A node ``read_sizes`` says that the integers in a tensor are
sizes from there on: it defines a named size for each (``u0``, ``u1``, ...), with bounds. Types and attributes of later
nodes refer to these names, as to the named sizes of inputs, so that inference, kernels with extents, and plans of
expressions are what they are for open inputs.

An op whose result is as large as data says (``Op.counted``) gives a whole tensor, as large as it can be, and the number
of elements in use, which come first. ``read_sizes`` makes a size of the number, and ``trim`` takes the elements:

    %whole: i64[2,12], %n: i64[1] = non_zero(%x)
    %r: i64[1] = read_sizes(%n) {sizes=["u0"]}
    %t: i64[2,"u0"] = trim(%whole) {axis=1, size="u0"}

A node must stand after the one that defines the names in its attributes and results, whether it reads a value of that
node or not: the verifier checks it, and ``drop_dead`` keeps a ``read_sizes`` as long as its names are used. Such a name
is unlike any other: two nodes that define sizes never become one, and nothing is folded for a typical value.

A call runs in *segments* (``segments_of``): the code up to where sizes are read, then the rest, which is planned for
these sizes (``convc/runtime/cpu/segments.py``). Reads that do not depend on each other share the end of a segment. Each
segment has a workspace of its own, so that planning a later one moves nothing that an earlier one has written.

A size that data decides may be 0, and code cannot be made again for a value that it does not take. So inference should
assume as little of these sizes as it can. What it does assume is checked when they have been read, and an error names
the node and the size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .errors import UnsupportedOpError
from .graph import Graph, Node
from .op import READ
from .sizes import Named, Size, names

TRIM = "trim"
"""The name of the op ``Trim``, whose class cannot be imported here because it depends on this module."""
TYPICAL = 64
"""The typical value of a size that data decides."""


def is_read(node: Node) -> bool:
    """Whether a node defines sizes."""
    return node.op.name == READ


def defined(node: Node) -> tuple[Named, ...]:
    """The named sizes that a node defines."""
    return tuple(n for size in node.op.defines() for n in names(size))


def used(node: Node) -> Iterator[str]:
    """The names of sizes in a node's attributes and results, without those that it defines. A name may come twice."""
    own = {n.name for n in defined(node)}
    found = [*node.op.named_sizes(), *(n for v in node.outputs for d in v.type.shape for n in names(d))]
    return (n.name for n in found if n.name not in own)


def decided_by_data(graph: Graph) -> dict[str, Named]:
    """The sizes that data decides, by name."""
    return {n.name: n for node in graph.nodes for n in defined(node)}


def segments_of(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes in as few segments as possible, in an order in which no size is used before a segment that reads it.

    Within a segment the nodes keep their order. Those that the runtime does (``Op.between_segments``) count to the
    segment after which it does them.
    """
    of_value: dict[str, int] = {}
    of_size: dict[str, int] = {}
    made: list[list[Node]] = [[]]
    for node in nodes:
        before = [of_value.get(v.name, 0) for v in node.inputs] + [of_size.get(name, 0) for name in used(node)]
        at = max(before, default=0)
        later = node.op.between_segments and not is_read(node)
        of_value |= dict.fromkeys((v.name for v in node.outputs), at + later)
        of_size |= dict.fromkeys((n.name for n in defined(node)), at + 1)
        while len(made) <= at:
            made.append([])
        made[at].append(node)
    return made


def check_trimmed(graph: Graph) -> None:
    """Raise ``UnsupportedOpError`` when something but a trim by their number reads the elements of a counted result,
    which no ONNX model can express.
    """
    for node in graph.nodes:
        if node.op.counted is None:
            continue
        reads = [n for n in graph.consumers[node.outputs[1].name] if is_read(n)]
        counts = {Size.of(named) for n in reads for named in defined(n)}
        for i in node.op.counted_results:
            whole = node.outputs[i]
            if whole.type.is_empty:
                continue
            trims = graph.consumers[whole.name]
            trimmed = [n for n in trims if n.op.name == TRIM and getattr(n.op, "size", None) in counts]
            if whole.name in graph.output_set or len(trimmed) < len(trims):
                raise UnsupportedOpError(
                    f"'{whole.name}' has more elements than count, which ONNX cannot say: trim it to their number"
                )
