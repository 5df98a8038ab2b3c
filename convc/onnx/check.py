"""Checks of ONNX models against the schemas of the standard, so that importers can rely on the form of nodes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from onnx import defs

from convc.ir.errors import ModelFileError, plural
from convc.ir.limits import check
from convc.ir.onnx_io import SIGNATURES, ImportNode


def check_text(message: Any, where: str = "the model") -> None:
    """Raises ``ModelFileError`` when a text field of a message is not UTF-8, for which protobuf gives bytes."""
    for name, is_text in _texts(message.DESCRIPTOR):
        value = getattr(message, name)
        if is_text:
            for text in [value] if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    raise ModelFileError(f"{where} is damaged: its {name} is not text: {text[:80]!r}")
        elif not hasattr(value, "DESCRIPTOR") or message.HasField(name):
            for inner in [value] if hasattr(value, "DESCRIPTOR") else value:
                check_text(inner, f"{where}'s {name}" if where.count("'s") < 3 else where)


@cache
def _texts(descriptor: Any) -> list[tuple[str, bool]]:
    """The names of a message's fields that are text, or messages, and which of them are text."""
    kinds = {f.name: f.type for f in descriptor.fields if f.type in (f.TYPE_STRING, f.TYPE_MESSAGE)}
    return [(name, kind == FieldDescriptor.TYPE_STRING) for name, kind in kinds.items()]


def check_model(model: onnx.ModelProto) -> None:
    """Raises ``ModelFileError`` for a model without outputs, for text that is none, and for names that stand for two
    things; ``LimitError`` for lists that are too long.
    """
    graph = model.graph
    if not model.HasField("graph") or not graph.output:
        raise ModelFileError("not an ONNX model: it holds no graph with outputs")
    for what in ("node", "initializer", "input", "output"):
        check("nodes", len(getattr(graph, what)), f"the model's list of {what}s")
    check_text(model)
    check_names(graph)


def check_names(graph: onnx.GraphProto) -> None:
    """Raises ``ModelFileError`` when two inputs, two initializers or two outputs have one name, or a node writes an
    input or an initializer.

    Two nodes that write one name are found when nodes are sorted.
    """
    inputs = _unique("inputs", (v.name for v in graph.input))
    initializers = _unique("initializers", (t.name for t in graph.initializer))
    _unique("outputs", (v.name for v in graph.output))
    for node in graph.node:
        for name in node.output:
            if name and name in inputs | initializers:
                kind = "input" if name in inputs else "initializer"
                raise ModelFileError(
                    f"{node.op_type} node '{node.name or name}' writes '{name}', which is also an {kind} of the model"
                )


def _unique(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelFileError(f"two {what} of the model are called '{name}'")
        seen.add(name)
    return seen


def check_node(n: ImportNode) -> None:
    """Raises ``ModelFileError`` unless the node has the inputs, outputs and attributes that its ONNX schema lists.

    An operator for which onnx has no schema has the one of its ``Signature``. A node that has neither passes.
    """
    signature = SIGNATURES.get(n.operator)
    if signature is None:
        schema = _schema(n.op_type, n.opset, "" if n.proto.domain == "ai.onnx" else n.proto.domain)
    else:
        schema = _schema_of(n.operator, signature.inputs, signature.outputs, tuple(signature.attributes.items()))
    check("operands", max(len(n.proto.input), len(n.proto.output)), n.describe())
    if schema is None:
        return
    for what, have, most in (
        ("input", len(n.proto.input), schema.max_input),
        ("output", len(n.proto.output), schema.max_output),
    ):
        if have > most:
            raise n.error(f"it has {plural(have, what)}; {n.op_type} has at most {most}")
    single = defs.OpSchema.FormalParameterOption.Single
    for i, formal in enumerate(schema.inputs):
        if formal.option == single and n.optional(i) is None:
            raise n.error(f"input {i} ('{formal.name}') is missing")
    if len(n.proto.input) < schema.min_input:
        raise n.error(f"it has {plural(len(n.proto.input), 'input')}; {n.op_type} needs at least {schema.min_input}")
    _check_attributes(n, schema)


def _check_attributes(n: ImportNode, schema: Any) -> None:
    given = {a.name: a.type for a in n.proto.attribute}
    for name, kind in given.items():
        if name not in schema.attributes:
            known = ", ".join(schema.attributes) or "none"
            raise n.error(f"{n.op_type} (opset {n.opset}) has no attribute '{name}'; it has: {known}")
        wanted = schema.attributes[name].type
        if kind != wanted.value:
            is_a = onnx.AttributeProto.AttributeType.Name(kind) if kind in _KINDS else f"of unknown type {kind}"
            raise n.error(f"attribute '{name}' is {is_a}; {n.op_type} wants {wanted.name}")
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in given:
            raise n.error(f"attribute '{name}' is missing")


@lru_cache(maxsize=1024)
def _schema_of(
    operator: str, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: tuple[tuple[str, str], ...]
) -> Any:
    """The schema of an operator, from the parts of its ``Signature``."""
    schema = defs.OpSchema
    options = {"?": schema.FormalParameterOption.Optional, "*": schema.FormalParameterOption.Variadic}

    def formal(text: str) -> Any:
        option = options.get(text[-1], schema.FormalParameterOption.Single)
        return schema.FormalParameter(text.rstrip("?*"), "T", param_option=option, is_homogeneous=False)

    domain, _, name = operator.rpartition("::")
    return schema(
        name, domain, 1,
        inputs=[formal(i) for i in inputs],
        outputs=[formal(o) for o in outputs],
        type_constraints=[("T", ["tensor(float)"], "")],
        attributes=[
            schema.Attribute(a, getattr(schema.AttrType, kind.rstrip("!").upper()), "", required=kind.endswith("!"))
            for a, kind in attributes
        ],
    )  # fmt: skip


_KINDS = frozenset(onnx.AttributeProto.AttributeType.values())


@lru_cache(maxsize=1024)
def _schema(op_type: str, version: int, domain: str) -> Any:
    """The schema of an operator in a version; where this version lacks it, that of the nearest version that has it."""
    try:
        schema: Any = defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        schema = None
    if schema is not None and not schema.deprecated:
        return schema
    history: Any = defs.get_all_schemas_with_history()
    found = [s for s in history if (s.name, s.domain, s.deprecated) == (op_type, domain, False)]
    older = [s for s in found if s.since_version <= version]
    since = attrgetter("since_version")
    return max(older, key=since) if older else min(found, key=since, default=None)
