"""Reading a model in any form once, so that its graph can be made at any sizes."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import onnx

from convc.ir.dtypes import numpy_dtype
from convc.ir.errors import ConvcError, ModelFileError, ShapeError
from convc.ir.graph import Graph, Value
from convc.ir.limits import Limits, guarded
from convc.ir.onnx_io import dtype_from_onnx
from convc.ir.passes.fix_shapes import checked_shapes, fix_shapes
from convc.ir.sizes import Dim, mismatch
from convc.ir.text import parse_graph
from convc.ir.verify import verify

from .files import read_bytes, read_npz
from .onnx.importer import import_model, load_onnx, model_inputs, read_model
from .runtime.description import Port


@dataclass(frozen=True)
class Reader:
    """A model that was read, with its inputs and outputs, whose sizes may be dynamic.

    ``graph`` makes its graph for the shapes of inputs, given by name.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    graph: Callable[[Mapping[str, Sequence[int]]], Graph]


def reader(source: Any, shapes: Mapping[str, Sequence[Dim]] | None = None) -> Reader:
    """Read a model, in any form that ``as_graph`` takes.

    ``shapes`` gives the shapes of some inputs by name. A size that is a string stays dynamic. An ``nn`` module needs
    the shapes of all of its inputs. Raises ``ShapeError`` when the shapes do not fit the model.
    """
    given = checked(shapes)
    if isinstance(source, Reader):
        return replace(source, inputs=narrowed(source.inputs, given))
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".txt":
        source = load_text(Path(source))
    if isinstance(source, str | os.PathLike | bytes | onnx.ModelProto):
        model, folder = read_model(source)
        fixed = {name: [int(size) for size in s] for name, s in given.items() if all(isinstance(d, int) for d in s)}
        inputs = _ports(model_inputs(model, fixed))
        outputs = tuple(map(_stated, model.graph.output))
        return Reader(
            model.graph.name or "main", narrowed(inputs, given), outputs, lambda s: import_model(model, folder, s)
        )
    if isinstance(source, Graph):
        verify(source)
        return _of_graph(source, given)
    fixed = {n: [size for size in shape if isinstance(size, int)] for n, shape in given.items()}
    if all(len(fixed[n]) == len(shape) for n, shape in given.items()):
        return _of_graph(as_graph(source, fixed), {})
    inputs = tuple(Port(name, tuple(shape), "float32") for name, shape in given.items())
    return Reader(type(source).__name__, inputs, (), lambda s: as_graph(source, s))  # traced anew for each shape


def _of_graph(graph: Graph, given: Mapping[str, Sequence[Dim]]) -> Reader:
    outputs = [Value(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)]
    return Reader(graph.name, narrowed(_ports(graph.inputs), given), _ports(outputs), lambda s: fix_shapes(graph, s))


def _ports(values: Sequence[Value]) -> tuple[Port, ...]:
    return tuple(Port(v.name, v.type.shape, str(v.type.numpy_dtype)) for v in values)


def _stated(info: onnx.ValueInfoProto) -> Port:
    """An output as an ONNX file declares it. Its dtype, its sizes or both may be missing from the file."""
    tensor = info.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    dtype = str(numpy_dtype(dtype_from_onnx(tensor.elem_type))) if tensor.elem_type else "?"
    return Port(info.name, tuple(sizes), dtype)


def is_open(ports: Sequence[Port]) -> bool:
    """Whether a size of any of the ports is dynamic."""
    return any(p.is_open for p in ports)


def checked(shapes: Mapping[str, Sequence[Dim]] | None) -> dict[str, tuple[Dim, ...]]:
    """Shapes by name as tuples of integers and strings. Raises ``ShapeError`` when ``shapes`` is anything else."""
    try:
        given = dict(shapes or {})
        if any(isinstance(shape, str) for shape in given.values()):
            raise TypeError
        return {name: tuple(s if isinstance(s, str) else index(s) for s in shape) for name, shape in given.items()}
    except (TypeError, ValueError):
        return checked_shapes(shapes)  # type: ignore[arg-type, return-value]


def narrowed(ports: Sequence[Port], shapes: Mapping[str, Sequence[Dim]]) -> tuple[Port, ...]:
    """The ports with their shapes replaced by those given by name, in which a string is a size that stays dynamic.

    Raises ``ShapeError`` when a shape does not fit its port, or when there is no port of a name.
    """
    names = [p.name for p in ports]
    for name in shapes:
        if name not in names:
            raise ShapeError(f"shapes names input '{name}', which the model lacks; its inputs are {', '.join(names)}")
    for p in ports:
        stated = [size if isinstance(size, int) else f"size {i}" for i, size in enumerate(p.shape)]
        wrong = mismatch(f"the shape given for input '{p.name}'", stated, shapes.get(p.name, p.shape))
        if wrong:
            raise ShapeError(wrong)
    return tuple(Port(p.name, tuple(shapes.get(p.name, p.shape)), p.dtype) for p in ports)


def as_graph(source: Any, shapes: Mapping[str, Sequence[int]] | None = None, limits: Limits | None = None) -> Graph:
    """The graph of a model in any form, with the shapes of inputs given by name.

    ``source`` is a ``Graph``, an ONNX model (a path, its bytes or a ``ModelProto``), the path of a graph in text form
    (``.txt``, with its constants in an .npz file beside it), or an object with a method ``to_graph(shapes)``, such as
    an ``nn`` module. Raises ``LimitError`` when the model exceeds ``limits``, and ``ConvcError`` for another source.
    """
    with guarded(limits):
        return _as_graph(source, shapes)


def _as_graph(source: Any, shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    if isinstance(source, Graph):
        verify(source)
        return fix_shapes(source, shapes) if shapes else source
    if hasattr(source, "to_graph"):
        graph: Graph = source.to_graph(shapes or {})
        return graph
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".txt":
        graph = load_text(Path(source))
        return fix_shapes(graph, shapes) if shapes else graph
    if isinstance(source, str | os.PathLike | bytes | onnx.ModelProto):
        return load_onnx(source, shapes)
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
