"""The mapping between ops and ONNX operators: who reads and writes each, and the nodes that they read and write.

A file under ``ir/ops`` registers the mapping of its ops beside their classes. An op whose fields are the attributes of
an ONNX operator of one form says so in a line::

    @onnx_op("Det")
    @dataclass(frozen=True)
    class Det(Op): ...

Where the two differ, a function replaces one direction or both, or reads an operator that is made of several ops::

    @imports("Conv")
    def _import_conv(n: ImportNode) -> Any: ...

    @exports(Conv)
    def _export_conv(op: Conv, n: ExportNode) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from functools import partial, reduce, singledispatch
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .builder import KNOWN_SIZES, Builder
from .data_sizes import used
from .dtypes import INTEGERS, dtype_of, numpy_dtype
from .errors import ConvcError, ModelFileError, NotConstantError, ShapeError, UnsupportedOpError, plural
from .graph import Value
from .limits import check_made
from .op import REGISTRY, Op, place_of
from .sizes import Atom, Dim, Dims, Extreme, Named, Size, Sizes
from .types import TensorType

if TYPE_CHECKING:  # loading onnx takes longer than all of ir, and graphs that come from elsewhere do not need it
    import onnx

AnyOp = TypeVar("AnyOp", bound=Op)
Importer = Callable[["ImportNode"], Any]
"""Reads an ONNX node, emits what it computes, and returns its output value, or the sequence of them."""
AnyImporter = TypeVar("AnyImporter", bound=Importer)
AnyAnswer = TypeVar("AnyAnswer")
Exporter = Callable[[AnyOp, "ExportNode"], None]
"""Writes an op as ONNX nodes."""

_DEFAULT_IMPORTERS: dict[str, Importer] = {}
_IMPORTERS: dict[str, Importer] = {}
_OPERATORS: dict[type[Op], str] = {}
_FOLDED: set[str] = set()
SIGNATURES: dict[str, Signature] = {}
"""The forms of operators for which onnx has no schema, by ``domain::name``."""


@dataclass(frozen=True)
class Signature:
    """The inputs, outputs and attributes of an operator for which onnx has no schema.

    A name ends in ``?`` where the input or output may be left out, and in ``*`` where there may be any number.
    Attributes have a type, such as ``ints``, which ends in ``!`` where the attribute must be there.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, str]


def onnx_op(
    *operators: str, read: Callable[[Any, ImportNode], Any] | None = None, folds: bool = False
) -> Callable[[type[AnyOp]], type[AnyOp]]:
    """Class decorator: the op is the ONNX operator of this name, and reads what the other names stand for too.

    Nodes are read by ``read(op, n)``, by default with attributes as the fields of the same name, and written under the
    first name, with fields as attributes; functions under ``imports`` and ``exports`` take precedence. Names outside
    ONNX's own domain are ``domain::name``. For ``folds`` see ``imports``.
    """

    def register(op: type[AnyOp]) -> type[AnyOp]:
        _register(_DEFAULT_IMPORTERS, partial(read or import_fields, op), operators, folds)
        _OPERATORS[op] = operators[0]
        return op

    return register


def imports(
    *operators: str, folds: bool = False, signature: Signature | None = None
) -> Callable[[AnyImporter], AnyImporter]:
    """Decorator of the function that reads nodes of these ONNX operators.

    ``folds`` says that the importer computes such nodes itself when their inputs are constant, by onnx's reference: the
    operators that compute shapes, and that quantize weights. Other ops on constants are compiled, and run once at load;
    onnx's reference is wrong about some of them (LRN, LpNormalization, poolings with ceil_mode). An operator of another
    domain that folds means what ONNX's operator of the same name means in its newest opset. ``signature`` is what nodes
    are checked against where onnx has no schema.
    """

    def register(importer: AnyImporter) -> AnyImporter:
        _register(_IMPORTERS, importer, operators, folds)
        if signature is not None:
            SIGNATURES.update(dict.fromkeys(operators, signature))
        return importer

    return register


