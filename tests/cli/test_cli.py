"""The command line: what it prints and what it writes."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from support import models
from support.commands import Capture, run, save, spawn

import convc
from convc.cli.engines import onnxruntime_engine, random_feeds, torch_engine
from convc.cli.run import probabilities
from convc.onnx.export import to_onnx

# -- general -----------------------------------------------------------------------------------------------------------


def test_version(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"convc {convc.__version__}\n"


@pytest.mark.parametrize("command", [[], ["build"], ["run"], ["inspect"], ["export"], ["bench"], ["tune"]])
def test_help_has_an_example(command: list[str], capsys: Capture) -> None:
    assert run(*command, "--help") == 0
    assert f"convc {' '.join(command)}" in capsys.readouterr().out.split("example", 1)[1]


@pytest.mark.parametrize("line", ["--debug inspect nowhere.onnx", "inspect --debug nowhere.onnx"])
def test_debug_shows_the_traceback(line: str, capsys: Capture) -> None:
    assert run(*line.split()) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "nowhere.onnx" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError("for 3 TB"), 1, "convc: error: out of memory (for 3 TB)\n"),
        (OSError(28, "No space left on device", "y"), 1, "convc: error: No space left on device: 'y'\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (ZeroDivisionError("a\nb"), 1, "convc: error: internal error: ZeroDivisionError: a b (please report this; "),
    ],
)
def test_errors_without_a_traceback(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("convc.cli.inspect.as_graph", fail)
    monkeypatch.setattr("convc.cli._drop_stdout", lambda: None)
    assert run("inspect", "m.onnx") == code
    err = capfd.readouterr().err
    assert err.startswith(message)
    assert len(err.splitlines()) == bool(message)


def test_names_do_not_drive_the_terminal(folder: Path, capsys: Capture) -> None:
    path = save(folder / "evil.onnx", [helper.make_node("Nop", ["x"], ["y"], name="\x1b[31mred")], {"x": [1]})
    assert run("inspect", str(path)) == 1
    assert "\\x1b[31mred" in capsys.readouterr().err


def test_closed_pipe_is_quiet(folder: Path) -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(3000)]
    nodes += [helper.make_node("Relu", ["v3000"], ["y"])]
    save(folder / "long.onnx", nodes, {"v0": [1]})
    process = spawn("inspect", "long.onnx", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_full_disk(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = spawn("inspect", "conv.onnx", stdout=full)
        assert process.stderr is not None
        assert process.stderr.read() == b"convc: error: No space left on device\n"
        assert process.wait() == 1


def test_progress_only_on_a_terminal(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("build", "relu.onnx") == 0
    assert capsys.readouterr().err == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("build", "relu.onnx") == 0
    assert [line.split()[1] for line in sys.stderr.getvalue().splitlines()] == ["reading", "compiling", "writing"]  # type: ignore[attr-defined]


# -- build, run, export ------------------------------------------------------------------------------------------------


def test_build_and_run(folder: Path, capsys: Capture) -> None:
    assert run("build", "relu.onnx", "--threads", "1") == 0
    assert capsys.readouterr().out.startswith("relu.convc (")
    assert run("run", "relu.convc", "--input", "x.npy", "--output", "y.npy") == 0
    assert capsys.readouterr().out == "y: float32[1, 3] = [[0., 2., 3.]]\n"
    np.testing.assert_array_equal(np.load("y.npy"), [[0, 2, 3]])


def test_an_artifact_may_have_any_name(folder: Path, capsys: Capture) -> None:
    assert run("build", "relu.onnx", "-o", "model.bin") == 0
    assert run("run", "model.bin", "--input", "x.npy") == 0
    assert run("run", "model.bin", "--input", "x.npy", "--shape", "x=1,3") == 2
    assert run("run", "model.bin", "--input", "x.npy", "--device", "0") == 2
    assert "device (--device) is for models compiled for a GPU" in capsys.readouterr().err
    assert run("export", "model.bin", "-o", "model.onnx") == 1
    assert "compiled already" in capsys.readouterr().err


def test_build_with_open_sizes_and_stages(folder: Path, capsys: Capture) -> None:
    assert run("build", "open.onnx", "--shape", "x=1,3", "-o", "o.convc", "--dump-dir", "a/stages") == 0
    assert convc.load("o.convc").inputs[0].shape == (1, 3)
    stages = sorted(p.name for p in Path("a/stages").glob("*.txt"))
    assert stages[0] == "00_input.txt"
    capsys.readouterr()
    for stage in stages:  # every stage's text is a model again
        assert run("run", f"a/stages/{stage}", "--input", "x.npy") == 0
        assert capsys.readouterr().out == "y: float32[1, 3] = [[0., 2., 3.]]\n"


def test_stages_keep_bfloat16(folder: Path) -> None:
    w = np.arange(9).astype(ml_dtypes.bfloat16)
    onnx.save(
        models.model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": w}, {"y": w}, {"w": w}, opset=22), "b.onnx"
    )
    np.save("b.npy", np.ones(9, ml_dtypes.bfloat16))
    assert run("build", "b.onnx", "--dump-dir", "stages") == 0
    assert run("run", "stages/00_input.txt", "--input", "b.npy", "--output", "y.npy") == 0
    assert np.load("y.npy").view(ml_dtypes.bfloat16).tolist() == list(range(1, 10))


def test_run_compiles_a_model(folder: Path, capsys: Capture) -> None:
    assert run("run", "open.onnx", "--shape", "x=1,3", "--input", "x=x.npy", "--threads", "1") == 0
    assert capsys.readouterr().out == "y: float32[1, 3] = [[0., 2., 3.]]\n"


def test_run_several_inputs_and_outputs(folder: Path, capsys: Capture) -> None:
    assert run("run", "two.onnx", "--input", "b=a.npy", "--input", "a=a.npy") == 0
    assert capsys.readouterr().out == "y: float32[2] = [2., 4.]\n"
    assert run("run", "both.onnx", "--input", "x.npy", "--output", "y.npz") == 0
    with np.load("y.npz") as arrays:
        assert {name: a.tolist() for name, a in arrays.items()} == {"y": [[0, 2, 3]], "z": [[-2, 4, 6]]}


def test_run_takes_its_inputs_from_an_archive(folder: Path, capsys: Capture) -> None:
    np.savez("ab.npz", a=np.array([1, 2], np.float32), b=np.array([3, 4], np.float32))
    np.savez("x.npz", anything=np.array([[-1, 2, 3]], np.float32))
    assert run("run", "two.onnx", "--input", "ab.npz") == 0
    assert run("run", "two.onnx", "--input", "ab.npz", "--input", "b=a.npy") == 0
    assert run("run", "relu.onnx", "--input", "x.npz") == 0
    want = "y: float32[2] = [4., 6.]\ny: float32[2] = [2., 4.]\ny: float32[1, 3] = [[0., 2., 3.]]\n"
    assert capsys.readouterr().out == want


def test_paths_are_checked_before_the_work(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that cannot be written is refused before a model is read, compiled or run."""
    for work in ("build.convc.compile", "run.convc.compile", "export.convc.save_onnx", "bench.compare"):
        monkeypatch.setattr(f"convc.cli.{work}", None)
    for line in (
        "build relu.onnx -o no/r.convc",
        "export relu.onnx -o no/r.onnx",
        "run relu.onnx --input x.npy --output no/y.npy",
        "bench relu.onnx --vs none --json no/b.json",
    ):
        assert run(*line.split()) == 1
        assert "its folder does not exist" in capsys.readouterr().err


