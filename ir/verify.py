"""The verifier: it derives every type anew and checks that each value is defined once, before its use."""

from __future__ import annotations

from collections.abc import Mapping

from . import data_sizes
from .assumptions import Assumption, Assumptions
from .builder import infer_types
from .errors import GraphError, plural
from .graph import Constant, Graph, Node, Value
from .limits import check, check_type
from .sizes import names


class Verified:
    """The nodes and constants that the verifier found sound, so that it need not look at them again after each pass.

    They are immutable, and known by their identity. What a node's types were derived under counts as part of it.
    """

    def __init__(self) -> None:
        self._found: dict[frozenset[Assumption], dict[int, Node | Constant]] = {}

    def under(self, assumed: Mapping[Assumption, str]) -> dict[int, Node | Constant]:
        """What was found sound under these assumptions, by ``id``, which stays in use as long as this object lives."""
        return self._found.setdefault(frozenset(assumed), {})


def verify(
    graph: Graph,
    stage: str = "",
    outer: Mapping[Assumption, str] | None = None,
    verified: Verified | None = None,
) -> None:
    """Raises ``GraphError`` when the graph is malformed, naming the node and the stage that made it.

    What inference assumes of open sizes must be among the graph's assumptions, or those of the graph around it. Nodes
    in ``verified`` are not derived again, and those that are found sound join it.
    """
    where = f" after {stage}" if stage else ""
    assumed = {**(outer or {}), **graph.assumptions}
    verified = Verified() if verified is None else verified
    sound = verified.under(assumed)
    defined: dict[str, Value] = {}

    def define(value: Value) -> None:
        if value.name in defined:
            raise GraphError(f"'{value.name}' is defined twice{where}")
        defined[value.name] = value

    def use(value: Value, user: Node | None) -> None:
        if defined.get(value.name) == value:
            return
        what = "return" if user is None else user.describe()
        if value.name not in defined:
            raise GraphError(f"{what} uses '{value.name}', which is not defined before it{where}")
        raise GraphError(f"{what} takes '{value.name}' for {value.type}, but it is {defined[value.name].type}{where}")

    def use_sizes(node: Node) -> None:
        if ahead and (early := next((name for name in data_sizes.used(node) if name in ahead), None)):
            raise GraphError(f"{node.describe()} uses size '{early}', which data decides after it{where}")
        for size in data_sizes.defined(node):
            if size.name not in ahead:
                raise GraphError(f"{node.describe()} defines size '{size.name}', which is defined already{where}")
            ahead.remove(size.name)

    check("nodes", len(graph.nodes), f"graph '{graph.name}'")
    ahead = data_sizes.decided_by_data(graph).keys() - {
        n.name for v in graph.inputs for d in v.type.shape for n in names(d)
    }
    for v in graph.inputs:
        check_type(v.type, f"input '{v.name}'")
        define(v)
    for name, constant in graph.constants.items():
        if id(constant) not in sound:
            check_type(constant.type, f"constant '{name}'")
            sound[id(constant)] = constant
        define(Value(name, constant.type))
    for node in graph.nodes:
        for v in node.inputs:
            use(v, node)
        use_sizes(node)
        if id(node) not in sound:
            _check_types(node, assumed, where)
            for body in node.op.bodies():
                verify(body, stage, assumed, verified)
            sound[id(node)] = node
        for v in node.outputs:
            define(v)
    for v in graph.outputs:
        use(v, None)
    if len(graph.output_names) != len(graph.outputs):
        raise GraphError(
            f"{plural(len(graph.outputs), 'output')} with {plural(len(graph.output_names), 'name')}{where}"
        )


def _check_types(node: Node, assumed: Mapping[Assumption, str], where: str) -> None:
    """Raises ``GraphError`` when a node's types are not those that its op gives under these assumptions."""
    found = Assumptions(assumed)
    with found.noted(""):
        derived = infer_types(node.op, node.inputs)
    stated = tuple(v.type for v in node.outputs)
    if derived != stated:
        gives, says = (", ".join(map(str, types)) for types in (derived, stated))
        raise GraphError(f"{node.describe()} gives {gives}, not {says} as stated{where}")
    if len(found.made) > len(assumed):
        (*_, missing) = found.made
        raise GraphError(f"{node.describe()} needs {missing}, which the graph does not assume{where}")
