"""``Module``, the base class of networks and layers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from convc.ir.builder import Builder
from convc.ir.errors import ConvcError, GraphError, ShapeError
from convc.ir.graph import Graph, Initializer
from convc.ir.passes.fix_shapes import check_names
from convc.ir.shapes import StatedSize
from convc.ir.summary import Summary, summarize
from convc.ir.types import TensorType

from .tensor import Tensor, Trace, join, tensors_of
from .weights import as_array, read_weights, write_weights

Shapes = Mapping[str, Sequence[StatedSize]]
"""The shapes of inputs by name. A size that is a string is open."""


class Module:
    """Base class of layers and networks.

    A subclass keeps the modules it is made of in attributes and computes with symbolic tensors in ``forward``::

        class Net(nn.Module):
            def __init__(self):
                self.conv = nn.Conv2D(8, kernel_size=3, padding="same")
                self.head = nn.Dense(10)

            def forward(self, x):
                return self.head(nn.flatten(nn.relu(self.conv(x)) + x))

    Nothing is sized or allocated until shapes are known: ``convc.compile(net, shapes={"x": (1, 8, 32, 32)})``.
    Parameters are named by the attributes that lead to them (``conv.weight``) and laid out as torch lays them out, so
    that weights move between the two by name. Parameters that were never set have initial values which their names
    determine.
    """

    forward: Callable[..., Any]
    """What the module computes: from tensors to a tensor, or to a tuple or dict of tensors by output name."""
    ignored_weights: ClassVar[frozenset[str]] = frozenset()
    """Names that weights may hold for this module although it has no use for them."""
    _weights: Mapping[str, np.ndarray] = MappingProxyType({})
    _complete: bool = False

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules in the attributes of this one, and in lists, tuples and dicts there, with their names."""
        for name, held in vars(self).items():
            if isinstance(held, Module):
                yield name, held
            elif isinstance(held, list | tuple):
                yield from ((f"{name}.{i}", m) for i, m in enumerate(held) if isinstance(m, Module))
            elif isinstance(held, Mapping):
                yield from ((f"{name}.{key}", m) for key, m in held.items() if isinstance(m, Module))

    def modules(self, path: str = "", within: tuple[Module, ...] = ()) -> Iterator[tuple[str, Module]]:
        """This module and all modules below it, with their paths. A shared module comes once for each of its paths.

        Raises ``GraphError`` for a module that contains itself.
        """
        if any(m is self for m in within):
            raise GraphError(f"module '{path}' ({type(self).__name__}) contains itself")
        yield path, self
        for name, child in self.children():
            yield from child.modules(join(path, name), (*within, self))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Apply the module to symbolic tensors, inside the ``forward`` of another."""
        tensor = next((x for x in (*inputs, *named.values()) if isinstance(x, Tensor)), None)
        if tensor is None:
            raise GraphError(
                f"{type(self).__name__} takes symbolic tensors, inside forward; to run a network on arrays, compile "
                "it: convc.compile(net, shapes={...})"
            )
        with tensor.trace.calling(self):
            return self._forward()(*inputs, **named)

    def _forward(self) -> Callable[..., Any]:
        if not hasattr(self, "forward"):
            raise GraphError(f"{type(self).__name__} defines no forward")
        return self.forward

    def __repr__(self) -> str:
        lines = [f"  {name}: " + repr(m).replace("\n", "\n  ") for name, m in self.children()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"]) if lines else f"{type(self).__name__}()"

    def parameter(self, x: Tensor, name: str, shape: Sequence[int], initializer: Initializer) -> Tensor:
        """Declare a parameter of this module, with the dtype of ``x``; for use in ``forward``.

        Its values are those set under its name, else lazily made by the initializer, whose seed follows from the name.
        Raises ``ShapeError`` when weights of another shape were set, ``GraphError`` when weights were set that lack it.
        """
        trace = x.trace
        type = TensorType(x.dtype, tuple(int(d) for d in shape))
        given = self._weights.get(name)
        if given is None and any(isinstance(m, Module) and m._complete for m in trace.stack):
            raise GraphError(
                f"the weights that were set lack parameter '{join(trace.path(self), name)}' ({type}); set_weights(..., "
                "strict=False) leaves it at initial values"
            )
        return trace.parameter(join(trace.path(self), name), type, initializer if given is None else given)

    # -- graphs -----------------------------------------------------------------------------------------------------

    def to_graph(self, shapes: Shapes, dtype: str = "f32", name: str | None = None) -> Graph:
        """The network as a graph with inputs of these shapes, under the names of the parameters of ``forward``.

        A size that is a string is open: it is known when the compiled network is called. A single input may have any
        name.

        Raises ``ShapeError`` when a shape is missing or does not fit a layer, naming the layer.
        """
        return self._trace(shapes, dtype, name)[0]

    def parameters(self, shapes: Shapes, dtype: str = "f32") -> dict[str, TensorType]:
        """The type of every parameter, by name. No values are computed."""
        return {name: v.type for name, v in self._trace(shapes, dtype)[1].parameters.items()}

    def summary(self, shapes: Shapes, dtype: str = "f32") -> Summary:
        """The cost of the network, node by node: parameters, bytes, floating-point operations.

        No values are computed.
        """
        return summarize(self.to_graph(shapes, dtype))

    def _trace(self, shapes: Shapes, dtype: str, name: str | None = None) -> tuple[Graph, Trace]:
        trace = Trace(Builder(name or type(self).__name__), self, self.modules())
        inputs = [
            Tensor(trace, trace.builder.input(key, TensorType(dtype, ()).with_shape(_sizes(key, shapes[key]))))
            for key in self._inputs(shapes)
        ]
        try:
            tensors, names = tensors_of(self(*inputs))
        except ConvcError as e:
            e.within(trace.where())
            raise
        self._check_weights(trace)
        if not names:
            names = [trace.builder.fresh(f"output{i}" if len(tensors) > 1 else "output") for i in range(len(tensors))]
        return trace.builder.finish([t.value for t in tensors], names), trace

    def _inputs(self, shapes: Shapes) -> list[str]:
        """The names in ``shapes`` in the order in which ``forward`` takes them."""
        what = type(self).__name__
        takes = list(inspect.signature(self._forward()).parameters.values())
        if any(p.kind is p.VAR_POSITIONAL for p in takes) and shapes:
            return list(shapes)
        names = [p.name for p in takes]
        if len(names) == 1 and len(shapes) == 1:
            return list(shapes)
        check_names(shapes, names, what)
        missing = [p.name for p in takes if p.name not in shapes and p.default is p.empty]
        # an optional input may be left out, but none before one that is given: inputs are passed by position
        missing += [name for name in names[: len(shapes)] if name not in shapes]
        if missing:
            raise ShapeError(
                f"{what} needs the shape of its input '{missing[0]}': give shapes={{'{missing[0]}': (...)}}"
            )
        return [name for name in names if name in shapes]

    # -- weights ----------------------------------------------------------------------------------------------------

    def set_weights(self, weights: Mapping[str, Any], strict: bool = True) -> None:
        """Give parameters values by name: numpy arrays, or torch tensors as in a ``state_dict``. They are copied.

        Shapes are checked when the network's are known. With ``strict``, every parameter must then have been given.
        Raises ``GraphError`` for a name that leads to no layer; then nothing is changed.
        """
        self._assign({name: as_array(name, value).copy() for name, value in weights.items()}, strict)

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> None:
        """Give parameters the values in an .npz or .safetensors file, as ``set_weights`` does.

        Raises ``ModelFileError`` when the file cannot be read.
        """
        self._assign(read_weights(path), strict)

    def get_weights(self, shapes: Shapes, dtype: str = "f32") -> dict[str, np.ndarray]:
        """The values of every parameter, by name. Initial values that are still lazy are computed now."""
        trace = self._trace(shapes, dtype)[1]
        return {name: trace.builder.constants[v.name].array for name, v in trace.parameters.items()}

    def save(self, path: str | os.PathLike[str], shapes: Shapes, dtype: str = "f32") -> None:
        """Write every parameter to an .npz or .safetensors file.

        Raises ``ModelFileError`` when it cannot be written.
        """
        write_weights(path, self.get_weights(shapes, dtype))

    def _assign(self, weights: Mapping[str, np.ndarray], strict: bool) -> None:
        modules = dict(self.modules())
        owned: dict[str, dict[str, np.ndarray]] = {}
        for name, array in weights.items():
            path, _, own = name.rpartition(".")
            if path not in modules:
                raise GraphError(
                    f"the weights hold '{name}', but {type(self).__name__} has no layer '{path}'; its layers are "
                    f"{', '.join(filter(None, modules))}"
                )
            owned.setdefault(path, {})[own] = array
        for path, arrays in owned.items():
            modules[path]._weights = {**modules[path]._weights, **arrays}
        self._complete = self._complete or strict

    def _check_weights(self, trace: Trace) -> None:
        """Raises ``GraphError`` when weights were set that a layer which was called has no parameter for."""
        for path, module in self.modules():
            first = trace.paths[id(module)]
            idle = [
                own
                for own in module._weights
                if join(first, own) not in trace.parameters and own not in module.ignored_weights
            ]
            if idle and id(module) in trace.called:
                raise GraphError(
                    f"the weights hold '{join(path, idle[0])}', but {type(module).__name__} has no parameter "
                    f"'{idle[0]}'"
                )


def _sizes(name: str, shape: Sequence[StatedSize]) -> tuple[StatedSize, ...]:
    try:
        if not isinstance(shape, str):
            return tuple(d if isinstance(d, str) else int(d) for d in shape)
    except (TypeError, ValueError):
        pass
    raise ShapeError(f"the shape of input '{name}' must be a list of integers and names, not {shape!r}")