def test_run_several_files_one_after_another(folder: Path, capsys: Capture) -> None:
    np.save("x2.npy", np.array([[4, -5, 6]], np.float32))
    assert run("run", "relu.onnx", "--input", "x.npy", "--input", "x2.npy") == 0
    want = "x.npy:\ny: float32[1, 3] = [[0., 2., 3.]]\nx2.npy:\ny: float32[1, 3] = [[4., 0., 6.]]\n"
    assert capsys.readouterr().out == want


def test_large_outputs_are_summed_up(folder: Path, capsys: Capture) -> None:
    np.save("c.npy", np.ones((1, 3, 4, 4), np.float32))
    assert run("run", "conv.onnx", "--input", "c.npy") == 0
    assert capsys.readouterr().out == "y: float32[1, 2, 4, 4]  min 3  max 12  mean 7.5\n"


def test_output_follows_links_and_keeps_devices(folder: Path) -> None:
    Path("real").mkdir()
    Path("y.npy").symlink_to("real/y.npy")
    os.mkfifo("pipe.npy")
    reader = subprocess.Popen(["cat", "pipe.npy"], stdout=subprocess.PIPE)
    for target in ("y.npy", "pipe.npy"):
        assert run("run", "relu.onnx", "--input", "x.npy", "--output", target) == 0
    assert Path("y.npy").is_symlink()
    assert Path("pipe.npy").is_fifo()
    assert reader.communicate()[0] == Path("real/y.npy").read_bytes()


def test_top(folder: Path, capsys: Capture) -> None:
    Path("labels.txt").write_text("cat\nhôtel\n", encoding="utf-8")
    assert run("run", "relu.onnx", "--input", "x.npy", "--top", "2", "--labels", "labels.txt") == 0
    assert capsys.readouterr().out == "     2  0.7054\n     1  0.2595  hôtel\n"
    assert run("run", "relu.onnx", "--input", "x.npy", "--top", "9") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_top_of_a_batch(folder: Path, capsys: Capture) -> None:
    np.save("rows.npy", np.array([[0, 1, 0], [0.5, 0.25, 0.25]], np.float32))
    assert run("run", "open.onnx", "--shape", "x=2,3", "--input", "rows.npy", "--top", "1") == 0
    assert capsys.readouterr().out == "row 0\n     1  1.0000\nrow 1\n     0  0.5000\n"