def _register(registry: dict[str, Importer], importer: Importer, operators: Sequence[str], folds: bool) -> None:
    for operator in operators:
        if operator in registry:
            first, second = map(_source, (registry[operator], importer))
            if first != second:  # else it is defined again, as in a notebook
                raise TypeError(f"{first} and {second} both read the ONNX operator {operator!r}")
        registry[operator] = importer
    _FOLDED.update(operators if folds else ())


def _source(importer: Importer) -> str:
    """Where the function that reads an operator is defined, or the class that it reads by its fields."""
    return place_of(importer.args[0] if isinstance(importer, partial) else importer)


def exports(op: type[AnyOp]) -> Callable[[Exporter[AnyOp]], Exporter[AnyOp]]:
    """Decorator of the function that writes this op, and its subclasses that have none of their own, as ONNX nodes."""

    def register(exporter: Exporter[AnyOp]) -> Exporter[AnyOp]:
        first = export.registry.get(op)
        if first is not None and place_of(first) != place_of(exporter):
            raise TypeError(f"{place_of(first)} and {place_of(exporter)} both write {op.__qualname__} as ONNX")
        return export.register(op, exporter)

    return register


def importer_of(operator: str) -> Importer | None:
    """The function that reads an ONNX operator, named ``domain::name`` outside ONNX's own domain."""
    return _IMPORTERS.get(operator) or _DEFAULT_IMPORTERS.get(operator)


def operators() -> frozenset[str]:
    """The ONNX operators that some function reads, named ``domain::name`` outside ONNX's own domain."""
    return frozenset(_IMPORTERS) | frozenset(_DEFAULT_IMPORTERS)


def is_folded(operator: str) -> bool:
    """Whether the importer computes nodes of this ONNX operator whose inputs are constant."""
    return operator in _FOLDED


def operator_of(op: Op) -> str:
    """The ONNX operator that ``onnx_op`` names for the op; raises ``UnsupportedOpError`` when there is none."""
    if type(op) not in _OPERATORS:
        raise UnsupportedOpError(f"op {op.name} has no ONNX form")
    return _OPERATORS[type(op)]


def import_fields(op: type[Op], n: ImportNode) -> Any:
    """Read a node whose attributes are the fields of the op of the same name, and whose inputs are its operands."""
    attrs = {f.name: n.attr(f.name, as_attribute(f.default)) for f in fields(op)}
    attrs = {name: value for name, value in attrs.items() if value is not MISSING and value is not None}
    required = [f.name for f in fields(op) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in attrs]
    if missing:
        raise n.error(f"attribute '{missing[0]}' is missing")
    return n.emit(op(**attrs), *n.present_inputs())


def as_attribute(default: Any) -> Any:
    """A default as an attribute holds it: a float is float32."""
    return float(np.float32(default)) if isinstance(default, float) else default


@singledispatch
def export(op: Op, n: ExportNode) -> None:
    """Write an op as ONNX nodes, by the function that ``exports`` registered for its class, else by ``export_fields``.

    Raises ``UnsupportedOpError`` for an op that has no ONNX form.
    """
    export_fields(op, n)


def export_fields(op: Op, n: ExportNode) -> None:
    """Write the operator that ``onnx_op`` names for the op, with the op's fields as attributes of the same name."""
    attrs = {f.name: getattr(op, f.name) for f in fields(op) if getattr(op, f.name) is not None}
    n.node(operator_of(op), n.inputs, n.outputs, **attrs)


CALL_OPSET = 23
"""The opset of the operators that ``ImportNode.call`` reads, unless it is told otherwise."""


def onnx_dtype(dtype: str) -> int:
    """The ``TensorProto.DataType`` of a short dtype name."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype)))


def dtype_from_onnx(code: int) -> str:
    """The short dtype name of a ``TensorProto.DataType``; raises ``UnsupportedOpError`` for one that convc lacks."""
    from onnx import TensorProto, helper

    if code == TensorProto.STRING:
        raise UnsupportedOpError("string tensors are not supported")
    try:
        return dtype_of(helper.tensor_dtype_to_np_dtype(code))
    except KeyError:
        raise ModelFileError(f"{code} is the code of no ONNX dtype") from None
    except ShapeError as e:
        raise UnsupportedOpError(str(e)) from None


DECIDING = {"b": 1024, "i": 1024, "u": 1024, "f": 32}
"""The elements up to which an input may decide shapes or control flow by its value, by the kind of its dtype.

