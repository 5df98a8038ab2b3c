"""Reading a model in any form once, so that its graph can be made at any sizes."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import onnx

from convc.ir.dtypes import numpy_dtype
from convc.ir.errors import ConvcError, GraphError, InputError, ModelFileError, NotConstantError, ShapeError
from convc.ir.graph import Graph, Value
from convc.ir.limits import Limits, guarded
from convc.ir.onnx_io import dtype_from_onnx
from convc.ir.passes.fix_shapes import check_names, fix_shapes, with_sizes
from convc.ir.passes.fix_values import fix_values
from convc.ir.passes.open_batch import open_batch
from convc.ir.rewrite import cut
from convc.ir.shapes import ANY_RANK, StatedSize, mismatch
from convc.ir.sizes import Dim, Named, Size
from convc.ir.summary import Summary
from convc.ir.text import parse_graph
from convc.ir.verify import verify

from .files import read_bytes, read_npz
from .onnx.check import check_model
from .onnx.importer import check_all, import_model, load_onnx, read_model
from .onnx.outline import outline
from .onnx.ports import (
    Choices,
    chosen_inputs,
    chosen_outputs,
    input_type,
    input_value,
    overridable,
    stated_dtype,
    stated_shape,
)
from .runtime.description import Port

Shapes = Mapping[str, Sequence[StatedSize]]
Values = Mapping[str, Any]


def _needs_sizes() -> Graph:
    raise ShapeError("the sizes of its inputs are needed to read the model")


@dataclass(frozen=True)
class Reader:
    """A model that was read, with its inputs and outputs, whose sizes may be dynamic.

    ``graph`` makes its graph for the shapes of inputs, and for the values of those inputs that become constants, both
    given by name.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    graph: Callable[[Mapping[str, Sequence[int]], Values], Graph]
    outline: Callable[[], Summary] | None = None
    """The nodes as far as the file tells of them, for a model whose graph cannot be made."""
    optional: tuple[Port, ...] = ()
    """The inputs that have a value already, which the caller may replace."""
    asks: Callable[[], tuple[str, ...]] = tuple
    """Names small inputs whose values ``graph`` needs, and ``whole`` reads when the model runs, as far as known."""
    whole: Callable[[], Graph] = _needs_sizes
    """Makes the graph with the open sizes that ``inputs`` state, in which small inputs that decide sizes are read when
    the model runs. Raises ``ConvcError`` where inference needs some of the sizes or values."""

    def taking(self, names: Collection[str]) -> Reader:
        """The same model, with these of the optional inputs among its inputs."""
        more = tuple(p for p in self.optional if p.name in names)
        left = tuple(p for p in self.optional if p not in more)
        return replace(self, inputs=self.inputs + more, optional=left, whole=_needs_sizes)


def reader(
    source: Any,
    shapes: Shapes | None = None,
    values: Values | None = None,
    outputs: Sequence[str] | None = None,
    complete: bool = True,
    batch: str | int | None = None,
) -> Reader:
    """Read a model, in any form that ``as_graph`` takes.

    ``shapes`` gives the shapes of some inputs by name. A size that is a string stays dynamic. An ``nn`` module needs
    the shapes of all of its inputs. ``values`` makes constants of inputs, and ``outputs`` names the values that become
    the outputs. ``complete`` says that all that convc lacks for the model is an error at once. ``batch`` is a number of
    images, or the name of an open one, in place of that which the model fixed. Raises ``ShapeError`` when the shapes do
    not fit the model, or when its batch cannot be opened, and ``InputError`` when the values do not fit.
    """
    if batch is not None:
        found = reader(source, shapes, values, outputs, complete)
        return _of_graph(with_batch(found.whole(), batch), {})
    given = checked(shapes)
    chosen = checked_outputs(outputs)
    values = checked_values(values)
    if isinstance(source, Reader):
        assert not values, "a model that was read has its values"
        assert not chosen, "a model that was read has its outputs"
        return _narrowed_reader(source, given)
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".txt":
        source = load_text(Path(source))
    if isinstance(source, str | os.PathLike | bytes | onnx.ModelProto):
        return _of_onnx(source, given, values, chosen, complete)
    if isinstance(source, Graph):
        verify(source)
        return _of_graph(with_choices(source, values, chosen), given)
    fixed = {n: [size for size in shape if isinstance(size, int)] for n, shape in given.items()}
    if all(len(fixed[n]) == len(shape) for n, shape in given.items()):
        return _of_graph(as_graph(source, fixed, values=values, outputs=chosen or None), {})
    inputs = tuple(Port(name, tuple(shape), "float32") for name, shape in given.items() if name not in values)

    def traced(sizes: Mapping[str, Sequence[int]], more: Values) -> Graph:  # anew for each shape
        return as_graph(source, {**_shapes_of(values), **sizes}, values={**values, **more}, outputs=chosen or None)

    def whole() -> Graph:
        stated = {p.name: p.shape for p in inputs}
        return as_graph(source, {**_shapes_of(values), **stated}, values=values, outputs=chosen or None)

    return Reader(type(source).__name__, inputs, (), traced, whole=whole)


