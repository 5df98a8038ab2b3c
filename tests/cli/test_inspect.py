"""``convc inspect``: the table, the text form, totals and times. None of them allocates constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support.commands import Capture, run, save, write_samples

from convc.ir.graph import Graph
from convc.ir.summary import duration, human, summarize
from convc.ir.text import parse_graph, print_graph

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some models and inputs, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path)
    return tmp_path


INSPECTED = """\
inputs: %x: float32[1, 3, 4, 4]
layer  op    output               parameters  FLOPs  bytes
----------------------------------------------------------
y      conv  float32[1, 2, 4, 4]           6   192     24
----------------------------------------------------------
total                                      6   192     24
6 parameters (24 B), 192 FLOP a run
"""


def test_inspect(folder: Path, capsys: Capture) -> None:
    assert run("inspect", "conv.onnx") == 0
    assert capsys.readouterr().out == INSPECTED


def test_inspect_verbose_and_time(folder: Path, capsys: Capture) -> None:
    assert run("inspect", "conv.onnx", "-v", "--examples", "1000000", "--tflops", "0.000001") == 0
    out = capsys.readouterr().out
    assert "conv(%x, %w)" in out
    assert out.endswith("1,000,000 runs at 1e-06 TFLOP/s take 3.2 minutes\n")


def test_inspect_of_open_sizes(folder: Path, capsys: Capture) -> None:
    assert run("inspect", "open.onnx") == 0
    out = capsys.readouterr().out
    assert "float32[n, 3]" in out
    assert "FLOPs not known" in out
    assert run("inspect", "open.onnx", "--shape", "x=7,3") == 0
    assert "float32[7, 3]" in capsys.readouterr().out


def test_a_batch_is_opened_on_the_command_line(folder: Path, capsys: Capture) -> None:
    model = str(ROOT / "examples" / "lenet.onnx")
    assert run("inspect", model, "--batch", "n") == 0
    assert "float32[n, 20, 24, 24]" in capsys.readouterr().out
    assert run("build", model, "--batch", "n", "-o", "n.convc") == 0
    assert "x: float32[n, 1, 28, 28] -> logits: float32[n, 10]" in capsys.readouterr().out
    assert run("inspect", "n.convc") == 0
    assert "x: float32[n, 1, 28, 28]" in capsys.readouterr().out
    assert run("inspect", "n.convc", "--batch", "n") == 2
    assert run("inspect", model, "--batch", "0") == 2


def test_sizes_that_an_input_decides(folder: Path, capsys: Capture) -> None:
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    save(folder / "e.onnx", [node], {"x": [1, 3], "shape": (np.int64, [2])})
    assert run("inspect", "e.onnx") == 0
    assert "float32[u0, 3]" in capsys.readouterr().out
    assert run("inspect", "e.onnx", "--value", "shape=5,3") == 0
    assert "float32[5, 3]" in capsys.readouterr().out


def test_names_in_shapes(folder: Path, capsys: Capture) -> None:
    model = f"{ROOT / 'examples' / 'networks.py'}:lenet"
    assert run("inspect", model, "--shape", "x=n,1,28,28") == 0
    assert "float32[n, 20, 24, 24]" in capsys.readouterr().out
    assert run("inspect", model, "--shape", "x=n,1,-28,28") == 2


def test_inspect_text_is_read_back(folder: Path, capsys: Capture) -> None:
    assert run("inspect", "conv.onnx", "--text") == 0
    text = capsys.readouterr().out
    assert print_graph(parse_graph(text)) + "\n" == text
    Path("again.txt").write_text(text)
    assert run("inspect", "again.txt") == 0
    assert capsys.readouterr().out == INSPECTED


def lazy(inputs: int) -> Graph:
    return parse_graph(
        f"graph @g(%x: f32[1,{inputs},1,1]) {{ %w: f32[100,{inputs},1,1] = const uniform(0.1, 1)\n"
        f"%b: f32[100] = const fill(0, 0)  %y: f32[1,100,1,1] = conv(%x, %w, %b) return %y }}"
    )


def test_a_model_larger_than_memory_is_inspected_without_making_it(capsys: Capture) -> None:
    graph = lazy(36_000_000_000)  # 14.4 TB of weights
    summary = summarize(graph)
    assert summary.parameters == 3_600_000_000_100
    assert summary.nbytes == 4 * 3_600_000_000_100
    assert summary.flops == 2 * 3_600_000_000_000 + 100
    assert "3,600,000,000,100 parameters (14.4 TB), 7.20 TFLOP a run" in summary.totals()
    assert "uniform(0.1, 1)" in print_graph(graph)


def test_a_large_dense_layer(folder: Path, capsys: Capture) -> None:
    Path("net.py").write_text("from convc import nn\nbig = nn.Dense(100)\n")
    command = "inspect net.py:big --shape x=1,36000000 --examples 1000000 --tflops 0.15"
    assert run(*command.split()) == 0
    out = capsys.readouterr().out
    assert "3,600,000,100 parameters (14.4 GB), 7.20 GFLOP a run" in out
    assert "13.3 hours" in out


def test_shared_weights_are_counted_once() -> None:
    text = (
        "graph @g(%x: f32[1,3]) { %w: f32[3] = const [1,2,3] "
        "%a: f32[1,3] = add(%x, %w) %y: f32[1,3] = add(%a, %w) return %y }"
    )
    assert [layer.parameters for layer in summarize(parse_graph(text)).layers] == [3, 0]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 "),
        (999, "999 "),
        (1000, "1.00 k"),
        (9995, "10.0 k"),
        (99950, "100 k"),
        (999499, "999 k"),
        (999500, "1.00 M"),
    ],
)
def test_human(count: int, text: str) -> None:
    assert human(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2e-6, "2 microseconds"),
        (0.5, "500 milliseconds"),
        (66600, "18.5 hours"),
        (3e5, "3.47 days"),
        (1e9, "31.7 years"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
