"""convc: a deep-learning compiler for convolutional networks."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# In a source checkout `ir` and `backends` lie beside this folder, in an installed package inside it. Running Python from
# the checkout's root finds this folder first, so let it find its two siblings as well.
if not (_Path(__file__).parent / "ir").exists():
    __path__.append(str(_Path(__file__).resolve().parent.parent))

from convc.ir.errors import (
    ArtifactError,
    CompileError,
    ConvcError,
    DeviceError,
    GraphError,
    InputError,
    LimitError,
    ModelFileError,
    ParseError,
    ShapeError,
    UnsupportedOpError,
)
from convc.ir.graph import Graph
from convc.ir.limits import Limits

from . import nn
from .onnx_export import save_onnx, to_onnx
from .onnx_import import load_onnx

if TYPE_CHECKING:
    from .compiler import compile
    from .kept import Keep
    from .loading import load
    from .many_sizes import DynamicModel, ModelSet
    from .model import CompiledModel, Model

# these load TVM, which takes a second and 260 MB: not before they are asked for
_LAZY = {
    "compile": "compiler",
    "load": "loading",
    "CompiledModel": "model",
    "DynamicModel": "many_sizes",
    "Keep": "kept",
    "Model": "model",
    "ModelSet": "many_sizes",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'convc' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


__all__ = [
    "ArtifactError",
    "CompileError",
    "CompiledModel",
    "ConvcError",
    "DeviceError",
    "DynamicModel",
    "Graph",
    "GraphError",
    "InputError",
    "Keep",
    "LimitError",
    "Limits",
    "Model",
    "ModelFileError",
    "ModelSet",
    "ParseError",
    "ShapeError",
    "UnsupportedOpError",
    "compile",
    "load",
    "load_onnx",
    "nn",
    "save_onnx",
    "to_onnx",
]
