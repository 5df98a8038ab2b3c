"""What a model needs that convc lacks, found before anything is imported, and whatever the sizes of its inputs.

All nodes that the outputs need are looked at, those of functions and subgraphs included, so that one error names all
operators that are not supported. Nodes are checked against the schemas, and files of external data must be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from onnx import defs

from convc.ir.errors import ConvcError, ModelFileError, UnsupportedOpError, plural
from convc.ir.graph import Value
from convc.ir.limits import check
from convc.ir.onnx_io import ImportNode, importer_of, is_folded, operators
from convc.ir.types import TensorType

from .bodies import body_of, depends_on_types, schema_body
from .check import check_node
from .control import CONTROL
from .fold import ONLY_FOLDED
from .functions import Functions, plain_domain
from .scope import Scope, describe, subgraphs
from .sequences import SEQUENCES
from .tensors import check_external

Lacking = dict[str, list[ImportNode]]
"""The nodes of each operator that is not supported."""
_SOMETHING: Any = Value("a value", TensorType("f32", ()))


def survey(model: onnx.ModelProto, folder: Path | None, outputs: Sequence[str], opsets: Mapping[str, int]) -> None:
    """Raises ``UnsupportedOpError`` that names every operator which the outputs need and convc lacks, and
    ``ModelFileError`` for a node that breaks its schema, for a cycle, and for external data that is missing.

    Of an If one branch must pass, since which is taken may follow from sizes and values that are not known yet.
    """
    walk = _Survey(model, folder)
    walk.graph(model.graph, {v.name for v in model.graph.input}, outputs, opsets)
    if walk.lacking:
        raise UnsupportedOpError(_refusal(walk.lacking))


class _Survey:
    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self.functions = Functions(model.functions)
        self.folder = folder
        self.lacking: Lacking = {}
        self.count = 0
        self.seen: set[Any] = set()

    def graph(
        self,
        graph: onnx.GraphProto,
        given: Iterable[str],
        wanted: Sequence[str],
        opsets: Mapping[str, int],
        depth: int = 0,
        outer: Scope | None = None,
    ) -> None:
        """Look at what the wanted values of a graph need."""
        check("depth", depth, "the model, in its functions or subgraphs,")
        values = dict.fromkeys(given, _SOMETHING)
        Scope(
            graph.node, values, wanted, opsets,
            depth=depth, outer=outer, tensors=graph.initializer, node=self.node, tensor=self.tensor,
        ).need(wanted)  # fmt: skip

    def tensor(self, proto: onnx.TensorProto) -> Any:
        check_external(proto, self.folder)
        return _SOMETHING

    def node(self, proto: onnx.NodeProto, scope: Scope) -> None:
        self.count += 1
        check("nodes", self.count, "the model, its functions expanded,")
        for name in proto.input:
            if name and scope.find(name) is None:
                raise ModelFileError(f"{describe(proto)} reads '{name}', which nothing defines")
        scope.values.update({name: _SOMETHING for name in proto.output if name})
        domain = plain_domain(proto.domain)
        inputs = [_SOMETHING if name else None for name in proto.input]
        n = ImportNode(proto, scope.opsets.get(domain, 1), inputs, None)  # type: ignore[arg-type]
        if (function := self.functions.called_by(n)) is not None:
            with self.functions.running(n, function):
                self.function(
                    proto, function, {plain_domain(o.domain): o.version for o in function.opset_import}, scope
                )
            return
        check_node(n)
        for a in proto.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                check_external(a.t, self.folder)
        if n.operator in CONTROL or n.operator in SEQUENCES:
            self.subgraphs(proto, scope)
        elif not (importer_of(n.operator) or is_folded(n.operator) or n.operator in ONLY_FOLDED):
            body, defaults = schema_body(proto, n.opset, None)
            if body is not None:
                versions = {plain_domain(o.domain): o.version for o in body.opset_import}
                self.function(proto, body, {**scope.opsets, **versions}, scope, defaults)
            elif not depends_on_types(proto, n.opset):
                self.lacking.setdefault(n.operator, []).append(n)

    def subgraphs(self, proto: onnx.NodeProto, scope: Scope) -> None:
        """Look at the subgraphs of a node; of an If both branches must fail."""
        before, found, errors = self.lacking, [], []
        for graph in subgraphs(proto):
            self.lacking = {}
            given = {v.name for v in graph.input}
            try:
                self.graph(graph, given, [o.name for o in graph.output], scope.opsets, scope.depth + 1, scope)
            except ConvcError as e:
                if proto.op_type != "If":
                    raise
                errors.append(e)
            found.append(self.lacking)
        self.lacking = before
        if proto.op_type == "If" and not all(found):
            if len(errors) == len(found):
                raise errors[0]
            return
        for more in found:
            for operator, nodes in more.items():
                self.lacking.setdefault(operator, []).extend(nodes)

    def function(
        self,
        call: onnx.NodeProto,
        f: onnx.FunctionProto,
        opsets: Mapping[str, int],
        scope: Scope,
        defaults: Mapping[str, onnx.AttributeProto] | None = None,
    ) -> None:
        """Look at the body of a function, once for each way in which it is called."""
        given = {name for name, x in zip(f.input, call.input, strict=False) if x}
        wanted = [o for o, name in zip(f.output, call.output, strict=False) if name in scope.read]
        way = (f.domain, f.name, f.overload, *sorted(given), None, *wanted)
        key = (*way, *(a.SerializeToString() for a in call.attribute))
        if key not in self.seen:
            self.seen.add(key)
            graph = onnx.GraphProto(node=body_of(f, call, given, defaults or {}))
            self.graph(graph, given, wanted, opsets, scope.depth + 1)


def _refusal(lacking: Lacking) -> str:
    lines = []
    for operator, nodes in lacking.items():
        first = nodes[0]
        more = f" ({plural(len(nodes), 'node')})" if len(nodes) > 1 else ""
        lines.append(
            f"{first.describe()}: ONNX op {operator} (opset {first.opset}) is not supported{more}: {_advice(first)}"
        )
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} operators of the model are not supported:\n  " + "\n  ".join(lines)


def _advice(n: ImportNode) -> str:
    """What a user can do about a node whose operator is not supported."""
    domain, _, name = n.operator.rpartition("::")
    known = _names(domain)
    if known and name not in known:
        if close := get_close_matches(name, known, 1):
            return f"did you mean {close[0]}?"
        whose = f"domain '{domain}'" if domain else "ONNX"
        return f"{whose} has no operator '{name}' that convc knows; to compile the part before it, {_CUT}"
    if known:
        return f"to compile the part before it, {_CUT}"
    return (
        f"'{domain}' is a custom domain, whose operators you can add yourself: see docs/extending.md. To compile the "
        f"part before it, {_CUT}"
    )


_CUT = "cut the model with outputs=[...] (--outputs)"


@cache
def _names(domain: str) -> frozenset[str]:
    """The names of all operators of a domain that onnx or convc know."""
    found = {s.name for s in defs.get_all_schemas() if plain_domain(s.domain) == domain}
    prefix = f"{domain}::" if domain else ""
    found |= {name.removeprefix(prefix) for name in operators() if name.rpartition("::")[0] == domain}
    return frozenset(found)
