"""The registry of functions that read and write ONNX operators."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import pytest

import convc.ir.ops  # noqa: F401  registers every op
from convc.ir.errors import UnsupportedOpError
from convc.ir.onnx_io import ExportNode, export, exports, importer_of, imports, is_folded, onnx_op, operator_of
from convc.ir.op import Op
from convc.ir.ops.activations import LeakyRelu
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_bytes import ConvBytes


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
