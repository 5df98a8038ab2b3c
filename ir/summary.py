"""The cost of a model, layer by layer: parameters, floating-point operations and bytes. Nothing is computed.

Only types are read, and never the values of constants, so that a model too large for the machine can be studied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .errors import plural
from .graph import Graph


@dataclass(frozen=True)
class Layer:
    """The cost of one node.

    ``parameters`` and ``nbytes`` count the elements and bytes of the constants that the node is the first to read,
    without scalars. ``flops`` is ``None`` when a size is dynamic.
    """

    name: str
    op: str
    output: str
    parameters: int
    flops: int | None
    nbytes: int


@dataclass(frozen=True)
class Summary:
    """The layers of a graph, and their totals."""

    layers: tuple[Layer, ...]

    def __repr__(self) -> str:
        return f"<Summary of {plural(len(self.layers), 'layer')}: {self.totals()}; table() lists them>"

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """The bytes of all parameters."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def flops(self) -> int | None:
        """Floating-point operations of one run, a multiply-add counting as two; ``None`` when a size is dynamic."""
        counts = [layer.flops for layer in self.layers if layer.flops is not None]
        return sum(counts) if len(counts) == len(self.layers) else None

    def table(self) -> str:
        """A table of the layers, one per line, with the totals below."""
        rows = [("layer", "op", "output", "parameters", "FLOPs", "bytes")]
        for n in self.layers:
            weights = (f"{n.parameters:,}", human(n.nbytes)) if n.parameters else ("", "")
            rows.append((_shown(n.name), n.op, n.output, weights[0], human(n.flops), weights[1]))
        rows.append(("total", "", "", f"{self.parameters:,}", human(self.flops), human(self.nbytes)))
        lines = _aligned(rows, "<<<>>>")
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def totals(self) -> str:
        """The totals as one line of text."""
        flops = (
            f"{human(self.flops)}FLOP a run" if self.flops is not None else "FLOPs not known while sizes are dynamic"
        )
        return f"{self.parameters:,} parameters ({human(self.nbytes)}B), {flops}"


def summarize(graph: Graph) -> Summary:
    """The cost of each node of a graph."""
    counted: set[str] = set()
    layers = []
    for node in graph.nodes:
        types = []
        for v in node.inputs:
            if v.name in graph.constants and v.name not in counted and v.type.rank:
                counted.add(v.name)
                types.append(v.type)
        flops = node.flops if node.is_static or not node.flops else None
        output = " ".join(str(v.type) for v in node.outputs)
        parameters, nbytes = sum(t.numel for t in types), sum(t.nbytes for t in types)
        layers.append(Layer(node.output.name, node.op.name, output, parameters, flops, nbytes))
    return Summary(tuple(layers))


def human(count: float | None) -> str:
    """A number as text, with three digits and a prefix for a power of 1000: ``14.4 G`` for 14400000000."""
    if count is None:
        return "?"
    for unit in ("", "k", "M", "G", "T", "P"):
        if count < 999.5 or unit == "P":
            break
        count /= 1000
    digits = 0 if not unit or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """A time, given in seconds, as text: ``18.5 hours`` for 66600."""
    for limit, size, unit in (
        (1e-3, 1e-6, "microseconds"),
        (1, 1e-3, "milliseconds"),
        (120, 1, "seconds"),
        (7200, 60, "minutes"),
        (172800, 3600, "hours"),
        (2 * 31557600, 86400, "days"),
    ):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 31557600:,.1f} years"


def _shown(name: str) -> str:
    return name if name.isprintable() else json.dumps(name)


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justify: dict[str, Callable[[str, int], str]] = {"<": str.ljust, ">": str.rjust}
    return [
        "  ".join(justify[side](cell, width) for cell, width, side in zip(row, widths, sides, strict=True)).rstrip()
        for row in rows
    ]