def _of_onnx(
    source: Any, given: Mapping[str, tuple[StatedSize, ...]], values: Values, outputs: tuple[str, ...], complete: bool
) -> Reader:
    model, outside = read_model(source)
    check_model(model)
    if complete:
        check_all(model, outside, Choices(outputs=outputs))
    fixed = {name: [int(size) for size in s] for name, s in given.items() if all(isinstance(d, int) for d in s)}
    # a weight that is also an input becomes an input when its shape is given
    choices = Choices({**dict.fromkeys(given, ()), **fixed}, values, outputs)
    inputs = tuple(_port(i, fixed.get(i.name)) for i in chosen_inputs(model, choices))
    for info in model.graph.input:
        if info.name in values:
            input_value(info, values[info.name])  # raises before anything is compiled
    stated = {v.name: v for v in (*model.graph.value_info, *model.graph.output)}
    names = chosen_outputs(model, outputs)
    optional = tuple(_port(i, None) for i in overridable(model) if i.name not in values and i.name not in given)

    @lru_cache(maxsize=2)
    def imported(reads: bool) -> Graph | ConvcError:
        try:
            return import_model(model, outside, Choices(fixed, values, outputs, reads), surveyed=complete)
        except ConvcError as e:
            return e

    def asks() -> tuple[str, ...]:
        found, opened = imported(False), {p.name for p in inputs if p.is_open}  # which are large at other sizes
        return found.inputs if isinstance(found, NotConstantError) and opened.isdisjoint(found.inputs) else ()

    def whole() -> Graph:
        found = imported(False)
        if isinstance(found, NotConstantError) and found.inputs and isinstance(read := imported(True), Graph):
            return read
        if isinstance(found, ConvcError):
            raise found
        return found

    def graph(shapes: Mapping[str, Sequence[int]], more: Values) -> Graph:
        sizes = {name: shape for name, shape in shapes.items() if name not in more}
        if is_open(inputs) and not more and isinstance(found := imported(False), Graph):
            with suppress(ConvcError):  # sizes for which it was not inferred, or an error that importing says better
                return fix_shapes(found, sizes)
        return import_model(model, outside, Choices(sizes, {**values, **more}, outputs), surveyed=complete)

    made = Reader(
        model.graph.name or "main",
        inputs,
        tuple(_stated(stated.get(name, onnx.ValueInfoProto(name=name))) for name in names),
        graph,
        lambda: outline(model, fixed, outputs),
        optional,
        asks,
        whole,
    )
    return _narrowed_reader(made, given)


def _of_graph(graph: Graph, given: Mapping[str, Sequence[StatedSize]]) -> Reader:
    outputs = [Value(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)]

    def made(shapes: Mapping[str, Sequence[int]], more: Values) -> Graph:
        return fix_values(fix_shapes(graph, shapes), more)

    return _narrowed_reader(Reader(graph.name, _ports(graph.inputs), _ports(outputs), made, whole=lambda: graph), given)


