"""The registry of functions that read and write ONNX operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from support.models import model, node

import convc
import convc.ir.ops  # registers every op
from convc.ir.errors import UnsupportedOpError
from convc.ir.onnx_io import ExportNode, export, exports, importer_of, imports, is_folded, onnx_op, operator_of
from convc.ir.op import Op
from convc.ir.ops.activations import LeakyRelu
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_bytes import ConvBytes
from convc.ir.text import print_graph


def test_two_functions_for_one_operator_are_refused() -> None:
    with pytest.raises(TypeError, match="'Conv'"):
        imports("Conv")(lambda n: None)
    with pytest.raises(TypeError, match="'Relu'"):
        onnx_op("Relu")(LeakyRelu)
    assert operator_of(LeakyRelu()) == "LeakyRelu"
    with pytest.raises(TypeError, match="Conv"):
        exports(Conv)(lambda op, n: None)


def test_a_function_takes_precedence_over_the_fields() -> None:
    @onnx_op("Tested", folds=True)
    @dataclass(frozen=True)
    class Tested(Op):
        pass

    assert operator_of(Tested()) == "Tested"
    assert is_folded("Tested")
    read = imports("Tested")(lambda n: "read")
    assert importer_of("Tested") is read
    assert importer_of("Untested") is None
    assert not is_folded("Untested")


def test_an_op_without_an_onnx_form_is_refused() -> None:
    with pytest.raises(UnsupportedOpError, match="conv_bytes has no ONNX form"):
        operator_of(ConvBytes())


def test_default_export_writes_fields_as_attributes() -> None:

    n = ExportNode(["x"], ["y"], [], [], lambda hint: hint)
    export(LeakyRelu(0.5), n)
    assert n.nodes == [onnx.helper.make_node("LeakyRelu", ["x"], ["y"], name="y", alpha=0.5)]


X, C = ("x", [2, 4, 3, 3]), [4]
WITH_DEFAULTS: dict[str, tuple[tuple[str, list[int]], ...]] = {
    **dict.fromkeys(("Elu", "HardSigmoid", "LeakyRelu", "Selu", "Shrink", "ThresholdedRelu", "Celu"), (X,)),
    "BatchNormalization": (X, ("s", C), ("b", C), ("m", C), ("v", C)),
    "InstanceNormalization": (X, ("s", C), ("b", C)),
    "LayerNormalization": (X, ("s", [3])),
    "GroupNormalization": (X, ("s", C), ("b", C)),
    "LRN": (X,),
}


@pytest.mark.parametrize("operator", WITH_DEFAULTS)
def test_defaults_are_those_of_the_schema(operator: str) -> None:
    """A float attribute that is left out is the schema's float32, in float64 too."""
    attributes = {"size": 3, "num_groups": 2}
    schema = onnx.defs.get_schema(operator, 22)
    floats = {
        name: onnx.helper.get_attribute_value(a.default_value)
        for name, a in schema.attributes.items()
        if a.type == onnx.defs.OpSchema.AttrType.FLOAT
    }
    needed = {name: value for name, value in attributes.items() if name in schema.attributes}
    inputs = {
        name: (np.float32 if operator == "Celu" else np.float64, shape) for name, shape in WITH_DEFAULTS[operator]
    }
    graphs = [
        print_graph(convc.load_onnx(model([node(operator, list(inputs), ["y"], **needed, **given)], inputs, opset=22)))
        for given in ({}, floats)
    ]
    assert floats
    assert graphs[0] == graphs[1]
