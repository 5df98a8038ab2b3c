"""Registration of operators for which onnx has no schema, with the form that their nodes must have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..graph import Value
from ..onnx_io import AnyImporter, ImportNode, Signature, imports
from ..ops.cast import Cast

MICROSOFT = "com.microsoft::"
WINDOW: dict[str, Any] = {
    "auto_pad": "string", "dilations": "ints", "group": "int", "kernel_shape": "ints", "pads": "ints",
    "strides": "ints",
}  # fmt: skip
"""The attributes of a convolution."""
POOL: dict[str, Any] = {
    "auto_pad": "string", "ceil_mode": "int", "kernel_shape": "ints!", "pads": "ints", "strides": "ints",
}  # fmt: skip
"""The attributes that poolings share."""


def operator(
    name: str, inputs: str, outputs: str = "Y", folds: bool = False, /, *, domain: str = MICROSOFT, **attributes: str
) -> Callable[[AnyImporter], AnyImporter]:
    """Decorator of the function that reads nodes of one of ONNX Runtime's operators.

    ``inputs`` and ``outputs`` are names, separated by spaces: ``B?`` may be left out, and ``X*`` stands for any number.
    ``folds`` is that of ``imports``. Attributes have a type: ``int``, ``float``, ``string``, or a plural of these;
    ``int!`` must be there.
    """
    signature = Signature(tuple(inputs.split()), tuple(outputs.split()), attributes)
    return imports(f"{domain}{name}", folds=folds, signature=signature)


def given(n: ImportNode, *names: str) -> dict[str, Any]:
    """The attributes of these names that the node has."""
    return {name: n.attr(name) for name in names if n.attr(name) is not None}


def refuse_inputs(n: ImportNode, indices: Sequence[int]) -> None:
    """Raises ``UnsupportedOpError`` when the node has one of these inputs, which convc does not read."""
    signature = n.signature()
    for i in indices:
        if n.optional(i) is not None:
            raise n.unsupported(f"its input {i} ('{signature.inputs[i].rstrip('?')}') is not supported")


def refuse_outputs(n: ImportNode, indices: Sequence[int], why: str = "") -> None:
    """Raises ``UnsupportedOpError`` when the node has one of these outputs, which convc does not make."""
    signature = n.signature()
    for i in indices:
        if i < len(n.proto.output) and n.proto.output[i]:
            raise n.unsupported(f"its output {i} ('{signature.outputs[i].rstrip('?')}') is not supported{why}")


def refuse_attributes(n: ImportNode, **defaults: Any) -> None:
    """Raises ``UnsupportedOpError`` when an attribute has another value than the one given here."""
    for name, value in defaults.items():
        if n.attr(name, value) != value:
            raise n.unsupported(f"attribute {name}={n.attr(name)} is not supported; only {value} is")


def positive(n: ImportNode, name: str) -> int:
    """An attribute that must be a number of at least 1."""
    value = n.attr(name)
    if value is None or value < 1:
        raise n.error(f"attribute '{name}' is {'missing' if value is None else value}; it must be at least 1")
    return int(value)


def in_float32(n: ImportNode, x: Value) -> Value:
    """The value in float32, as ONNX Runtime computes in for narrower floats."""
    if x.type.dtype not in ("f16", "bf16"):
        return x
    made: Value = n.emit(Cast("f32"), x)
    return made


def like(n: ImportNode, y: Value, x: Value) -> Value:
    """The value y in the dtype of x."""
    if y.type.dtype == x.type.dtype:
        return y
    made: Value = n.emit(Cast(x.type.dtype), y)
    return made


def need(n: ImportNode, true: bool, message: str) -> None:
    """Raises ``ModelFileError`` with this message about the node unless the condition is true."""
    if not true:
        raise n.error(message)
