"""The options --value and --outputs, and what ``convc inspect`` says of models that cannot be imported as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support import models
from support.commands import Capture, run

import convc

node = helper.make_node


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Resize to sizes that an input holds, and a network of open sizes."""
    monkeypatch.chdir(tmp_path)
    nodes = [node("Relu", ["x"], ["r"]), node("Resize", ["r", "", "", "s"], ["y"], mode="nearest")]
    inputs = {"x": [1, 1, 4, 4], "s": (np.int64, [4])}
    onnx.save(models.model(nodes, inputs, {"y": [1, 1, "a", "b"]}), "size.onnx")
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    onnx.save(models.model(nodes, {"x": ["n", 3, "h", "w"]}, "y", {"w": weight}), "open.onnx")
    np.save("x.npy", np.ones((1, 1, 4, 4), np.float32))
    np.save("s.npy", np.array([1, 1, 2, 3]))
    return tmp_path


def test_a_value_on_the_command_line(capsys: Capture) -> None:
    for given in ("s=1,1,2,3", "s=s.npy"):
        assert run("run", "size.onnx", "--value", given, "--input", "x.npy") == 0
        assert "y: float32[1, 1, 2, 3]" in capsys.readouterr().out
    assert run("run", "size.onnx", "--input", "x=x.npy", "s=s.npy") == 0
    assert "y: float32[1, 1, 2, 3]" in capsys.readouterr().out
    assert run("build", "size.onnx", "-o", "any.convc") == 0
    assert run("run", "any.convc", "--input", "x=x.npy", "s=s.npy") == 0
    assert "y: float32[1, 1, 2, 3]" in capsys.readouterr().out
    assert run("build", "size.onnx", "--value", "s=1,1,2,3") == 0
    assert [p.name for p in convc.load("size.convc").inputs] == ["x"]
    assert run("export", "size.onnx", "--value", "s=1,1,2,3", "-o", "fixed.onnx") == 0
    assert [i.name for i in onnx.load("fixed.onnx").graph.input] == ["x"]


def test_outputs_on_the_command_line(capsys: Capture) -> None:
    assert run("run", "size.onnx", "--outputs", "r", "--input", "x.npy") == 0
    assert "r: float32[1, 1, 4, 4]" in capsys.readouterr().out
    assert run("build", "size.onnx", "--outputs", "q") == 1
    assert "'q'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("build size.onnx --value s", "NAME=16000"),
        ("build size.onnx --value s=fast", "NAME=16000"),
        ("build size.onnx --value s=1 --value s=2", "two values for input 's'"),
        ("build size.onnx --limit nodes=1 --limit nodes=2", "two values for limit 'nodes'"),
    ],
)
def test_wrong_usage(words: str, message: str, capsys: Capture) -> None:
    assert run(*words.split()) == 2
    assert message in capsys.readouterr().err


def test_inspect_of_open_sizes(capsys: Capture) -> None:
    assert run("inspect", "open.onnx") == 0
    out = capsys.readouterr().out
    for part in ("inputs: %x: float32[n, 3, h, w]", "conv", "216", "216 parameters (864 B)", "--shape x=..."):
        assert part in out
    assert "float32[n, 8, h - 2, w - 2]" in out
    assert "the shapes are these where h >= 3, w >= 3" in out
    assert run("inspect", "open.onnx", "--text") == 0
    assert """assume "h" >= 3 for "Conv node 'c'\"""" in capsys.readouterr().out


def test_inspect_of_values_that_are_left_open(capsys: Capture) -> None:
    """Sizes are read when the model runs, scales are not."""
    assert run("inspect", "size.onnx") == 0
    assert "float32[u0, u1, u2, u3]" in capsys.readouterr().out
    resize = node("Resize", ["x", "", "s"], ["y"], mode="nearest")
    onnx.save(models.model([resize], {"x": [1, 1, 4, 4], "s": [4]}, {"y": [1, 1, "a", "b"]}), "scale.onnx")
    assert run("inspect", "scale.onnx") == 0
    out = capsys.readouterr().out
    assert "compiled for each value of s: --value s=..." in out
    assert "float32[1, 1, a, b]" in out


def test_inspect_of_what_is_not_supported(capsys: Capture) -> None:
    nodes = [node("Foo", ["x"], ["t"], domain="my.domain"), node("Relu", ["t"], ["y"])]
    onnx.save(models.model(nodes, {"x": ["n", 3]}, "y"), "foreign.onnx")
    assert run("inspect", "foreign.onnx") == 1
    got = capsys.readouterr()
    assert "Relu" in got.out
    assert "my.domain::Foo" in got.err