Larger inputs are data, for whose values no model is compiled.
"""


def may_decide(type: TensorType) -> bool:
    """Whether a model may be compiled for each value of an input of this type. Dynamic sizes count as 1."""
    sizes = [d for d in type.shape if isinstance(d, int)]
    kind = "f" if type.is_float else type.numpy_dtype.kind  # numpy has no kind for bfloat16
    return prod(sizes) <= DECIDING.get(kind, 0)


class WholeModel:
    """What importers may ask about the model that a node belongs to, for nodes whose meaning depends on others."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._answers: dict[Any, Any] = {}

    def ask(self, question: Callable[[onnx.GraphProto], AnyAnswer]) -> AnyAnswer:
        """What a function says about the model's graph. It is called once for each model."""
        if question not in self._answers:
            self._answers[question] = question(self._graph)
        answer: AnyAnswer = self._answers[question]
        return answer


class ImportNode:
    """One ONNX node being imported: its attributes, its inputs as values, and a builder to emit ops into.

    ``whole`` is the model that the node belongs to. ``origin`` is the node of the file that stands for this one, where
    an importer made it by ``call``; errors name the origin.
    """

    def __init__(
        self,
        proto: onnx.NodeProto,
        opset: int,
        inputs: Sequence[Value | None],
        builder: Builder,
        whole: WholeModel | None = None,
        origin: ImportNode | None = None,
    ) -> None:
        self.proto = proto
        self.opset = opset
        self.inputs = list(inputs)
        self.builder = builder
        self.whole = whole
        self._origin = origin
        self._attrs = {a.name: a for a in proto.attribute}

    @property
    def op_type(self) -> str:
        return self.proto.op_type

    @property
    def operator(self) -> str:
        """The name by which the node's operator is registered: ``domain::name`` outside ONNX's own domain."""
        domain = self.proto.domain
        return self.op_type if domain in ("", "ai.onnx") else f"{domain}::{self.op_type}"

    def signature(self) -> Signature:
        """The signature that was registered for the node's operator."""
        return SIGNATURES[self.operator]

    def call(self, op_type: str, *inputs: Value | None, opset: int = CALL_OPSET, outputs: int = 1, **attrs: Any) -> Any:
        """Read an ONNX operator of these inputs and attributes in place of the node, and return its outputs.

        Attributes that are ``None`` or empty are left out. The operator must have an importer.
        """
        from onnx import helper

        clean = {k: v for k, v in attrs.items() if v is not None and not (isinstance(v, tuple) and not v)}
        names = [f"{op_type}_{i}" for i in range(outputs)]
        proto = helper.make_node(op_type, ["" if v is None else v.name for v in inputs], names, **clean)
        importer = importer_of(op_type)
        if importer is None:
            raise TypeError(f"no function reads {op_type}")
        return importer(ImportNode(proto, opset, inputs, self.builder, self.whole, self._origin or self))

    def describe(self) -> str:
        """The node's operator and name, as errors begin: ``Conv node 'n1'``."""
        if self._origin is not None:
            return self._origin.describe()
        name = self.proto.name or next((o for o in self.proto.output if o), "")
        return f"{self.proto.op_type} node '{name}'"

    def error(self, message: str) -> ConvcError:
        """A ``ModelFileError`` about this node, for what the ONNX standard does not allow: ``raise n.error(...)``."""
        return ModelFileError(f"{self.describe()}: {message}")

    def unsupported(self, message: str) -> ConvcError:
        """An ``UnsupportedOpError`` about this node, for a valid form that convc does not compile."""
        return UnsupportedOpError(f"{self.describe()}: {message}")

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value (lists as tuples, strings decoded, tensors as arrays), or the default.

        A default that is a float becomes float32, as in onnx's schemas.
        """
        if name not in self._attrs:
            return as_attribute(default)
        from onnx import TensorProto, helper, numpy_helper

        value = helper.get_attribute_value(self._attrs[name])
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, TensorProto):
            return numpy_helper.to_array(value)
        if isinstance(value, str | int | float):
            return value
        if isinstance(value, Sequence) or hasattr(value, "__iter__"):
            return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value)
        return value

    def ints_attr(self, name: str, count: int, default: int = 0, least: int | None = None) -> tuple[int, ...]:
        """An attribute that holds ``count`` integers, each at least ``least``; where it is left out, the default for
        each. Raises ``ModelFileError`` when it holds others.
        """
        values: tuple[int, ...] = self.attr(name) or (default,) * count
        if len(values) != count:
            raise self.error(
                f"attribute '{name}' has {plural(len(values), 'number')} {list(values)}; {count} "
                f"{'is' if count == 1 else 'are'} needed"
            )
        if least is not None and min(values, default=least) < least:
            raise self.error(f"attribute '{name}' is {list(values)}; its numbers must be at least {least}")
        return values

    def input(self, index: int) -> Value:
        """A required input. Raises ``ModelFileError`` when the node lacks it."""
        value = self.optional(index)
        if value is None:
            raise self.error(f"input {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """An input, or ``None`` when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def present_inputs(self) -> list[Value]:
        """All inputs. Raises ``ModelFileError`` when one in the middle is left out."""
        while self.inputs and self.inputs[-1] is None:
            self.inputs.pop()
        return [self.input(i) for i in range(len(self.inputs))]

    def const(self, index: int, what: str) -> np.ndarray | None:
        """The values of an input that must be known at compile time; ``None`` when the input is left out.

        ``what`` names the input in the ``NotConstantError`` that is raised when it is computed at run time.
        """
        value = self.optional(index)
        if value is None:
            return None
        array = self.builder.constant_of(value)
        if array is None and value.type.is_static and value.type.is_empty:
            array = np.zeros(value.type.sizes, value.type.numpy_dtype)
        if array is None:
            raise self.not_constant(
                f"its {what} ('{value.name}') is computed at run time; convc needs it constant", value
            )
        return array

    def not_constant(self, message: str, value: Value) -> NotConstantError:
        """The error about a value that must be known at compile time, which says what the caller can do.

        Where the value follows from small inputs alone, the error names these: the model can be compiled for their
        values.
        """
        behind = self.builder.inputs_behind(value)
        types = {v.name: v.type for v in self.builder.inputs}
        if behind and all(may_decide(types[name]) for name in behind):
            given = ", ".join(f"'{name}': ..." for name in behind)
            options = " ".join(f"--value {name}=..." for name in behind)
            which = " and ".join(f"input '{name}'" for name in behind)
            return NotConstantError(
                f"{self.describe()}: {message}. It follows from {which}: give the value "
                f"with values={{{given}}} ({options})",
                behind,
            )
        if behind and all(t.is_static for t in types.values()):
            names = " and ".join(f"'{name}'" for name in behind)
            return NotConstantError(f"{self.describe()}: {message}. It follows from the data in {names}")
        return NotConstantError(
            f"{self.describe()}: {message}. If it follows from an input's size, fix that size with shapes={{...}} "
            "(--shape)"
        )

    def ints(self, index: int, what: str) -> tuple[int, ...] | None:
        """The values of an input, as ``const`` gives them, as a tuple of integers."""
        array = self.const(index, what)
        if array is None:
            return None
        wide = array.astype(np.float64)
        for v in wide[~np.isfinite(wide)]:
            raise self.error(f"'{self.input(index).name}', its {what}, holds {v}, which is no integer")
        return tuple(int(v) for v in array.reshape(-1))

    def sizes(self, index: int, what: str) -> Sizes | None:
        """The integers in an input, as ``ints`` gives them, and also those that follow from open sizes, or that data
        decides (``data_sizes.py``).

        Integers that follow from small inputs alone are asked for, as ``ints`` does, unless they are to be read
        (``Builder.reads_inputs``): the model is compiled for them.
        """
        value = self.optional(index)
        if value is None:
            return None
        known = self.builder.known_sizes(value)
        if known is not None and not known.divisors:
            return tuple(known.values)
        if self.builder.constant_of(value) is not None or not self.is_data(value, integers=True):
            return self.ints(index, what)
        return self._read(value)

    def _read(self, value: Value) -> Sizes:
        """The integers in a tensor that data decides as sizes. Those that only moved are read where they come from, so
        that one number is one size.
        """
        known, constant = self.builder.known_sizes(value), self.builder.constant_of(value)
        if constant is not None:
            return tuple(int(v) for v in constant.reshape(-1))
        if known is not None:
            return tuple(known.values)
        node = next((n for n in reversed(self.builder.nodes) if value in n.outputs), None)
        moved = node is not None and (
            node.op.name == "reshape"
            or (node.op.name == "concat" and value.type.rank == 1)
            or (node.op.name == "cast" and node.inputs[0].type.dtype in ("i32", "i64"))
        )
        if node is None or not moved:
            return self.builder.read_sizes(value)
        return tuple(size for v in node.inputs for size in self._read(v))

    def is_data(self, value: Value, integers: bool = False) -> bool:
        """Whether a tensor, of integers where it must be, follows from an input whose values no model is compiled for,
        from sizes that data decides, or from what a step of a loop is given.
        """
        if not value.type.is_static or (integers and value.type.dtype not in INTEGERS):
            return False
        b, live, made = self.builder, {value.name}, set(self.builder.constants)
        for node in reversed(b.nodes):
            if any(v.name in live for v in node.outputs):
                live.update(v.name for v in node.inputs)
                if any(name in b.data_sizes for name in used(node)):
                    return True
            made.update(v.name for v in node.outputs)
        decide = {v.name for v in b.inputs if may_decide(v.type)}
        return b.reads_inputs or not live <= made | decide  # else it is a state of a loop, or the number of its step

    def sizes_from(self, name: str, index: int) -> Sizes | None:
        """A list of sizes that older opsets give as attribute ``name`` and newer ones as input ``index``."""
        return self.ints_from(name, index) if self.attr(name) is not None else self.sizes(index, name)

    def ints_from(self, name: str, index: int) -> tuple[int, ...] | None:
        """A list that older opsets give as attribute ``name`` and newer ones as input ``index``."""
        given = self.attr(name)
        if given is not None:
            return (given,) if isinstance(given, int) else tuple(given)
        return self.ints(index, name)

    def emit(self, op: Op, *inputs: Value) -> Any:
        """Add an op, and return its output, or a tuple of several outputs. Errors name this ONNX node."""
        try:
            return self.builder.emit(op, *inputs)
        except ConvcError as e:
            e.within(self.describe())
            raise

    def sizes_as_tensor(self, sizes: Sequence[Dim]) -> Value:
        """Sizes as an int64 tensor of one axis, a constant where they are all known."""
        if all(isinstance(d, int) for d in sizes):
            return self.constant(np.array(sizes, np.int64), "sizes")
        known: Any = REGISTRY[KNOWN_SIZES]
        made: Value = self.emit(known(tuple(sizes), (len(sizes),)))
        return made

    def filled(self, shape: Sequence[Dim], value: Dim | float, dtype: str, name: str = "filled") -> Value:
        """Add a tensor that holds one number everywhere, a constant where its sizes and the number are known.

        Raises ``LimitError`` when the constant has too many bytes.
        """
        if isinstance(value, Size) or not all(isinstance(d, int) for d in shape):
            number, divisor = (value, 1) if isinstance(value, Dims) else Fraction(value).as_integer_ratio()
            known: Any = REGISTRY[KNOWN_SIZES]
            later: Value = self.emit(known((number,), tuple(shape), (divisor,), dtype))
            return later
        made = TensorType(dtype, tuple(shape))
        check_made(made, f"{self.describe()}: its '{name}'")
        return self.constant(np.full(made.sizes, value, made.numpy_dtype), name)

    def constant(self, array: np.ndarray, hint: str = "const") -> Value:
        """Add a constant, named after the hint."""
        return self.builder.constant(array, hint)

    def scalar(self, value: float, like: Value) -> Value:
        """A rank-0 constant with the dtype of ``like``."""
        return self.constant(np.array(value, like.type.numpy_dtype), "scalar")


