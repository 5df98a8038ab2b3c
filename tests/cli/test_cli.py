"""The command line: what it prints, what it writes, and its exit codes (0 done, 1 refused, 2 wrong usage)."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image
from support import models
from support.commands import Capture, run, save, write_samples

import convc
from convc.cli.engines import onnxruntime_engine, random_feeds, torch_engine
from convc.cli.run import probabilities
from convc.onnx.export import to_onnx


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some models and inputs, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path)
    return tmp_path


# -- general -----------------------------------------------------------------------------------------------------------


def test_version(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"convc {convc.__version__}\n"


@pytest.mark.parametrize("command", [[], ["build"], ["run"], ["inspect"], ["export"], ["bench"], ["tune"]])
def test_help_has_an_example(command: list[str], capsys: Capture) -> None:
    assert run(*command, "--help") == 0
    assert f"convc {' '.join(command)}" in capsys.readouterr().out.split("example", 1)[1]


USAGE = {
    "no command": ("", "required"),
    "unknown command": ("frobnicate", "frobnicate"),
    "no model": ("inspect", "MODEL"),
    "unknown option": ("inspect conv.onnx --frob", "--frob"),
    "abbreviated option": ("inspect conv.onnx --verb", "--verb"),
    "shape without name": ("inspect conv.onnx --shape 1,3", "NAME=1,3,224,224"),
    "shape without sizes": ("inspect conv.onnx --shape x=", "'x='"),
    "shape with letters": ("inspect conv.onnx --shape x=1,n", "'x=1,n'"),
    "negative shape": ("inspect conv.onnx --shape x=-1,3", "'x=-1,3'"),
    "two shapes": ("inspect open.onnx --shape x=1,3 --shape x=2,3", "two shapes for input 'x'"),
    "no threads": ("build conv.onnx --threads 0", "'0'"),
    "half a thread": ("build conv.onnx --threads 0.5", "'0.5'"),
    "unknown architecture": (
        "build conv.onnx --target cuda --arch sm_80,sm_81",
        "unknown architecture 'sm_81'; known: sm_75,",
    ),
    "architecture of a processor": (
        "build conv.onnx --arch sm_80",
        "arch is for target 'cuda', and the target is 'cpu'",
    ),
    "kernels of a processor": ("build conv.onnx --kernels", "--kernels is for --target cuda"),
    "threads of a GPU": (
        "build conv.onnx --target cuda --threads 2",
        "threads is for a processor, and the target is 'cuda'",
    ),
    "unknown precision": ("build conv.onnx --precision int4", "'int4'"),
    "precision of a GPU": ("build conv.onnx --precision tf32", "'tf32' is for target 'cuda'"),
    "precision of a processor": ("build conv.onnx --target cuda --precision strict", "'strict' is for a processor"),
    "unknown target": ("build conv.onnx --target tpu", "unknown target 'tpu'; known: cpu, native"),
    "device for a model": ("run relu.onnx --input x.npy --device 1", "--device is for artifacts"),
    "device of letters": ("run relu.onnx --input x.npy --device gpu", "'gpu' is not the number of a GPU"),
    "overwriting the model": ("build conv.onnx -o conv.onnx", "the model itself"),
    "overwriting the model by export": ("export conv.onnx -o ./conv.onnx", "the model itself"),
    "export to nowhere": ("export conv.onnx", "-o"),
    "no input": ("run relu.onnx", "--input FILE (the model takes 'x')"),
    "one of two inputs": ("run two.onnx --input a=a.npy", "--input b=FILE"),
    "input without name": ("run two.onnx --input a.npy", "--input NAME=a.npy"),
    "input given twice": ("run two.onnx --input a=a.npy --input a=a.npy", "'a' is given twice"),
    "top 0": ("run relu.onnx --input x.npy --top 0", "'0'"),
    "labels without top": ("run relu.onnx --input x.npy --labels l.txt", "--labels needs --top"),
    "mean of an array": ("run relu.onnx --input x.npy --mean 1", "for pictures"),
    "mean of letters": ("run relu.onnx --input x.npy --mean a,b", "'a,b'"),
    "std nan": ("run relu.onnx --input x.npy --std nan", "'nan'"),
    "unknown engine": (
        "bench conv.onnx --vs onnxruntime,tpu",
        "unknown engine 'tpu'; known: convc-strict, onnxruntime",
    ),
    "budget of nothing": ("tune conv.onnx --budget 0", "'0'"),
    "output of two runs": ("run relu.onnx --input x.npy --input x.npy --output y.npy", "one run"),
    "results that are no array": ("run relu.onnx --input x.npy --output out.json", "ends in neither"),
    "results to stdout": ("run relu.onnx --input x.npy --output -", "not the name of a file"),
    "results to no name": ("run relu.onnx --input x.npy --output=", "not the name of a file"),
    "artifact of no name": ("build conv.onnx -o=", "not the name of a file"),
    "artifact to stdout": ("build conv.onnx -o -", "not the name of a file"),
    "export to stdout": ("export conv.onnx -o -", "not the name of a file"),
    "measurements to stdout": ("bench conv.onnx --json -", "not the name of a file"),
    "input from stdin": ("run relu.onnx --input -", "'-' is none"),
    "named input from stdin": ("run relu.onnx --input x=-", "'-' is none"),
    "resizing without a crop": ("run relu.onnx --input x.npy --resize 3 --fit pad", "--fit crop"),
    "fitting an array": ("run relu.onnx --input x.npy --fit pad", "--fit is for pictures"),
    "resizing an array": ("run relu.onnx --input x.npy --resize 3", "--resize is for pictures"),
    "two archives": ("run two.onnx --input a.npz b.npz", "one .npz file"),
    "npy of two outputs": ("run both.onnx --input x.npy --output y.npy", ".npz"),
    "seed below 0": ("build conv.onnx --seed -1", "'-1' is not an integer from 0"),
    "limit without a number": ("inspect conv.onnx --limit nodes", "'nodes' is not NAME=N"),
    "examples alone": ("inspect conv.onnx --examples 3", "go together"),
    "speed 0": ("inspect conv.onnx --examples 3 --tflops 0", "'0'"),
    "time of open sizes": ("inspect open.onnx --examples 3 --tflops 1", "--shape"),
}


@pytest.mark.parametrize(("line", "part"), USAGE.values(), ids=USAGE)
def test_wrong_usage(line: str, part: str, folder: Path, capsys: Capture) -> None:
    before = sorted(folder.iterdir())
    assert run(*line.split()) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "usage: convc" in err
    assert sorted(folder.iterdir()) == before


REFUSED = {
    "missing model": ("inspect nowhere.onnx", "nowhere.onnx"),
    "missing artifact": ("run nowhere.convc --input x.npy", "nowhere.convc"),
    "open sizes": ("build open.onnx", "--shape x="),
    "wrong shape": ("build conv.onnx --shape x=1,3,9,9", "input 'x'"),
    "unknown input": ("build conv.onnx --shape q=1", "'q'"),
    "folder that is missing": ("build conv.onnx -o no/where.convc", "no/where.convc"),
    "output that is a folder": ("build relu.onnx -o .", "Is a directory"),
    "output in a file": ("build relu.onnx -o x.npy/a.convc", "is not a folder"),
    "output of too long a name": (f"build relu.onnx -o {'a' * 300}", "name too long"),
    "export to a folder that is missing": ("export relu.onnx -o no/where.onnx", "its folder does not exist"),
    "measurements to a folder": ("bench conv.onnx --json .", "Is a directory"),
    "dump to a file": ("build relu.onnx --dump-dir x.npy", "dump folder"),
    "nowhere to keep what is found": ("tune conv.onnx", "CONVC_CACHE"),
    "tuning open sizes": ("tune open.onnx", "--shape x="),
    "no such input": ("run relu.onnx --input q=x.npy", "no input 'q'; its inputs are x"),
    "no such file": ("run relu.onnx --input q.npy", "'q.npy': no such file"),
    "shape of an array": ("run relu.onnx --input wide.npy", "axis 1 of input 'x' has size 4"),
    "dtype of an array": ("run relu.onnx --input double.npy", "float64"),
    "array that is none": ("run relu.onnx --input bad.npy", "bad.npy"),
    "picture that is none": ("run conv.onnx --input conv.onnx", "conv.onnx"),
    "model that takes no picture": ("run relu.onnx --input p.png", "input 'x'"),
    "labels that are missing": ("run relu.onnx --input x.npy --top 1 --labels l.txt", "l.txt"),
    "results to nowhere": ("run relu.onnx --input x.npy --output no/y.npy", "no/y.npy"),
    "archive that lacks the input": ("run relu.onnx --input ab.npz", "holds no array 'x'; it holds a, b"),
    "archive that is none": ("run relu.onnx --input torn.npz", "not a .npz file of numbers"),
    "tensorflow lite": ("build foreign.tflite", "a TensorFlow Lite model: convert it by"),
    "python without a name": ("inspect zoo.py", "zoo.py:NAME"),
    "python that is missing": ("inspect nozoo.py:net", "cannot import 'nozoo.py'"),
    "python that fails": ("inspect zoo.py:fails", "KeyError: 'oops'"),
    "python without the name": ("inspect zoo.py:nope", "no 'nope'"),
    "python that takes arguments": ("inspect zoo.py:sized", "arguments (n)"),
    "python that is no model": ("inspect zoo.py:number", "a int"),
    "python that is malformed": ("inspect bad.py:x", "SyntaxError"),
    "module that is missing": ("inspect no.such:x", "cannot import 'no.such'"),
    "text that is malformed": ("inspect bad.txt", "line 1"),
}


@pytest.mark.parametrize(("line", "part"), REFUSED.values(), ids=REFUSED)
def test_refused(line: str, part: str, folder: Path, capsys: Capture) -> None:
    Path("zoo.py").write_text("def fails(): raise KeyError('oops')\ndef sized(n): return n\nnumber = 3\n")
    Path("bad.py").write_text("x = (\n")
    Path("bad.txt").write_text("grph\n")
    Path("bad.npy").write_bytes(b"\x93NUMPY torn")
    Path("torn.npz").write_bytes(b"PK\x03\x04 torn")
    Path("foreign.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    np.savez("ab.npz", a=np.zeros(2), b=np.zeros(2))
    Image.new("L", (2, 2)).save("p.png")
    assert run(*line.split()) == 1
    out, err = capsys.readouterr()
    assert part in err
    assert err.startswith("convc: error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not list(folder.glob("*.convc"))


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


def spawn(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "convc", *args], stderr=subprocess.PIPE, **options)


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


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a command once it prints ``ready``, and check that it ends without a word."""
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == b""
    assert process.wait() == 130


