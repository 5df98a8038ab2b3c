"""Limits: each is enforced, the error tells how to raise it, and it holds wherever a model is compiled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.malformed import RELU, ints, model, nested, node, raises, with_constants

import convc
from convc import LimitError, Limits
from convc.cli import main
from convc.ir.limits import current, using
from convc.ir.text import parse_graph
from convc.reader import as_graph

OPEN = model(node("Relu", "x"), inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])])
THREE = model(node("Relu", "x", "a"), node("Tanh", "a", "b", name="n2"), node("Conv", "b w", name="n3"))
PADDED = model(node("AveragePool", "x", kernel_shape=[2, 2], pads=[9] * 4, count_include_pad=1))
"""Its pads are longer than the data, 8."""
FOLDED = with_constants(
    node("Tile", "c n", "t"),
    node("Add", "x t", name="n2"),
    c=np.ones((1, 3, 8, 1), np.float32),
    n=ints("n", 1, 1, 1, 8),
)
TEXT = "graph @g(%x: f32[3]) { %y: f32[3] = relu(%x) return %y }"

LOOP = """graph @g(%x: f32[3]) {
  %y: f32[3] = loop(%x) {steps=9, states=1, body=graph @b(%s: f32[3]) { %t: f32[3] = sin(%s) return %t }} return %y }"""

LIMITS: dict[str, tuple[Any, int, int, str]] = {
    "file_bytes": (RELU.SerializeToString(), 10, RELU.ByteSize(), "the given bytes"),
    "text_bytes": (TEXT, 20, len(TEXT), "the text"),
    "nodes": (THREE, 2, 3, "list of nodes"),
    "operands": (model(node("Sum", "x x x")), 2, 3, "Sum node 'n1'"),
    "steps": (convc.to_onnx(parse_graph(LOOP)), 8, 9, "Scan node 'y'"),
    "depth": (nested(3), 2, 3, "functions"),
    "rank": (RELU, 3, 4, "input 'x'"),
    "tensor_bytes": (RELU, 700, 768, "'x'"),
    "window": (PADDED, 8, 9, "AveragePool node 'n1'"),
    "constant_bytes": (FOLDED, 700, 768, "Tile node 'n1'"),
    "folded_bytes": (FOLDED, 800, 96 + 32 + 768, "Tile node 'n1'"),
    "constant_flops": (
        with_constants(
            node("Conv", "c w", "t"),
            node("Conv", "x w", "u", name="n2"),
            node("Add", "t u", name="n3"),
            c=np.ones((1, 3, 3, 3), np.float32),
        ),
        200,
        216,
        "what 'g' computes of its weights",
    ),
    "workspace_bytes": (THREE, 700, 0, "a call of 'g'"),
}


def use(source: Any) -> Any:
    """Compile the source, where only compiling reaches the limit."""
    return parse_graph(source) if isinstance(source, str) else as_graph(source)


def test_every_limit_is_tested() -> None:
    assert list(LIMITS) == list(Limits.__dataclass_fields__)


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name: str) -> None:
    source, low, met, where = LIMITS[name]
    limits: Any = Limits(**{name: low})
    call: Callable[[Any], Any] = convc.compile if name in ("tensor_bytes", "workspace_bytes", "constant_flops") else use
    call(source)
    with (
        using(limits),
        raises(LimitError, where, str(met or ""), f"limit is {low}", f"Limits({name}=...)", f"--limit {name}="),
    ):
        call(source)


def test_limits_are_given_to_compile_load_and_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in (convc.compile, convc.load_onnx):
        with raises(LimitError, "the limit is 3"):
            call(RELU, limits=Limits(rank=3))  # type: ignore[operator]
    onnx.save(RELU, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx"), "--limit", "rank=3"]) == 1
    assert "--limit rank=" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "m.onnx"), "--limit", "rank=4"]) == 0
    with pytest.raises(SystemExit, match="2"):
        main(["inspect", str(tmp_path / "m.onnx"), "--limit", "height=4"])
    assert "there is no limit 'height'; known: file_bytes" in capsys.readouterr().err
    assert current() == Limits()


def test_limits_hold_for_sizes_that_are_compiled_later() -> None:
    """The limits of ``compile`` hold in every thread that calls the model, and not the limits around the call."""
    model = convc.compile(OPEN, limits=Limits(tensor_bytes=400), cache=False)
    np.testing.assert_array_equal(model(np.ones(100, np.float32)), np.ones(100, np.float32))
    with raises(LimitError, "'x' has 404 bytes for n = 101", "limit is 400"):
        ThreadPoolExecutor(1).submit(model, np.ones(101, np.float32)).result()


def test_limits_hold_for_what_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    convc.compile(RELU, cache=True)
    with raises(LimitError, "'x'", "768 bytes", "limit is 700"):
        convc.compile(RELU, cache=True, limits=Limits(tensor_bytes=700))
    assert len(list(tmp_path.rglob("*.convc"))) == 1


def test_limits_hold_for_a_gpu() -> None:
    with raises(LimitError, "a call of 'g'", "bytes of workspace", "limit is 700"):
        convc.compile(THREE, "cuda", arch="sm_80", limits=Limits(workspace_bytes=700))


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True, None])
def test_a_limit_that_is_none(value: Any) -> None:
    with raises(LimitError, "nodes", "integer of at least 1", repr(value)):
        Limits(nodes=value)
