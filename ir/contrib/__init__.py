"""ONNX Runtime's own operators, each read as ops of ``ir/ops``: importing this package registers all of them.

ONNX Runtime writes them in the models that it has optimised or quantized. A module holds the operators of one kind, and
``operator`` (``_operator.py``) registers the function that reads one, with the inputs, outputs and attributes that
nodes may have.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
