"""Read ONNX models into graphs.

Nodes are imported in topological order. Shape arithmetic, nodes whose inputs are all constant, is evaluated at once by
onnx's reference implementation, so that its results are known where they are needed as shapes. A node that no function
imports is expanded to the function body of its ONNX schema, if there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import defs, helper

import convc.ir.contrib  # registers ONNX Runtime's operators
import convc.ir.ops  # noqa: F401  registers every op
from convc.ir.builder import Builder
from convc.ir.errors import ConvcError, GraphError, ModelFileError, UnsupportedOpError
from convc.ir.graph import Graph, Value, sort_topologically
from convc.ir.limits import Folding, Limits, check, guarded
from convc.ir.onnx_io import ImportNode, WholeModel, dtype_from_onnx, importer_of
from convc.ir.passes.fix_shapes import checked_shapes
from convc.ir.rewrite import drop_dead
from convc.ir.sizes import Dim, mismatch
from convc.ir.types import TensorType
from convc.ir.verify import verify

from ..files import read_bytes
from ..runtime.foreign import foreign
from .check import check_names, check_node, check_text
from .control import CONTROL
from .fold import fold
from .functions import Functions, plain_domain
from .tensors import read_tensor

Shapes = Mapping[str, Sequence[int]]


def load_onnx(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto, shapes: Shapes | None = None, limits: Limits | None = None
) -> Graph:
    """The graph of an ONNX model: a path, the bytes of a file, or a ``ModelProto``.

    ``shapes`` fixes the sizes of inputs by name, for models whose sizes are dynamic. Raises ``ModelFileError`` when
    the file is not a well-formed model, ``UnsupportedOpError`` when it needs what convc does not compile,
    ``LimitError`` when it goes beyond ``limits``.
    """
    with guarded(limits):
        return import_model(*read_model(source), shapes)


def import_model(model: onnx.ModelProto, folder: Path | None, shapes: Shapes | None = None) -> Graph:
    """The graph of a model that was read. ``folder`` holds its external data. Raises the errors of ``load_onnx``."""
    with guarded():
        graph = _Importer(model, folder, shapes or {}).run()
        verify(graph, "import")
        return graph


def model_inputs(model: onnx.ModelProto, shapes: Shapes | None = None) -> list[Value]:
    """The inputs of a model, some of whose shapes are given by ``shapes``.

    Raises ``ModelFileError`` for an input without a shape, ``UnsupportedOpError`` for one that is no tensor.
    """
    importer = _Importer(model, None, shapes or {})
    weights = {t.name for t in model.graph.initializer}
    return [Value(i.name, importer.input_type(i)) for i in model.graph.input if i.name not in weights]


def read_model(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None]:
    """The parsed model, and the folder in which its external data must lie. External data is not read yet."""
    if isinstance(source, onnx.ModelProto):
        return source, None
    folder = None
    given: str | os.PathLike[str] | bytes = source
    name = "the given bytes"
    if not isinstance(source, bytes):
        path = Path(source)
        name = f"'{path}'"
        try:
            folder = path.resolve().parent
            source = read_bytes(path, "file_bytes")
        except (OSError, ValueError) as e:
            what = foreign(given)
            raise ModelFileError(f"cannot read {name}: {what or getattr(e, 'strerror', None) or e}") from None
    if not source:
        raise ModelFileError(f"{name}: the file is empty")
    check("file_bytes", len(source), name)
    try:
        model = onnx.ModelProto.FromString(source)
    except (DecodeError, RuntimeError, ValueError) as e:
        what = foreign(given)
        raise ModelFileError(f"{name}: not an ONNX model{f': {what}' if what else f', or truncated ({e})'}") from None
    if not model.HasField("graph") and (what := foreign(given)):
        raise ModelFileError(f"{name}: not an ONNX model: {what}")
    return model, folder


class _Importer:
    def __init__(self, model: onnx.ModelProto, folder: Path | None, shapes: Shapes) -> None:
        self.model = model
        self.folder = folder
        self.shapes = checked_shapes(shapes)
        if not model.HasField("graph") or not model.graph.output:
            raise ModelFileError("not an ONNX model: it holds no graph with outputs")
        self.opsets = {plain_domain(o.domain): o.version for o in model.opset_import} or {"": 1}
        newest = defs.onnx_opset_version()
        if min(self.opsets.values()) < 1:
            raise ModelFileError(f"the model uses opset {min(self.opsets.values())}; opsets count from 1")
        if self.opsets.get("", 1) > newest:
            raise ModelFileError(
                f"the model uses ONNX opset {self.opsets['']}; the installed onnx knows up to {newest}: upgrade onnx, "
                "or export with an older opset"
            )
        self.functions = Functions(model.functions)
        self.builder = Builder(model.graph.name or "main")
        self.whole = WholeModel(model.graph)
        self.imported = 0
        self.folding = Folding()

    def run(self) -> Graph:
        graph = self.model.graph
        for what in ("node", "initializer", "input", "output"):
            check("nodes", len(getattr(graph, what)), f"the model's list of {what}s")
        check_text(self.model)
        check_names(graph)
        env: dict[str, Value] = {}
        self.builder.reserve([o for n in graph.node for o in n.output if o])
        for tensor in graph.initializer:
            env[tensor.name] = self.builder.constant(read_tensor(tensor, self.folder), tensor.name)
        for sparse in graph.sparse_initializer:
            raise UnsupportedOpError(f"sparse initializer '{sparse.values.name}' is not supported")
        for info in graph.input:
            if info.name not in env:
                env[info.name] = self.builder.input(info.name, self.input_type(info))
        unknown = set(self.shapes) - {v.name for v in self.builder.inputs}
        if unknown:
            raise ModelFileError(
                f"shapes names input '{sorted(unknown)[0]}', which the model lacks; its inputs are "
                f"{', '.join(v.name for v in self.builder.inputs)}"
            )
        self.nodes(graph.node, env, self.opsets, 0)
        outputs = []
        for info in graph.output:
            if info.name not in env:
                raise ModelFileError(f"output '{info.name}' is made by no node")
            outputs.append(env[info.name])
        return drop_dead(self.builder.finish(outputs, [o.name for o in graph.output]))

    def input_type(self, info: onnx.ValueInfoProto) -> TensorType:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            raise UnsupportedOpError(
                f"input '{info.name}' is a {kind or 'value of no type'}; only tensors are supported"
            )
        tensor = info.type.tensor_type
        given = self.shapes.get(info.name)
        dims: list[Dim] = []
        if not tensor.HasField("shape") and given is None:
            raise ModelFileError(
                f"input '{info.name}' has no shape; give one with shapes={{'{info.name}': ...}} (--shape)"
            )
        for i, d in enumerate(tensor.shape.dim):
            known = d.HasField("dim_value") and d.dim_value >= 0
            # Paddle writes -1, or "?" several times, for unknown sizes; a given shape overrides what names would equate
            name = d.dim_param if d.dim_param != "?" and given is None else ""
            dims.append(int(d.dim_value) if known else name or f"{info.name}_{i}")
        if given is not None:
            if tensor.HasField("shape") and (why := mismatch(f"input '{info.name}'", dims, given)):
                raise ModelFileError(
                    f"the shape {list(given)} given for input '{info.name}' does not fit the model: {why}"
                )
            dims = [int(g) for g in given]
        try:
            return TensorType(dtype_from_onnx(tensor.elem_type), tuple(dims))
        except ConvcError as e:
            e.within(f"input '{info.name}'")
            raise

    def nodes(
        self, protos: Sequence[onnx.NodeProto], env: dict[str, Value], opsets: Mapping[str, int], depth: int
    ) -> None:
        """Import nodes in topological order; ``env`` maps ONNX names to values and grows."""
        check("depth", depth, "the model, in its functions or subgraphs,")

        def writes(i: int) -> list[str]:
            return [o for o in protos[i].output if o]

        try:
            order = sort_topologically(
                protos,
                lambda i: protos[i].input,
                writes,
                lambda i: f"{protos[i].op_type} node '{protos[i].name or ''.join(protos[i].output[:1])}'",
            )
        except GraphError as e:
            raise ModelFileError(str(e)) from None
        for i in order:
            self.node(protos[i], env, opsets, depth)

    def count(self) -> None:
        """Count one more node, or one more step of a loop. Raises ``LimitError`` when there are too many."""
        self.imported += 1
        check("nodes", self.imported, "the model, its functions expanded and its loops unrolled,")

    def node(self, proto: onnx.NodeProto, env: dict[str, Value], opsets: Mapping[str, int], depth: int) -> None:
        self.count()
        domain = plain_domain(proto.domain)
        key = f"{domain}::{proto.op_type}" if domain else proto.op_type
        for name in proto.input:
            if name and name not in env:
                what = f"{proto.op_type} node '{proto.name or ''.join(proto.output[:1])}'"
                raise ModelFileError(f"{what} reads '{name}', which nothing defines")
        inputs = [env[name] if name else None for name in proto.input]
        n = ImportNode(proto, opsets.get(domain, 1), inputs, self.builder, self.whole)
        function = self.functions.called_by(n)
        if function is None:
            check_node(n)
        made: Sequence[Value]
        since = len(self.builder.nodes)
        if function is not None:
            with self.functions.running(n, function):
                versions = {plain_domain(o.domain): o.version for o in function.opset_import}
                made = self.function(n, function, inputs, versions, depth)
        elif (folded := fold(n, opsets, self.folder, self.folding)) is not None:
            made = folded
        elif key in CONTROL:
            body = partial(self.subgraph, n, env, opsets, depth)
            made = self.convert(n, lambda n: CONTROL[key](n, body))
        elif (importer := importer_of(key)) is not None:
            made = self.convert(n, importer)
        else:
            made = self.expand(n, key, opsets, depth)
        # names are unique in the model's own graph, not between the bodies of functions and branches
        wanted = {
            v.name: self.builder.fresh(name) if depth else name
            for name, v in zip(proto.output, made, strict=False)
            if name
        }
        renamed = self.builder.rename(wanted, since)
        for name, value in zip(proto.output, made, strict=False):
            if name:
                env[name] = renamed.get(value.name, value)
        missing = [name for name in proto.output[len(made) :] if name]
        if missing:
            raise n.unsupported(f"output '{missing[0]}' is not supported")

    def convert(self, n: ImportNode, read: Callable[[ImportNode], Any]) -> list[Value]:
        """The outputs that ``read`` makes of the node. Errors name the node."""
        try:
            result = read(n)
        except ConvcError as e:
            e.within(n.describe())
            raise
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as e:
            raise n.error(f"its inputs or attributes do not fit the op ({type(e).__name__}: {e})") from e
        return [result] if isinstance(result, Value) else list(result)

    def subgraph(
        self,
        n: ImportNode,
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
        graph: onnx.GraphProto,
        given: Mapping[str, Value],
    ) -> list[Value]:
        """Import a subgraph of a node in place, and return its outputs.

        It sees the values of ``env`` and of ``given``.
        """
        self.count()
        scope = {**env, **given}
        for tensor in graph.initializer:
            scope[tensor.name] = self.builder.constant(read_tensor(tensor, self.folder), tensor.name)
        self.nodes(graph.node, scope, opsets, depth + 1)
        for o in graph.output:
            if o.name not in scope:
                raise n.error(f"output '{o.name}' of its subgraph '{graph.name}' is made by no node")
        return [scope[o.name] for o in graph.output]

    def expand(self, n: ImportNode, key: str, opsets: Mapping[str, int], depth: int) -> list[Value]:
        """Import a node as the function body of its ONNX schema. Raises ``UnsupportedOpError`` when it has none."""
        proto, version = n.proto, n.opset
        why = f"ONNX op {key} (opset {version}) is not supported"
        if all(v is None or self.builder.constant_of(v) is not None for v in n.inputs):
            why += " here: it follows from constants, but it is malformed, or its result too large"
        refusal = UnsupportedOpError(f"{n.describe()}: {why}")
        try:
            schema: Any = defs.get_schema(proto.op_type, version, proto.domain)
        except defs.SchemaError:
            raise refusal from None
        if schema.has_context_dependent_function:
            types = [
                helper.make_tensor_type_proto(
                    helper.np_dtype_to_tensor_dtype(v.type.numpy_dtype), list(v.type.shape)
                ).SerializeToString()
                if v
                else b""
                for v in n.inputs
            ]
            raw = schema.get_context_dependent_function(proto.SerializeToString(), types)
            body = onnx.FunctionProto.FromString(raw) if raw else None
        else:
            body = schema.function_body if schema.has_function else None
        if body is None or not body.node:
            raise refusal
        opsets = {**opsets, **{plain_domain(o.domain): o.version for o in body.opset_import}}
        defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
        return self.function(n, body, n.inputs, opsets, depth, defaults)

    def function(
        self,
        n: ImportNode,
        f: onnx.FunctionProto,
        inputs: Sequence[Value | None],
        opsets: Mapping[str, int],
        depth: int,
        defaults: Mapping[str, onnx.AttributeProto] | None = None,
    ) -> list[Value]:
        """Import the body of a function in place of a call, with the call's attributes, and return its outputs."""
        bound = {**(defaults or {}), **{a.name: a for a in f.attribute_proto}, **{a.name: a for a in n.proto.attribute}}
        given = {name: v for name, v in zip(f.input, inputs, strict=False) if v is not None}
        left_out = set(f.input) - set(given)
        scope = dict(given)
        prefix = n.proto.name or n.op_type
        self.nodes([_bind(node, bound, left_out, prefix) for node in f.node], scope, opsets, depth + 1)
        made = []
        for o, name in zip(f.output, n.proto.output, strict=False):
            if name and o not in scope:
                raise n.unsupported(f"its function body does not make output '{o}'")
            made.append(scope[o] if o in scope else n.constant(np.zeros(0, np.float32)))
        return made


def _bind(
    node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto], left_out: Collection[str], prefix: str
) -> onnx.NodeProto:
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
