"""convc as a backend of the onnx package, with the interface of ``onnx.backend.base``.

To run a model: ``import convc.onnx_backend as backend; backend.run_model(model, inputs)``.

``python -m convc.onnx_suite`` runs onnx's backend test suite through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from convc.ir.errors import InputError, UnsupportedOpError, plural

from .dynamic import DynamicModel
from .runtime.model import CompiledModel


class Refused(UnsupportedOpError, BackendIsNotSupposedToImplementIt):
    """The model needs a feature that convc does not compile. onnx's test runner counts this error as a skipped test."""


class PreparedModel(BackendRep):
    """A model that is ready to run on inputs of any shapes that it takes.

    It is compiled as ``convc.compile`` does: once for each set of input shapes, and for each set of values of the small
    inputs that decide shapes, as the second input of Reshape does.
    """

    def __init__(self, model: onnx.ModelProto, threads: int | None = None) -> None:
        from .compiler import compile

        self._names = [o.name for o in model.graph.output]
        with _refusing():
            self._model = compile(model, threads=threads, cache=False)

    @property
    def specialized(self) -> tuple[str, ...]:
        """The names of the inputs whose values are compiled into the model, as far as they are known."""
        model = self._model._otherwise if isinstance(self._model, CompiledModel) else self._model
        return model.by_value if isinstance(model, DynamicModel) and len(model.kept) else ()

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs as a named tuple. ``inputs`` are arrays, one per input in order, or a mapping by name."""
        feeds = self._feeds(inputs)
        with _refusing():
            results = self._model.run(feeds)
        outputs: tuple[Any, ...] = namedtupledict("Outputs", self._names)(*results.values())
        return outputs

    def _feeds(self, inputs: Any) -> dict[str, np.ndarray]:
        if isinstance(inputs, Mapping):
            return {name: _array(x) for name, x in inputs.items()}
        given = [_array(x) for x in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        names = [p.name for p in self._model.inputs]
        if len(given) != len(names):
            raise InputError(f"the model takes {plural(len(names), 'input')}, not {len(given)}")
        return dict(zip(names, given, strict=True))


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise ``Refused`` for an ``UnsupportedOpError``."""
    try:
        yield
    except UnsupportedOpError as e:
        raise Refused(str(e)) from e


class ConvcBackend(Backend):
    """ONNX's backend interface, implemented with ``convc.compile``. The only device is ``CPU``."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether convc compiles the model."""
        try:
            cls.prepare(model, device, **kwargs)
        except UnsupportedOpError:
            return False
        return True

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", *, threads: int | None = None, **kwargs: Any
    ) -> PreparedModel:
        """Check the model, and compile it unless this needs shapes or values that only the inputs give.

        Raises ``Refused`` when the model needs a feature that convc does not compile, and other subclasses of
        ``ConvcError`` when it is malformed.
        """
        super().prepare(model, device, **kwargs)
        return PreparedModel(model, threads)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one node on arrays, one for each distinct input that the node names."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        names = list(dict.fromkeys(name for name in node.input if name))
        arrays = [_array(x) for x in inputs]
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        opset = helper.make_opsetid(node.domain, int(kwargs.get("opset_version", defs.onnx_opset_version())))
        model = helper.make_model(helper.make_graph([node], "node", infos, outputs), opset_imports=[opset])
        return PreparedModel(model).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the device is the CPU."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except AttributeError:
            return False


def _array(x: Any) -> np.ndarray:
    if isinstance(x, onnx.TensorProto):
        return numpy_helper.to_array(x)
    if x is None or isinstance(x, list | tuple | dict):
        raise Refused(f"an input is a {type(x).__name__}; only tensors are supported")
    return np.asarray(x)


is_compatible: Callable[..., bool] = ConvcBackend.is_compatible
prepare: Callable[..., PreparedModel] = ConvcBackend.prepare
run_model: Callable[..., tuple[Any, ...]] = ConvcBackend.run_model
run_node: Callable[..., tuple[Any, ...]] = ConvcBackend.run_node
supports_device: Callable[[str], bool] = ConvcBackend.supports_device
