"""A graph from whatever describes a model."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import onnx

from convc.ir.errors import ConvcError, ModelFileError
from convc.ir.graph import Graph
from convc.ir.limits import Limits, guarded
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.text import parse_graph
from convc.ir.verify import verify

from .files import read_bytes, read_npz
from .onnx_import import load_onnx


def as_graph(source: Any, shapes: Mapping[str, Sequence[int]] | None = None, limits: Limits | None = None) -> Graph:
    """The graph of a ``Graph``, an ONNX model (path, bytes, ``ModelProto``), a text-form file (``.txt``, with its constants
    in an .npz beside it), or anything with a ``to_graph(shapes)`` method, such as an ``nn`` module. Raises
    ``LimitError`` when the model goes beyond ``limits``.
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
        f"cannot make a graph of a {type(source).__name__}: give a path, ONNX bytes, a ModelProto, a Graph, or an nn module"
    )


def load_text(path: Path) -> Graph:
    """A graph in its text form, as ``--dump-dir`` writes it."""
    try:
        text = read_bytes(path, "text_bytes").decode("utf-8")
        data = path.with_suffix(".npz")
        constants = read_npz(read_bytes(data, "file_bytes")) if data.exists() else {}
    except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError, RuntimeError, zlib.error) as e:
        raise ModelFileError(f"cannot read '{path}', or the .npz beside it: {e}") from None
    graph = parse_graph(text, constants)
    verify(graph)
    return graph
