"""convc as a backend of the onnx package, with the interface of ``onnx.backend.base``.

To run a model: ``import convc.onnx_backend as backend; backend.run_model(model, inputs)``.

``python -m convc.onnx_suite`` runs onnx's backend test suite through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from convc.ir.errors import InputError, NotConstantError, UnsupportedOpError

from .dynamic import Keep, Kept
from .runtime.model import CompiledModel


class Refused(UnsupportedOpError, BackendIsNotSupposedToImplementIt):
    """The model needs a feature that convc does not compile. onnx's test runner counts this error as a skipped test."""


class PreparedModel(BackendRep):
    """A model that is ready to run on inputs of any shapes that it takes.

    It is compiled once for each set of input shapes, and for each set of values of the inputs in ``specialized``. These
    are the inputs whose values determine a shape or another compile-time property, as the second input of Reshape does.
    """

    def __init__(self, model: onnx.ModelProto, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads
        self._compiled = Kept(Keep())
        initialized = {t.name for t in model.graph.initializer}
        self._inputs = [i for i in model.graph.input if i.name not in initialized]
        self.specialized: tuple[str, ...] = ()
        """The names of the inputs whose values are compiled into the model."""
        if all(_is_static(i) for i in self._inputs):
            shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in self._inputs}
            with suppress(NotConstantError):  # the first run gives the values
                self._compiled.get(self._key({}, shapes), lambda: self._compile(model, shapes))

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs as a named tuple. ``inputs`` are arrays, one per input in order, or a mapping by name."""
        feeds = self._feeds(inputs)
        compiled = self._find(feeds)
        made = compiled(*(feeds[p.name] for p in compiled.inputs))
        results = made if isinstance(made, tuple) else (made,)
        outputs: tuple[Any, ...] = namedtupledict("Outputs", [o.name for o in self._model.graph.output])(*results)
        return outputs

    def _feeds(self, inputs: Any) -> dict[str, np.ndarray]:
        if isinstance(inputs, Mapping):
            return {name: _array(x) for name, x in inputs.items()}
        given = [_array(x) for x in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        if len(given) != len(self._inputs):
            raise InputError(f"the model takes {len(self._inputs)} inputs, not {len(given)}")
        return {i.name: x for i, x in zip(self._inputs, given, strict=True)}

    def _find(self, feeds: Mapping[str, np.ndarray]) -> CompiledModel:
        """The compiled model for these inputs, which is compiled on first use.

        When compiling shows that it needs the values of some inputs, these become constants.
        """
        while True:
            fixed = {name: feeds[name] for name in self.specialized}
            shapes = {name: x.shape for name, x in feeds.items() if name not in fixed}

            def make(fixed: Any = fixed, shapes: Any = shapes) -> CompiledModel:
                return self._compile(_with_constants(self._model, fixed), shapes)

            try:
                return self._compiled.get(self._key(fixed, shapes), make)
            except NotConstantError as e:
                more = tuple(name for name in e.inputs if name not in fixed)
                if not more:
                    raise Refused(str(e)) from e
                self.specialized += more

    @staticmethod
    def _key(fixed: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]) -> Any:
        values = tuple((name, str(x.dtype), x.shape, x.tobytes()) for name, x in sorted(fixed.items()))
        return values, tuple(sorted((name, tuple(s)) for name, s in shapes.items()))

    def _compile(self, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> CompiledModel:
        from .compiler import compile

        try:
            made = compile(model, shapes=shapes, threads=self._threads)
            assert isinstance(made, CompiledModel)  # shapes leaves none open
            return made
        except NotConstantError:
            raise
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


def _is_static(info: onnx.ValueInfoProto) -> bool:
    tensor = info.type.tensor_type
    return tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)


def _with_constants(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of the model in which the inputs in ``values`` are constants."""
    if not values:
        return model
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.input[:]
    fixed.graph.input.extend(i for i in model.graph.input if i.name not in values)
    fixed.graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in values.items())
    return fixed


is_compatible: Callable[..., bool] = ConvcBackend.is_compatible
prepare: Callable[..., PreparedModel] = ConvcBackend.prepare
run_model: Callable[..., tuple[Any, ...]] = ConvcBackend.run_model
run_node: Callable[..., tuple[Any, ...]] = ConvcBackend.run_node
supports_device: Callable[[str], bool] = ConvcBackend.supports_device