def _unmeasured(name: str, n: ExportNode) -> str:
    raise UnsupportedOpError(f"size {name} is open in the body of a loop; fix it with shapes={{...}} (--shape)")


class ExportNode:
    """One IR node being exported: names of its inputs and outputs, and where ONNX nodes and initializers go."""

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        input_types: Sequence[TensorType],
        output_types: Sequence[TensorType],
        fresh: Callable[[str], str],
        arrays: Sequence[np.ndarray | None] = (),
        measured: Callable[[str, ExportNode], str] | None = None,
    ) -> None:
        """``measured`` writes a node that gives a named size as int64[1], and returns its name."""
        self.measured = measured or _unmeasured
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.arrays = list(arrays)
        self.input_types = list(input_types)
        self.output_types = list(output_types)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.fresh = fresh

    def node(self, op_type: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attrs: Any) -> str:
        """Write one ONNX node, and return the name of its first output.

        An operator outside ONNX's own domain is ``domain::name``. Without ``outputs`` the node has one output of a new
        name.
        """
        from onnx import helper

        domain, _, op_type = op_type.rpartition("::")
        outputs = list(outputs) if outputs is not None else [self.fresh(op_type)]
        clean: dict[str, Any] = {
            k: int(v) if isinstance(v, bool) else list(v) if isinstance(v, tuple) else v
            for k, v in attrs.items()
            if v is not None
        }
        made = helper.make_node(op_type, list(inputs), outputs, name=outputs[0], domain=domain or None, **clean)
        self.nodes.append(made)
        return outputs[0]

    def reshape(self, x: str, sizes: Sequence[Dim], outputs: Sequence[str] | None = None) -> str:
        """Write a Reshape to these sizes, and return the name of its output.

        A size of 0 is meant as it is: without ``allowzero`` the node would copy the operand's size at that place.
        """
        return self.node("Reshape", [x, self.ints(sizes, "shape")], outputs, allowzero=1 if 0 in sizes else None)

    def constant(self, array: np.ndarray, hint: str = "const") -> str:
        """Write an initializer, and return its name."""
        from onnx import numpy_helper

        name = self.fresh(hint)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def scalar_where_equal(self, index: int) -> str:
        """The name of an input, or of a scalar initializer in its place where it is a constant of equal elements."""
        array = self.arrays[index] if index < len(self.arrays) else None
        if array is None or not array.ndim or not array.size or (array != array.reshape(-1)[0]).any():
            return self.inputs[index]
        return self.constant(array.reshape(-1)[0].reshape(()), "zero")

    def ints(self, values: Sequence[Dim], hint: str = "ints") -> str:
        """Write a list of sizes, and return its name: an int64 initializer, or nodes that compute open ones."""
        if all(isinstance(v, int) for v in values):
            return self.constant(np.array(values, np.int64), hint)
        return self.node("Concat", [self.size(v) for v in values], axis=0)

    def size(self, size: Dim) -> str:
        """Write nodes that compute a size, and return the name of the result, int64[1]."""
        if not isinstance(size, Size):
            return self.constant(np.array([size], np.int64), "size")
        terms = []
        for monomial, c in size.terms:
            factors = [self._atom(atom) for atom in monomial]
            if c != 1 or not factors:
                factors.append(self.size(c))
            terms.append(reduce(lambda a, b: self.node("Mul", [a, b]), factors))
        return reduce(lambda a, b: self.node("Add", [a, b]), terms)

    def _atom(self, atom: Atom) -> str:
        if isinstance(atom, Named):
            return self.measured(atom.name, self)
        if isinstance(atom, Extreme):
            return self.node("Max" if atom.largest else "Min", [self.size(size) for size in atom.sizes])
        return self.node("Div", [self.size(atom.numerator), self.size(atom.denominator)])