def _narrowed_reader(found: Reader, shapes: Mapping[str, Sequence[StatedSize]]) -> Reader:
    """The reader of the same model with its inputs of these shapes."""
    inputs = narrowed(found.inputs, shapes)

    def whole() -> Graph:
        graph = found.whole()
        if inputs == found.inputs:
            return graph
        sizes: dict[str, Dim] = {}
        for v, port in zip(graph.inputs, inputs, strict=True):
            wanted = v.type.with_shape(port.shape).shape
            for size, given in zip(v.type.shape, wanted, strict=True):
                atom = size.atom if isinstance(size, Size) else None
                if size != given and not (isinstance(atom, Named) and sizes.setdefault(atom.name, given) == given):
                    raise ShapeError(f"size {size} of the model would become two")
        return with_sizes(graph, sizes)

    return replace(found, inputs=inputs, whole=whole)


def with_batch(graph: Graph, batch: str | int | None) -> Graph:
    """The graph with another batch: a number of images, or the name of an open one.

    Raises ``ShapeError`` when it is neither, or when the batch of the graph cannot be opened (``open_batch``).
    """
    if batch is None:
        return graph
    if isinstance(batch, str) and NAME.fullmatch(batch):
        return open_batch(graph, batch)
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ShapeError(f"batch is a number of images or the name of an open one, as 'n', not {batch!r}")
    return with_sizes(open_batch(graph, "batch"), {"batch": batch})


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of a size."""


def with_choices(graph: Graph, values: Values, outputs: Sequence[str]) -> Graph:
    """The graph with some of its inputs made constants, and cut at the values that are named, if any are.

    Raises ``InputError`` for a value that does not fit, and ``GraphError`` for an output that the graph lacks.
    """
    graph = fix_values(graph, values)
    return cut(graph, outputs) if outputs else graph


def checked_values(values: Values | None) -> dict[str, Any]:
    """The values by name. Raises ``InputError`` when they are anything else."""
    if not isinstance(values, Mapping | None) or not all(isinstance(name, str) for name in values or ()):
        raise InputError(f"values must give the values of inputs by their names, as {{'sr': 16000}}, not {values!r}")
    return dict(values or {})


def checked_outputs(outputs: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the outputs that the caller chose. Raises ``GraphError`` when they are anything else."""
    given = [outputs] if isinstance(outputs, str) else [] if outputs is None else outputs
    if not isinstance(given, Iterable) or not all(isinstance(name, str) for name in given):
        raise GraphError(f"outputs must name values of the model, as ['logits'], not {outputs!r}")
    if not given and outputs is not None:
        raise GraphError("outputs names no value: name one at least, or give None for all outputs of the model")
    return tuple(given)


def _shapes_of(values: Values) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(value) for name, value in values.items()}


def _port(info: onnx.ValueInfoProto, given: Sequence[int] | None) -> Port:
    if given is None and stated_shape(info) is None:
        return Port(info.name, ANY_RANK, str(numpy_dtype(stated_dtype(info))))
    return _ports([Value(info.name, input_type(info, given))])[0]


def _ports(values: Sequence[Value]) -> tuple[Port, ...]:
    return tuple(Port(v.name, v.type.stated, str(v.type.numpy_dtype)) for v in values)


def _stated(info: onnx.ValueInfoProto) -> Port:
    """An output as an ONNX file declares it. Its dtype, its sizes or both may be missing from the file."""
    tensor = info.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    dtype = str(numpy_dtype(dtype_from_onnx(tensor.elem_type))) if tensor.elem_type else "?"
    return Port(info.name, tuple(sizes), dtype)


def is_open(ports: Sequence[Port]) -> bool:
    """Whether a size of any of the ports is dynamic."""
    return any(p.is_open for p in ports)


