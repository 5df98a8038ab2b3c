"""Read ONNX models into graphs.

What the outputs need is imported, in topological order. Shape arithmetic, nodes whose inputs are all constant, is
evaluated at once by onnx's reference implementation, so that its results are known where they are needed as shapes. A
node that no function imports is expanded to the function body of its ONNX schema, if there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper

import convc.ir.contrib  # registers ONNX Runtime's operators
import convc.ir.ops  # noqa: F401  registers every op
from convc.ir.builder import Builder
from convc.ir.errors import ConvcError, ModelFileError, NotConstantError, ShapeError, UnsupportedOpError, plural
from convc.ir.graph import Graph, Value
from convc.ir.limits import Folding, Limits, check, guarded
from convc.ir.onnx_io import ImportNode, WholeModel, importer_of
from convc.ir.passes.fix_shapes import checked_shapes
from convc.ir.rewrite import drop_dead
from convc.ir.sizes import Size
from convc.ir.verify import verify

from ..runtime.foreign import foreign
from .bodies import Attributes, body_of, schema_body
from .check import check_model, check_node
from .control import CONTROL
from .fold import fold
from .functions import Functions, expanded, plain_domain
from .ports import Choices, chosen_inputs, chosen_outputs, input_type, input_value, misdeclared, model_opsets
from .scope import Scope, describe
from .sequences import SEQUENCES, Call, Item, kind_of, tensors_of, with_names
from .survey import survey
from .tensors import read_tensor
from .wire import Outside, read_apart

Shapes = Mapping[str, Sequence[int]]


def load_onnx(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    shapes: Shapes | None = None,
    limits: Limits | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """The graph of an ONNX model: a path, the bytes of a file, or a ``ModelProto``.

    ``shapes`` fixes the sizes of inputs by name, for models whose sizes are dynamic. ``values`` makes constants of
    inputs, by name. ``outputs`` names the values that the graph returns, in place of the model's outputs: any value of
    the model's own graph. Raises ``ModelFileError`` when the file is not a well-formed model, ``UnsupportedOpError``
    when it needs what convc does not compile, ``LimitError`` when it goes beyond ``limits``, and ``InputError`` for a
    value that does not fit its input.
    """
    with guarded(limits):
        return import_model(*read_model(source), Choices(shapes or {}, values or {}, tuple(outputs or ())))


def import_model(model: onnx.ModelProto, outside: Outside, choices: Choices, surveyed: bool = False) -> Graph:
    """The graph of a model that was read. ``outside`` holds what is not in it. Raises the errors of ``load_onnx``.

    ``surveyed`` says that ``check_all`` was called before.
    """
    with guarded():
        if not surveyed:
            check_all(model, outside, choices)
        graph = _Importer(model, outside, choices).run()
        verify(graph, "import")
        return graph


def check_all(model: onnx.ModelProto, outside: Outside, choices: Choices) -> None:
    """Raises the errors of ``load_onnx`` that do not depend on sizes and values of inputs."""
    check_model(model)
    survey(model, outside.folder, chosen_outputs(model, choices.outputs), model_opsets(model))


def read_model(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Outside]:
    """The parsed model, and what is outside of it: large weights, and the folder of external data, which is not read
    yet.
    """
    if isinstance(source, onnx.ModelProto):
        return source, Outside()
    folder = None
    name = "the given bytes" if isinstance(source, bytes) else f"'{Path(source)}'"
    try:
        if isinstance(source, bytes):
            data, weights = _read(BytesIO(source), name)
        else:
            folder = Path(source).resolve().parent
            with open(source, "rb") as file:
                data, weights = _read(file if file.seekable() else BytesIO(file.read()), name)
    except (OSError, ValueError) as e:
        what = foreign(source)
        raise ModelFileError(f"cannot read {name}: {what or getattr(e, 'strerror', None) or e}") from None
    if not data:
        raise ModelFileError(f"{name}: the file is empty")
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, RuntimeError, ValueError) as e:
        what = foreign(source)
        raise ModelFileError(f"{name}: not an ONNX model{f': {what}' if what else f', or truncated ({e})'}") from None
    if not model.HasField("graph") and (what := foreign(source)):
        raise ModelFileError(f"{name}: not an ONNX model: {what}")
    return model, Outside(folder, weights)


def _read(file: BinaryIO, name: str) -> tuple[bytes, dict[bytes, np.ndarray]]:
    """The content of a file by ``read_apart``. Raises ``LimitError``, before reading, when it is too long."""
    check("file_bytes", file.seek(0, os.SEEK_END), name)
    return read_apart(file)


_SIMPLE = frozenset(
    onnx.AttributeProto.AttributeType.Value(kind) for kind in ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")
)


def _types(n: ImportNode) -> str:
    """The types of the node's inputs, as text."""
    types = ("none" if v is None else str(v.type) if isinstance(v, Value) else kind_of(v) for v in n.inputs)
    return ", ".join(types) or "none"


