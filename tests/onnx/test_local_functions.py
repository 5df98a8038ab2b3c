"""Functions that a model defines itself: overloads, nesting, attributes, subgraphs, and wrong calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import compare
from support.models import node, port
from support.tolerances import assert_close

import convc
from convc.ir.errors import ModelFileError

x = np.array([[-2.0, -0.5, 3.0]], np.float32)


def function(
    name: str, nodes: Sequence[onnx.NodeProto], overload: str = "", attributes: Sequence[str] = (), domain: str = "loc"
) -> onnx.FunctionProto:
    """A function from ``a`` to ``b`` that may call others."""
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid("loc", 1)] if domain else [])]
    made = helper.make_function(domain, name, ["a"], ["b"], nodes, opsets, attributes)
    made.overload = overload
    return made


def call(name: str, source: str, target: str, overload: str = "", **attrs: Any) -> onnx.NodeProto:
    return node(name, [source], [target], name=f"call_{target}", domain="loc", overload=overload, **attrs)


def model(nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [port("x", [1, 3])], [port("y", [1, 3])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("loc", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def check(nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto]) -> None:
    """Compare with ONNX Runtime; onnx's reference does not tell overloads apart."""
    compare.check(model(nodes, functions), {"x": x})


RELU = function("Act", [node("Relu", ["a"], ["b"])])
NEG = function("Act", [node("Neg", ["a"], ["b"])], "neg")
SCALED = function(
    "Act",
    [
        helper.make_node("LeakyRelu", ["a"], ["t"]),
        helper.make_node("Exp", ["t"], ["b"]),
    ],
    "scaled",
    ["slope"],
)
SCALED.node[0].attribute.append(
    onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
)


def test_overloads() -> None:
    """Functions of one name are told apart by the overload that a node asks for, in every order of definition."""
    calls = [call("Act", "x", "s", "neg"), call("Act", "s", "t"), call("Act", "t", "y", "scaled", slope=0.3)]
    check(calls, [RELU, NEG, SCALED])
    check(calls, [SCALED, NEG, RELU])


def test_an_overload_calls_another() -> None:
    """A body calls another overload of its own name, which is no recursion, and passes attributes on."""
    inner = call("Act", "t", "b", "scaled")
    inner.attribute.append(onnx.AttributeProto(name="slope", ref_attr_name="by", type=onnx.AttributeProto.FLOAT))
    outer = function("Act", [call("Act", "a", "t", "neg"), inner], "outer", ["by"])
    made = model(
        [call("Act", "x", "t", "outer", by=0.25), call("Act", "t", "y", "outer", by=-2.0)], [NEG, SCALED, outer]
    )

    def act(v: np.ndarray, by: float) -> np.ndarray:
        return np.exp(np.where(-v > 0, -v, by * -v))

    want = act(act(x.astype(np.float64), 0.25), -2.0).astype(np.float32)
    assert_close(np.asarray(convc.compile(made, threads=1)(x)), want)  # ONNX Runtime does not find the inner function


def test_overloads_in_subgraphs() -> None:
    """The branches of an If in a function's body call overloads."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [call("Act", "a", f"r_{name}", overload)], name, [], [port(f"r_{name}", None)]
        )
        for name, overload in (("then", "neg"), ("else", ""))
    }
    for branch in branches.values():
        branch.output[0].CopyFrom(port(branch.output[0].name, [1, 3]))
    body = [
        node("ReduceSum", ["a"], ["sum"], keepdims=0),
        node("Constant", [], ["zero"], value=helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])),
        node("Less", ["sum", "zero"], ["low"]),
        node("If", ["low"], ["b"], **branches),
    ]
    check([call("Pick", "x", "t"), call("Pick", "t", "y")], [NEG, RELU, function("Pick", body)])


def test_a_function_in_place_of_a_standard_operator() -> None:
    """A function of ONNX's own domain and the name of an operator is used where a model defines one, on constants
    too.
    """
    body = [node("Relu", ["a"], ["b"])]
    two = node("Constant", [], ["two"], value=helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]))
    nodes = [two, node("Neg", ["two"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    got = convc.compile(model(nodes, [function("Neg", body, domain="")]), threads=1)(x)
    np.testing.assert_array_equal(np.asarray(got), 2 * x)


SELF = function("F", [call("F", "a", "b")])
MORE_IN = node("Act", ["x", "x"], ["y"], name="call", domain="loc")
MORE_OUT = node("Act", ["x"], ["y", "z"], name="call", domain="loc")
PING, PONG = function("F", [call("G", "a", "b", "o")]), function("G", [call("F", "a", "b")], "o")


@pytest.mark.parametrize(
    ("calls", "functions", "parts"),
    [
        ([call("Act", "x", "y", "sqrt")], [RELU, NEG], ["'loc::Act' of overload 'sqrt'", "overloads '', 'neg'"]),
        ([call("Act", "x", "y")], [NEG], ["'loc::Act'", "overloads 'neg'"]),
        ([call("Other", "x", "y", "neg")], [NEG], ["'loc::Other' of overload 'neg'", "no function of this name"]),
        ([call("F", "x", "y")], [SELF], ["calls itself", "'loc::F' -> 'loc::F'"]),
        ([call("F", "x", "y")], [PING, PONG], ["'loc::F' -> 'loc::G' of overload 'o' -> 'loc::F'"]),
        ([call("Act", "x", "y")], [RELU, function("Act", NEG.node)], ["'loc::Act' twice"]),
        ([MORE_IN], [RELU], ["'call'", "Act has 1 input, and the call 2"]),
        ([MORE_OUT], [RELU], ["'call'", "Act has 1 output, and the call 2"]),
    ],
    ids=[
        *("no such overload", "no plain one", "no function", "recursion", "recursion by two", "two of one name"),
        *("too many inputs", "too many outputs"),
    ],
)
def test_refused(calls: list[onnx.NodeProto], functions: list[onnx.FunctionProto], parts: list[str]) -> None:
    with pytest.raises(ModelFileError) as e:
        convc.load_onnx(model(calls, functions))
    assert all(part in str(e.value) for part in parts), str(e.value)


def test_an_error_in_a_body_names_the_call() -> None:
    """The user knows the nodes of the model, and not those of bodies, of functions in functions, and of schemas."""
    inner = function("Inner", [node("Elu", ["a"], ["t"]), node("Expand", ["t", "t"], ["b"])])
    outer = function("Outer", [call("Inner", "a", "b")])
    with pytest.raises(convc.ConvcError) as raised:
        convc.load_onnx(model([call("Outer", "x", "y")], [inner, outer]))
    message = str(raised.value)
    assert message.startswith("Outer node 'call_y', in its function body: Inner node 'call_y/call_b', in its function")
    assert "Expand node 'call_y/call_b/Expand'" in message
