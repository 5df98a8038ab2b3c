"""Ops that are defined outside convc: their mistakes are named, and a class may be defined again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from support.malformed import info, model, node, raises

import convc
from convc import CompileError, ConvcError, GraphError, ShapeError, UnsupportedOpError, nn
from convc.ir import onnx_io
from convc.ir.builder import Builder
from convc.ir.op import REGISTRY, Op
from convc.ir.ops.unary import Relu
from convc.ir.types import TensorType

ONES = np.ones(4, np.float32)


@pytest.fixture(autouse=True)
def defined() -> Iterator[None]:
    """What a test defines is gone when it ends."""
    registries: list[dict[Any, Any]] = [REGISTRY, onnx_io._DEFAULT_IMPORTERS, onnx_io._IMPORTERS, onnx_io._OPERATORS]
    before = [dict(registry) for registry in registries]
    yield
    for registry, was in zip(registries, before, strict=True):
        registry.clear()
        registry.update(was)


def own(**members: Any) -> type[Op]:
    """A class of ops with these members, besides which it copies its only operand."""

    def copied(op: Op, k: Any, xs: Any, outs: Any) -> Any:
        return k.compute(outs[0], lambda *i: xs[0](*i))

    held = {
        "name": "own_op",
        "infer": lambda op, *types: types[0],
        "compute": copied,
        "__module__": __name__,
        **members,
    }
    made: type[Op] = dataclass(frozen=True)(type("Own", (Op,), {k: v for k, v in held.items() if v is not None}))
    return made


def result(op: Any) -> Any:
    layer = nn.Activation(lambda t: nn.apply(op, t))
    return convc.compile(layer, shapes={"x": (4,)}, threads=1, cache=False)(ONES)


MISTAKES: dict[str, tuple[dict[str, Any], type[ConvcError], str]] = {
    "no name": ({"name": None}, UnsupportedOpError, "class Own has no name"),
    "no infer": ({"infer": None}, UnsupportedOpError, "class Own has no method infer"),
    "no compute": ({"compute": None}, UnsupportedOpError, "class Own has no compute"),
    "infer gives None": ({"infer": lambda *_: None}, ShapeError, "must return a TensorType, or a tuple of them"),
    "infer gives a shape": ({"infer": lambda *_: (4,)}, ShapeError, "for several results, not 4"),
    "infer gives a list": ({"infer": lambda op, t: [t]}, ShapeError, "must return a TensorType"),
    "infer gives nothing": ({"infer": lambda *_: ()}, ShapeError, "not ()"),
    "infer fails": ({"infer": lambda op, t: t.size}, ShapeError, "infer has a mistake (AttributeError: "),
    "infer gives numpy's name": ({"infer": lambda *_: TensorType("float32", (4,))}, GraphError, "known: f16, f32"),
    "compute gives None": (
        {"compute": lambda *_: None},
        CompileError,
        "must return 1 tensor of k.compute, not NoneType",
    ),
    "compute gives an operand": ({"compute": lambda op, k, xs, outs: xs}, CompileError, "not Operand"),
    "compute gives too much": ({"compute": lambda op, k, xs, outs: (xs[0].tensor,) * 2}, CompileError, "not Tensor, T"),
    "compute fails": ({"compute": lambda op, k, xs, outs: 1 / 0}, CompileError, "class Own raised ZeroDivisionError"),
}


@pytest.mark.parametrize(("members", "error", "part"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_class_is_named(members: dict[str, Any], error: type[ConvcError], part: str) -> None:
    with raises(error, part):
        result(own(**members)())


def test_an_attribute_that_is_a_list() -> None:
    op = own(__annotations__={"sizes": Any}, sizes=())
    with raises(ShapeError, "sizes=[1, 2]", "hashable, as tuples are"):
        result(op(sizes=[1, 2]))  # type: ignore[call-arg]


@pytest.mark.parametrize("op", [Relu, "relu", None])
def test_what_is_applied_is_an_op(op: Any) -> None:
    with raises(GraphError, "apply takes an op, such as Relu()"):
        result(op)


@pytest.mark.parametrize("name", ["my op", "1st", "Änderung", "a-b", 3])
def test_names_that_the_text_form_cannot_read(name: Any) -> None:
    with pytest.raises(TypeError, match="letters, digits"):
        own(name=name)


def test_a_name_that_another_class_has() -> None:
    with pytest.raises(TypeError, match=r"test_own_ops.Own and convc.ir.ops.unary.Relu are both named 'relu'"):
        own(name="relu")
    with pytest.raises(TypeError, match=r"unary.Relu and .*Own both read the ONNX operator 'Relu'"):
        onnx_io.onnx_op("Relu")(own())


def test_a_class_that_is_defined_again_takes_the_place_of_the_first() -> None:
    """So that a cell of a notebook may run twice: the newest class and functions count."""

    def scaled(factor: float) -> Callable[..., Any]:
        return lambda op, k, xs, outs: k.compute(outs[0], lambda *i: xs[0](*i) * k.like(factor, xs[0](*i)))

    proto = model(node("Own", "x"), inputs=[info("x", [4])])
    proto.graph.node[0].domain = "d"
    proto.opset_import.add(domain="d", version=1)
    for factor in (2.0, 3.0):
        op = own(compute=scaled(factor))
        onnx_io.onnx_op("d::Own")(op)
        assert result(op()).tolist() == [factor] * 4
        assert convc.compile(proto, cache=False)(ONES).tolist() == [factor] * 4

    for factor in (4.0, 5.0):
        other = own(name=f"own_{factor:g}", compute=scaled(factor), __qualname__=f"Own{factor:g}")

        @onnx_io.imports("d::Own")
        def read(n: Any, op: type[Op] = other) -> Any:
            return n.emit(op(), n.input(0))

        @onnx_io.exports(other)
        def write(op: Any, n: Any) -> None:
            n.node("d::Own", n.inputs, n.outputs)

        onnx_io.exports(other)(write)
        assert convc.compile(proto, cache=False)(ONES).tolist() == [factor] * 4


def test_two_classes_of_one_name_in_one_network() -> None:
    """A graph may still hold the class that was replaced, which computes what it says."""
    b = Builder("net")
    x = b.input("x", TensorType("f32", (4,)))
    results = []
    for factor in (2.0, 3.0):
        scaled = own(compute=lambda op, k, xs, outs, f=factor: k.compute(outs[0], lambda *i: xs[0](*i) * f))
        results.append(b.emit(scaled(), x))
    model = convc.compile(b.finish(results, ["y", "z"]), cache=False)
    assert [y.tolist() for y in model.run({"x": ONES}).values()] == [[2.0] * 4, [3.0] * 4]