def _misfit(n: ImportNode) -> str:
    """The message about a node on which its importer failed by an error of Python."""
    attributes = ", ".join(
        f"{a.name}={str(n.attr(a.name))[:80] if a.type in _SIMPLE else '...'}" for a in n.proto.attribute
    )
    return (
        f"its inputs ({_types(n)}) and attributes ({attributes or 'none'}) do not fit the definition of "
        f"{n.operator} (opset {n.opset})"
    )


class _Importer:
    def __init__(self, model: onnx.ModelProto, outside: Outside, choices: Choices) -> None:
        self.model = model
        self.outside = outside
        self.choices = choices
        self.functions = Functions(model.functions)
        self.builder = Builder(model.graph.name or "main")
        self.builder.reads_inputs = choices.reads
        self.whole = WholeModel(model.graph)
        self.imported = 0
        self.folding = Folding()
        self.depths: dict[str, int] = {}
        """How deep in functions and subgraphs each value was given its name."""

    def run(self) -> Graph:
        graph, shapes, values = self.model.graph, checked_shapes(self.choices.shapes), self.choices.values
        outputs = chosen_outputs(self.model, self.choices.outputs)
        self.builder.reserve([o for n in graph.node for o in n.output if o])
        given: dict[str, Item] = {}
        for info in chosen_inputs(self.model, self.choices):
            given[info.name] = self.builder.input(info.name, input_type(info, shapes.get(info.name)))
        for info in graph.input:
            if info.name in values:
                given[info.name] = self.builder.constant(input_value(info, values[info.name]), info.name)
        try:
            scope = self.scope(graph, given, outputs, model_opsets(self.model), 0)
        except (ShapeError, NotConstantError) as e:
            for v in self.builder.inputs:
                if not v.type.is_static:
                    names = ", ".join(dict.fromkeys(str(d) for d in v.type.shape if isinstance(d, Size)))
                    e.within(f"input '{v.name}' leaves sizes open ({names}; shapes={{'{v.name}': ...}} fixes them)")
            raise
        return drop_dead(self.builder.finish([self.output(name, scope) for name in outputs], outputs))

    def output(self, name: str, scope: Scope) -> Value:
        item = scope.find(name)
        if item is None:
            raise ModelFileError(f"output '{name}' is made by no node")
        if not isinstance(item, Value):
            raise UnsupportedOpError(
                f"output '{name}' is {kind_of(item)}; only tensors can be returned: name tensors of the model with "
                "outputs=[...] (--outputs)"
            )
        declared = next((o for o in self.model.graph.output if o.name == name), None)
        if declared is not None and (why := misdeclared(declared, item)):
            raise ModelFileError(f"output '{name}' {why}")
        return item

    def scope(
        self,
        graph: onnx.GraphProto,
        given: Mapping[str, Item],
        wanted: Sequence[str],
        opsets: Mapping[str, int],
        depth: int,
        outer: Scope | None = None,
    ) -> Scope:
        """Import what the wanted values of a graph, of a subgraph or of a function body need."""
        check("depth", depth, "the model, in its functions or subgraphs,")
        tensors = [t for t in graph.initializer if t.name not in given]
        scope = Scope(
            graph.node, given, wanted, opsets,
            depth=depth, outer=outer, tensors=tensors, node=self.node, tensor=self.tensor,
        )  # fmt: skip
        for sparse in graph.sparse_initializer:
            if sparse.values.name in scope.read:
                raise UnsupportedOpError(f"sparse initializer '{sparse.values.name}' is not supported")
        scope.need(wanted)
        return scope

    def tensor(self, proto: onnx.TensorProto) -> Value:
        return self.builder.constant(read_tensor(proto, self.outside), proto.name)

    def count(self) -> None:
        """Count one more node, or one more step of a loop. Raises ``LimitError`` when there are too many."""
        self.imported += 1
        check("nodes", self.imported, "the model, its functions expanded and its loops unrolled,")

    def node(self, proto: onnx.NodeProto, scope: Scope) -> None:
        """Import a node, and add what it makes to the scope."""
        self.count()
        items = [scope.find(name) if name else None for name in proto.input]
        for name, item in zip(proto.input, items, strict=True):
            if name and item is None:
                raise ModelFileError(f"{describe(proto)} reads '{name}', which nothing defines")
        since = len(self.builder.nodes)
        with self.builder.assumptions.noted(describe(proto)):
            made = self.call(proto, items, scope)
        # names are unique in the model's own graph, not between the bodies of functions and branches
        wanted = {
            v.name: self.builder.fresh(name) if scope.depth else name
            for name, v in zip(proto.output, made, strict=False)
            if name and isinstance(v, Value) and self.depths.get(v.name, scope.depth + 1) > scope.depth
        }
        renamed = self.builder.rename(wanted, since)
        for name, item in zip(proto.output, made, strict=False):
            if name:
                scope.values[name] = with_names(item, renamed)
                for v in tensors_of(scope.values[name]):
                    self.depths.setdefault(v.name, scope.depth)
        missing = [name for name in proto.output[len(made) :] if name in scope.read]
        if missing:
            raise UnsupportedOpError(f"{describe(proto)}: output '{missing[0]}' is not supported")

    def call(self, proto: onnx.NodeProto, items: Sequence[Item | None], scope: Scope) -> Sequence[Item]:
        """What a node makes of its inputs."""
        domain = plain_domain(proto.domain)
        key = f"{domain}::{proto.op_type}" if domain else proto.op_type
        n = ImportNode(proto, scope.opsets.get(domain, 1), items, self.builder, self.whole)  # type: ignore[arg-type]
        if (function := self.functions.called_by(n)) is not None:
            with self.functions.running(n, function):
                versions = {plain_domain(o.domain): o.version for o in function.opset_import}
                return self.function(n, function, items, versions, scope)
        check_node(n)
        body = partial(self.subgraph, n, scope)
        if key in SEQUENCES:
            return self.convert(n, lambda n: SEQUENCES[key](Call(n, items, partial(self.apply, n, scope), body)))
        if key in CONTROL:
            return self.convert(n, lambda n: CONTROL[key](n, body))
        if key == "Identity" and items and not isinstance(items[0], Value | None):
            return [items[0]]
        for name, item in zip(proto.input, items, strict=True):
            if not isinstance(item, Value | None):
                raise n.error(f"input '{name}' is {kind_of(item)}; {proto.op_type} takes tensors")
        if (folded := fold(n, scope.opsets, self.outside, self.folding)) is not None:
            return folded
        if (importer := importer_of(key)) is not None:
            return self.convert(n, importer)
        return self.expand(n, key, scope)

    def apply(self, n: ImportNode, scope: Scope, op: str, inputs: Sequence[Value], /, **attributes: int) -> Value:
        """Import a further node in place of ``n``."""
        proto = helper.make_node(op, [v.name for v in inputs], ["made"], name=n.proto.name or n.op_type)
        proto.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        (made,) = self.call(proto, inputs, scope)
        assert isinstance(made, Value)
        return made

    def convert(self, n: ImportNode, read: Callable[[ImportNode], Any]) -> list[Item]:
        """The outputs that ``read`` makes of the node. Errors name the node."""
        try:
            result = read(n)
        except ConvcError as e:
            e.within(n.describe())
            raise
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as e:
            raise n.error(_misfit(n)) from e
        return list(result) if isinstance(result, list | tuple) else [result]

    def subgraph(self, n: ImportNode, scope: Scope, graph: onnx.GraphProto, given: Mapping[str, Item]) -> list[Item]:
        """Import a subgraph of a node in place, and return its outputs.

        It sees the values of ``scope`` and of ``given``.
        """
        self.count()
        wanted = [o.name for o in graph.output]
        inner = self.scope(graph, given, wanted, scope.opsets, scope.depth + 1, scope)
        found = [inner.find(name) for name in wanted]
        for declared, item in zip(graph.output, found, strict=True):
            if item is None:
                raise n.error(f"output '{declared.name}' of its subgraph '{graph.name}' is made by no node")
            if isinstance(item, Value) and (why := misdeclared(declared, item)):
                raise n.error(f"output '{declared.name}' of its subgraph '{graph.name}' {why}")
        return [item for item in found if item is not None]

    def expand(self, n: ImportNode, key: str, scope: Scope) -> Sequence[Item]:
        """Import a node as the function body of its ONNX schema. Raises ``UnsupportedOpError`` when it has none."""
        body, defaults = schema_body(expanded(n), n.opset, [None if v is None else v.type for v in n.inputs])
        if body is None:
            raise n.unsupported(f"ONNX op {key} (opset {n.opset}) is not supported for inputs ({_types(n)})")
        versions = {plain_domain(o.domain): o.version for o in body.opset_import}
        return self.function(n, body, n.inputs, {**scope.opsets, **versions}, scope, defaults)

    def function(
        self,
        n: ImportNode,
        f: onnx.FunctionProto,
        items: Sequence[Item | None],
        opsets: Mapping[str, int],
        scope: Scope,
        defaults: Attributes | None = None,
    ) -> list[Item]:
        """Import the body of a function in place of a call, with the call's attributes, and return its outputs.

        Errors name the call, which the user knows, before the node of the body.
        """
        if defaults is None:  # a schema's own body fits, and its caller may leave out what comes last
            for what, formal, actual in (("input", f.input, n.proto.input), ("output", f.output, n.proto.output)):
                if any(actual[len(formal) :]):
                    raise n.error(f"function {f.name} has {plural(len(formal), what)}, and the call {len(actual)}")
        given = {name: v for name, v in zip(f.input, items, strict=False) if v is not None}
        wanted = [o for o, name in zip(f.output, n.proto.output, strict=False) if name in scope.read]
        graph = onnx.GraphProto(node=body_of(f, n.proto, given, defaults or {}))
        try:
            inner = self.scope(graph, given, wanted, opsets, scope.depth + 1)
        except ConvcError as e:
            e.within(f"{n.describe()}, in its function body")
            raise
        made: list[Item] = []
        for o in f.output:
            item = inner.find(o) if o in wanted else None
            if item is None and o in wanted:
                raise n.unsupported(f"its function body does not make output '{o}'")
            made.append(n.constant(np.zeros(0, np.float32)) if item is None else item)
        return made
