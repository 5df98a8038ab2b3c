"""The bodies of functions: of those that a model defines, and of the operators for which ONNX's schemas give one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import onnx
from onnx import defs, helper

from convc.ir.types import TensorType

Attributes = Mapping[str, onnx.AttributeProto]


def body_of(f: onnx.FunctionProto, call: onnx.NodeProto, given: Collection[str], defaults: Attributes) -> list[Any]:
    """The nodes of a function for a call: with the call's attributes, and without the inputs that are not ``given``.

    ``defaults`` are attributes for which neither the function nor the call has a value.
    """
    attributes = {**defaults, **{a.name: a for a in f.attribute_proto}, **{a.name: a for a in call.attribute}}
    left_out = set(f.input) - set(given)
    return [_bind(node, attributes, left_out, call.name or call.op_type) for node in f.node]


def schema_body(
    node: onnx.NodeProto, version: int, types: Sequence[TensorType | None] | None
) -> tuple[onnx.FunctionProto | None, Attributes]:
    """The function body of an operator in ONNX's schemas, if it has one, and the default values of its attributes.

    ``types`` are those of the inputs, on which the body may depend; where they are not known yet, such a body is left
    out.
    """
    schema = _schema(node, version)
    if schema is None:
        return None, {}
    body: onnx.FunctionProto | None = schema.function_body if schema.has_function else None
    if schema.has_context_dependent_function:
        body = None
        if types is not None:
            raw = schema.get_context_dependent_function(node.SerializeToString(), [_proto(t) for t in types])
            body = onnx.FunctionProto.FromString(raw) if raw else None
    if body is None or not body.node:
        return None, {}
    return body, {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}


def depends_on_types(node: onnx.NodeProto, version: int) -> bool:
    """Whether ONNX's schemas give the operator a function body that depends on the types of its inputs."""
    schema = _schema(node, version)
    return schema is not None and bool(schema.has_context_dependent_function)


def _schema(node: onnx.NodeProto, version: int) -> Any:
    """The schema of the node's operator in an opset; ``None`` if there is none."""
    try:
        return defs.get_schema(node.op_type, version, node.domain)
    except defs.SchemaError:
        return None


def _proto(type: TensorType | None) -> bytes:
    if type is None:
        return b""
    code = helper.np_dtype_to_tensor_dtype(type.numpy_dtype)
    made: bytes = helper.make_tensor_type_proto(code, list(type.stated)).SerializeToString()
    return made


def _bind(node: onnx.NodeProto, attributes: Attributes, left_out: Collection[str], prefix: str) -> onnx.NodeProto:
    """A node of a function body with the call's attributes put in, and without the inputs that the call leaves out."""
    bound = onnx.NodeProto()
    bound.CopyFrom(node)
    bound.name = f"{prefix}/{node.name or node.op_type}"
    bound.input[:] = ["" if name in left_out else name for name in node.input]
    del bound.attribute[:]
    for a in node.attribute:
        if a.ref_attr_name and a.ref_attr_name not in attributes:
            continue
        bound.attribute.append(attributes[a.ref_attr_name] if a.ref_attr_name else a)
        bound.attribute[-1].name = a.name
        if a.type == onnx.AttributeProto.GRAPH:
            graph = bound.attribute[-1].g
            inner = [_bind(m, attributes, left_out, prefix) for m in graph.node]
            del graph.node[:]
            graph.node.extend(inner)
    return bound
