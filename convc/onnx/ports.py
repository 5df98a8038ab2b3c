"""The inputs and outputs of an ONNX model: what the file states of them, and what the caller chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import defs

from convc.ir.errors import (
    ConvcError,
    GraphError,
    InputError,
    ModelFileError,
    ShapeError,
    UnsupportedOpError,
    lacking,
)
from convc.ir.graph import Value
from convc.ir.onnx_io import dtype_from_onnx, onnx_dtype
from convc.ir.passes.fix_shapes import check_names
from convc.ir.passes.fix_values import checked_value
from convc.ir.shapes import StatedSize, mismatch
from convc.ir.types import TensorType

from .functions import plain_domain
from .scope import needed

OVERRIDABLE_IR_VERSION = 4
"""The first IR version in which an initializer that is also an input is the default value of that input.

Older files had to list every initializer among the inputs, and mean constants.
"""


@dataclass(frozen=True)
class Choices:
    """What the caller chooses of a model: shapes and values of inputs by name, and which values are its outputs."""

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """An initializer that is also an input becomes an input when its shape is given."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The inputs that become constants. The values of initializers that are also inputs are replaced."""
    outputs: Sequence[str] = ()
    """The names of the outputs; none for those that the model lists."""
    reads: bool = False
    """Whether the integers in small inputs are sizes that are read when the model runs, as those that data decides."""


def model_opsets(model: onnx.ModelProto) -> dict[str, int]:
    """The version of each domain that the model imports. Raises ``ModelFileError`` for versions that cannot be."""
    opsets = {plain_domain(o.domain): o.version for o in model.opset_import} or {"": 1}
    newest = defs.onnx_opset_version()
    if min(opsets.values()) < 1:
        raise ModelFileError(f"the model uses opset {min(opsets.values())}; opsets count from 1")
    if opsets.get("", 1) > newest:
        raise ModelFileError(
            f"the model uses ONNX opset {opsets['']}; the installed onnx knows up to {newest}: upgrade onnx, "
            "or export with an older opset"
        )
    return opsets


def chosen_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> list[str]:
    """The names of the outputs.

    Raises ``GraphError`` when the caller names a value that the model lacks, or one value twice.
    """
    graph = model.graph
    if not outputs:
        return [o.name for o in graph.output]
    known = {o: None for n in graph.node for o in n.output if o}
    known |= dict.fromkeys([v.name for v in graph.input] + [t.name for t in graph.initializer])
    for i, name in enumerate(outputs):
        if name not in known:
            raise GraphError(f"outputs names the value {lacking(name, known)}")
        if name in outputs[:i]:
            raise GraphError(f"outputs names '{name}' twice")
    return list(outputs)


def overridable(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have an initializer as their default value: the caller may give them, and need not."""
    if model.ir_version < OVERRIDABLE_IR_VERSION:
        return []
    weights = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name in weights]


def chosen_inputs(model: onnx.ModelProto, choices: Choices) -> list[onnx.ValueInfoProto]:
    """The inputs whose values the caller gives when the model runs.

    When the caller chose the outputs, inputs that these do not need are left out. Raises ``InputError`` for a value of
    an input that the model lacks, and ``ShapeError`` for such a shape.
    """
    graph = model.graph
    weights = {t.name for t in graph.initializer}
    stated = [i.name for i in graph.input]
    for name in choices.values:
        if name not in stated:
            if name in weights:
                raise InputError(f"values names '{name}', which is a weight of the model and no input")
            raise InputError(f"values names input {lacking(name, stated)}")
    found = [i for i in graph.input if i.name not in weights or i.name in choices.shapes]
    check_names(choices.shapes, stated)
    if choices.outputs:
        _, read = needed(graph.node, choices.outputs)
        found = [i for i in found if i.name in read]
    return [i for i in found if i.name not in choices.values]


def tensor_of(info: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor:
    """The tensor type that an input states. An optional tensor is one that is there.

    Raises ``UnsupportedOpError`` for an input that is no tensor.
    """
    kind = info.type.WhichOneof("value")
    if kind == "optional_type" and info.type.optional_type.elem_type.WhichOneof("value") == "tensor_type":
        return info.type.optional_type.elem_type.tensor_type
    if kind != "tensor_type":
        words = {"sequence_type": "a sequence", "optional_type": "an optional sequence", "map_type": "a map"}
        raise UnsupportedOpError(
            f"input '{info.name}' is {words.get(kind or '', kind or 'a value of no type')}; only tensors are supported"
        )
    return info.type.tensor_type


def stated_shape(info: onnx.ValueInfoProto, named: bool = True) -> tuple[StatedSize, ...] | None:
    """The sizes that an input states, each unknown one with a name; ``None`` where the rank is not known.

    Without ``named`` unknown sizes get a name of their own each.
    """
    tensor = tensor_of(info)
    if not tensor.HasField("shape"):
        return None
    dims: list[StatedSize] = []
    for i, d in enumerate(tensor.shape.dim):
        known = d.HasField("dim_value") and d.dim_value >= 0
        # Paddle writes -1, or "?" several times, for unknown sizes
        name = d.dim_param if named and d.dim_param != "?" else ""
        dims.append(int(d.dim_value) if known else name or f"{info.name}_{i}")
    return tuple(dims)


def stated_dtype(info: onnx.ValueInfoProto) -> str:
    """The dtype that an input states, by its short name."""
    try:
        return dtype_from_onnx(tensor_of(info).elem_type)
    except ConvcError as e:
        e.within(f"input '{info.name}'")
        raise


def misdeclared(info: onnx.ValueInfoProto, made: Value) -> str:
    """How the dtype that the file declares for an output differs from that of the value that is made; else nothing."""
    code = info.type.tensor_type.elem_type if info.type.HasField("tensor_type") else 0
    if not code or code == onnx_dtype(made.type.dtype):
        return ""
    declared = TensorType(dtype_from_onnx(code), ()).numpy_dtype
    return f"is declared as {declared}, but its node gives {made.type.numpy_dtype}: correct its type in the file"


def input_type(info: onnx.ValueInfoProto, given: Sequence[int] | None = None) -> TensorType:
    """The type of an input, of the given shape if there is one.

    Raises ``ModelFileError`` when the shape does not fit, or when there is none.
    """
    # a given shape overrides what equal names would equate
    stated = stated_shape(info, named=given is None)
    if given is None:
        if stated is None:
            raise ModelFileError(
                f"input '{info.name}' has no shape; give one with shapes={{'{info.name}': ...}} (--shape)"
            )
        return TensorType(stated_dtype(info), ()).with_shape(stated)
    if stated is not None and (why := mismatch(f"input '{info.name}'", stated, given)):
        raise ModelFileError(f"the shape {list(given)} given for input '{info.name}' does not fit the model: {why}")
    if min(given, default=0) < 0:
        raise ShapeError(f"negative size in the shape {list(given)} given for input '{info.name}'")
    return TensorType(stated_dtype(info), tuple(int(g) for g in given))


def input_value(info: onnx.ValueInfoProto, given: Any) -> np.ndarray:
    """The value that the caller gives for an input. Raises ``InputError`` when it does not fit."""
    return checked_value(info.name, TensorType(stated_dtype(info), ()).numpy_dtype, stated_shape(info), given)
