"""convc: a deep-learning compiler for convolutional networks.

    model = convc.compile("net.onnx")          a Model, compiled for this processor
    y = model(x)                               numpy arrays in, numpy arrays out
    model.save("net.convc")                    an artifact, one file with code and weights
    model = convc.load("net.convc")            the Model again, in any process

``load_onnx``, ``to_onnx`` and ``save_onnx`` read and write graphs (``Graph``), and ``nn`` builds networks in Python.
``compile`` takes ``Limits`` and ``Keep``. Every error derives from ``ConvcError``. ``dir(convc)`` lists the public
names; modules that it does not list are internal.

Importing the package loads little: the module of each public name is imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING
from typing import Any as _Any

from .version import __version__

# `ir` and `backends` lie inside this folder in an installed package, and beside it in a source checkout. Python that is
# started in the root of a checkout finds this folder before an installed package, so its search path must include them.
if not (_Path(__file__).parent / "ir").exists():
    __path__.append(str(_Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
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
        SizeError,
        UnsupportedOpError,
    )
    from convc.ir.graph import Graph
    from convc.ir.limits import Limits

    from . import nn
    from .compiler import compile
    from .dynamic import Keep
    from .onnx.export import save_onnx, to_onnx
    from .onnx.importer import load_onnx
    from .runtime.load import load
    from .runtime.model import CompiledModel, Model
    from .runtime.model_set import ModelSet

__all__ = [
    "ArtifactError",
    "CompileError",
    "CompiledModel",
    "ConvcError",
    "DeviceError",
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
    "SizeError",
    "UnsupportedOpError",
    "__version__",
    "compile",
    "load",
    "load_onnx",
    "nn",
    "save_onnx",
    "to_onnx",
]

_MODULES = {
    "CompiledModel": "convc.runtime.model",
    "Graph": "convc.ir.graph",
    "Keep": "convc.dynamic",
    "Limits": "convc.ir.limits",
    "Model": "convc.runtime.model",
    "ModelSet": "convc.runtime.model_set",
    "compile": "convc.compiler",
    "load": "convc.runtime.load",
    "load_onnx": "convc.onnx.importer",
    "save_onnx": "convc.onnx.export",
    "to_onnx": "convc.onnx.export",
}
"""The module of each public name. The errors are not listed: all are in ``convc.ir.errors``."""


def __getattr__(name: str) -> _Any:
    if name not in __all__:
        raise AttributeError(f"module 'convc' has no attribute {name!r}")
    try:
        module = _import_module("convc.nn" if name == "nn" else _MODULES.get(name, "convc.ir.errors"))
    except ModuleNotFoundError as e:
        if not str(e.name).startswith("convc"):
            raise
        raise ImportError(
            f"convc.{name} is not part of convc-runtime, which only runs compiled models: install the whole of convc "
            "(pip install . in a clone of its repository)"
        ) from None
    found = module if name == "nn" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