def test_interrupt_is_quiet(folder: Path) -> None:
    Path("slow.py").write_text("import time\ndef net():\n    print('ready', flush=True)\n    time.sleep(60)\n")
    process = spawn("inspect", "slow.py:net", stdout=subprocess.PIPE)
    interrupt(process)


@pytest.mark.parametrize("module", ["argparse", "numpy"])
def test_interrupt_during_imports_is_quiet(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the first half second, in which modules are imported, ends a command as a later one does."""
    (folder / "lib").mkdir()
    lines = "import time\nprint('ready', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise {} from None"
    (folder / "lib" / f"{module}.py").write_text(
        lines.format({"argparse": "KeyboardInterrupt", "numpy": "ImportError()"}[module])
    )
    monkeypatch.setenv("PYTHONPATH", str(folder / "lib"))
    process = spawn("inspect", "conv.onnx", stdout=subprocess.PIPE)
    interrupt(process)


def test_termination_leaves_no_temporary_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
    Path("slow.py").write_text(
        "import tempfile, time\ndef net():\n    with tempfile.TemporaryDirectory():\n"
        "        print('ready', flush=True)\n        time.sleep(60)\n"
    )
    process = spawn("inspect", "slow.py:net", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.read() == b""
    assert process.wait() == 143
    assert not list((folder / "temporary").iterdir())


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
    assert run("run", "model.bin", "--input", "x.npy", "--device", "0") == 1
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