def test_probabilities() -> None:
    given = np.array([0.25, 0.75])
    assert probabilities(given) is given
    np.testing.assert_allclose(probabilities(np.array([1000.0, 1000.0])), [0.5, 0.5])
    assert np.isnan(probabilities(np.array([np.nan, 1.0]))).any()


def test_export(folder: Path, capsys: Capture) -> None:
    assert run("export", "open.onnx", "--shape", "x=1,3", "-o", "fixed.onnx") == 0
    assert convc.load_onnx("fixed.onnx").inputs[0].type.shape == (1, 3)
    onnx.checker.check_model("fixed.onnx", full_check=True)


ZOO = """
from dataclasses import dataclass
from neighbour import TEXT
from convc.ir.text import parse_graph
graph = parse_graph(TEXT)
def made(size=3): return graph
class Net:
    def to_graph(self, shapes): return graph
net = Net()
"""
RELU = "graph @g(%x: f32[1,3]) {\n  %y: f32[1,3] = relu(%x)\n  return %y\n}"


@pytest.mark.parametrize("model", ["zoo.py:graph", "zoo.py:made", "zoo.py:Net", "zoo.py:net", "pack.zoo:graph"])
def test_models_made_in_python(model: str, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("pack").mkdir()
    for path in ("zoo.py", "pack/zoo.py"):
        Path(path).write_text(ZOO)
    Path("neighbour.py").write_text(f"TEXT = {RELU!r}")
    assert run("inspect", model, "--text") == 0
    assert capsys.readouterr().out == RELU + "\n"
    assert run("build", model) == 0
    assert Path(model.split(":")[1] + ".convc").exists()


# -- bench -------------------------------------------------------------------------------------------------------------


def test_bench_names_the_worst_layer(folder: Path, capsys: Capture) -> None:
    assert run("bench", "conv.onnx", "--vs", "convc-strict", "--turns", "1", "--layers", "1") == 0
    head, times, worst, slowest = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "thr", "convc", "convc-strict", "/", "convc-strict"]
    assert times.startswith("conv ")
    assert worst.startswith("    worst: ")
    assert "float32[1, 3, 4, 4]" in worst
    assert "% " in slowest


def test_bench_says_what_an_engine_needs(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is found before the work, with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("convc.cli.bench.compare", None)
    assert run("bench", "conv.onnx", "--vs", "convc-strict,torch") == 1
    assert "engine torch is not installed: pip install torch onnx2torch" in capsys.readouterr().err
    assert run("bench", "conv.onnx") == 1
    assert "pip install onnxruntime" in capsys.readouterr().err
    assert run("bench", "conv.onnx", "--vs", "none", "--memory") == 1
    out, err = capsys.readouterr()
    assert "pip install onnxruntime" in err
    assert out == ""


def test_onnxruntime_loads_without_telemetry(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever convc and its tests import ONNX Runtime, the variable that it reads when it loads is set before."""
    (folder / "lib").mkdir()
    (folder / "lib" / "onnxruntime.py").write_text("import os\nraise OSError(os.getenv('ORT_DISABLE_TELEMETRY'))\n")
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'lib'}:{Path(__file__).parent.parent}")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert run("bench", "conv.onnx") == 1
    assert "engine onnxruntime failed: OSError: 1" in capsys.readouterr().err
    for words in (["-m", "convc.cli.footprint", "onnxruntime", "conv.onnx"], ["-c", "import support.oracles"]):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "OSError: 1"
    sources = [p for p in Path(convc.__file__).parent.rglob("*.py") if "import onnxruntime" in p.read_text()]
    assert [p.name for p in sources] == ["others.py"]


def test_bench_of_convc_alone(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convc.cli.bench.show_layers", lambda *_: None)
    assert run("bench", "conv.onnx", "--vs", "none", "--turns", "1", "--json", "out.json") == 0
    head, times = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "thr", "convc"]
    assert times.split()[-1] == "ms"
    assert json.loads(Path("out.json").read_text())[0]["ratio"] == {}


def test_torch_computes_the_same_model(folder: Path) -> None:
    pytest.importorskip("onnx2torch")
    model = to_onnx(convc.load_onnx("conv.onnx"))
    feeds = random_feeds(model)
    np.testing.assert_allclose(torch_engine(model, 1, feeds)().numpy(), onnxruntime_engine(model, 1, feeds)()[0], 1e-5)