def checked(shapes: Mapping[str, Sequence[StatedSize]] | None) -> dict[str, tuple[StatedSize, ...]]:
    """Shapes by name as tuples of integers and strings. Raises ``ShapeError`` when ``shapes`` is anything else."""
    try:
        given = dict(shapes or {})
        if any(isinstance(shape, str) or "" in shape for shape in given.values()):
            raise TypeError
        return {name: tuple(s if isinstance(s, str) else index(s) for s in shape) for name, shape in given.items()}
    except (TypeError, ValueError):
        raise ShapeError(
            "shapes must give each input's sizes by its name, as integers or as names of open ones, as "
            f"{{'x': ('n', 3, 224, 224)}}, not {shapes!r}"
        ) from None


def narrowed(ports: Sequence[Port], shapes: Mapping[str, Sequence[StatedSize]]) -> tuple[Port, ...]:
    """The ports with their shapes replaced by those given by name, in which a string is a size that stays dynamic.

    Raises ``ShapeError`` when a shape does not fit its port, or when there is no port of a name.
    """
    check_names(shapes, [p.name for p in ports])
    for p in ports:
        if p.shape == ANY_RANK:
            continue
        stated = [size if isinstance(size, int) else f"size {i}" for i, size in enumerate(p.shape)]
        wrong = mismatch(f"the shape given for input '{p.name}'", stated, shapes.get(p.name, p.shape))
        if wrong:
            raise ShapeError(wrong)
    return tuple(Port(p.name, tuple(shapes.get(p.name, p.shape)), p.dtype) for p in ports)


def as_graph(
    source: Any,
    shapes: Shapes | None = None,
    limits: Limits | None = None,
    *,
    values: Values | None = None,
    outputs: Sequence[str] | None = None,
    batch: str | int | None = None,
) -> Graph:
    """The graph of a model in any form, with the shapes of inputs given by name. A size that is a string stays open.

    ``source`` is a ``Graph``, an ONNX model (a path, its bytes or a ``ModelProto``), the path of a graph in text form
    (``.txt``, with its constants in an .npz file beside it), or an object with a method ``to_graph(shapes)``, such as
    an ``nn`` module. ``values`` makes constants of inputs, and ``outputs`` names the values that become the outputs.
    ``batch`` is the number of images, or its name, in place of a fixed one. Raises ``LimitError`` when the model
    exceeds ``limits``, and ``ConvcError`` for another source.
    """
    with guarded(limits):
        traced = hasattr(source, "to_graph") and not isinstance(source, Graph)
        if not traced and any(isinstance(size, str) for shape in checked(shapes).values() for size in shape):
            return reader(source, shapes, values, outputs, batch=batch).whole()
        graph = _as_graph(source, shapes or {}, checked_values(values), checked_outputs(outputs))  # type: ignore[arg-type]
        return with_batch(graph, batch)


def _as_graph(source: Any, shapes: Mapping[str, Sequence[int]], values: Values, outputs: tuple[str, ...]) -> Graph:
    if hasattr(source, "to_graph") and not isinstance(source, Graph):
        graph: Graph = source.to_graph(shapes)
        return with_choices(graph, values, outputs)
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".txt":
        source = load_text(Path(source))
    if isinstance(source, Graph):
        verify(source)
        return with_choices(fix_shapes(source, shapes) if shapes else source, values, outputs)
    if isinstance(source, str | os.PathLike | bytes | onnx.ModelProto):
        return load_onnx(source, shapes, values=values, outputs=outputs)
    raise ConvcError(
        f"cannot make a graph of a {type(source).__name__}: "
        "give a path, ONNX bytes, a ModelProto, a Graph, or an nn module"
    )


def load_text(path: Path) -> Graph:
    """Read a graph in text form, as ``--dump-dir`` writes it: a .txt file, and its constants in an .npz file beside it.

    Raises ``ModelFileError`` when a file cannot be read, and ``LimitError`` when one is too large.
    """
    try:
        text = read_bytes(path, "text_bytes").decode("utf-8")
        data = path.with_suffix(".npz")
        constants = read_npz(read_bytes(data, "file_bytes")) if data.exists() else {}
    except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError, RuntimeError, zlib.error) as e:
        raise ModelFileError(f"cannot read '{path}', or the .npz beside it: {e}") from None
    graph = parse_graph(text, constants)
    verify(graph)
    return graph
