"""The exit codes of the command line: 2 for wrong usage, and 1 for work that fails."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image
from support.commands import Capture, run, save

import convc
from convc.cli import COMMANDS, make_parser

FILES = ("", "-")
COUNTS = ("", "x", "0", "-1", "1.5")
MALFORMED = {
    "--shape": ("", "x", "x=", "=1", "1,3", "x=a-b", "x=-1", "x=1.5", "x=1,,2", "x=1,2n"),
    "--batch": ("", "0", "-1", "1.5", "2n", "n,m"),
    "--value": ("", "x", "x=", "=1", "x=a", "x=1,,2", "x=" + "9" * 20),
    "--outputs": ("", "y,", "y,y"),
    "--limit": ("", "nodes", "nodes=", "nodes=x", "nodes=0", "nodes=-1", "nodes=1.5", "nods=3"),
    "--output": FILES,
    "--target": ("", "tpu", "cpu,", "cuda,cuda", "cpu,cuda"),
    "--arch": ("", "sm_1"),
    "--precision": ("", "int4", "tf32"),
    "--seed": ("", "x", "-1", "1.5", str(1 << 64)),
    "--threads": (*COUNTS, "1,x"),
    "--dump-dir": FILES,
    "--input": (*FILES, "x=", "x=-"),
    "--fit": ("", "x"),
    "--resize": COUNTS,
    "--mean": ("", "x", "1,,2", "nan", "inf"),
    "--std": ("", "x", "1,0", "nan"),
    "--top": COUNTS,
    "--labels": FILES,
    "--device": ("", "x", "-1", "1.5", "9999"),
    "--examples": COUNTS,
    "--tflops": ("", "x", "0", "-1", "nan", "inf"),
    "--vs": ("", "tpu", "onnxruntime,"),
    "--turns": COUNTS,
    "--layers": COUNTS,
    "--json": FILES,
    "--budget": ("", "x", "0", "-1", "nan", "inf"),
    "MODEL": FILES,
}
"""Values of each option that it cannot take, whatever the model is."""
LINES = {
    "build": "conv.onnx",
    "run": "relu.onnx --input x.npy",
    "inspect": "conv.onnx",
    "export": "conv.onnx -o e.onnx",
    "bench": "conv.onnx --vs none",
    "tune": "conv.onnx",
}
"""The words of each command, to which a wrong one is added."""


def options(command: str) -> Iterator[tuple[str, argparse.Action]]:
    """The options of a command by their longest names, and its argument MODEL."""
    commands = next(a for a in make_parser((command,))._actions if a.choices and command in a.choices)
    for action in commands.choices[command]._actions:  # type: ignore[index, call-overload]
        yield max(action.option_strings, key=len, default=action.metavar), action


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command(command: str, folder: Path, capsys: Capture) -> None:
    """A value that an option cannot take is wrong usage, and is named, in every command; nothing is written."""
    wrong = [["--frob"], ["--shape"], ["--limit"]]
    for name, action in options(command):
        if action.nargs == 0:
            wrong.append([f"{name}=x"])
        else:
            wrong += [[value] if name == "MODEL" else [name, value] for value in MALFORMED[name]]
    before = sorted(folder.iterdir())
    model, *others = LINES[command].split()
    for words in wrong:
        assert run(command, *([*words, *others] if words[0] in FILES else [model, *others, *words])) == 2, words
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith(f"usage: convc {command} ")
        last = err.rstrip().splitlines()[-1]
        assert last.startswith(f"convc {command}: error: ")
        assert "Error" not in last
        assert "invalid" not in last or "choose from" in last
    assert sorted(folder.iterdir()) == before


def test_the_table_names_every_option() -> None:
    known = {name for command in COMMANDS for name, action in options(command) if action.nargs != 0}
    assert known == set(MALFORMED)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an artifact for this processor."""
    path = tmp_path_factory.mktemp("artifact") / "relu.convc"
    save(path.with_suffix(".onnx"), [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]})
    convc.compile(path.with_suffix(".onnx")).save(path)
    return path.read_bytes()


USAGE = {
    "no command": ("", "required"),
    "unknown command": ("frobnicate", "frobnicate"),
    "no model": ("inspect", "MODEL"),
    "unknown option": ("inspect conv.onnx --frob", "--frob"),
    "abbreviated option": ("inspect conv.onnx --verb", "--verb"),
    "shape without name": ("inspect conv.onnx --shape 1,3", "NAME=1,3,224,224"),
    "shape without sizes": ("inspect conv.onnx --shape x=", "'x='"),
    "shape with letters": ("inspect conv.onnx --shape x=1,2n", "'x=1,2n'"),
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
    "targets that do not go together": ("build conv.onnx --target cpu,cuda", "compile once for each"),
    "device for a model": ("run relu.onnx --input x.npy --device 1", "--device is for artifacts"),
    "device of letters": ("run relu.onnx --input x.npy --device gpu", "'gpu' is not the number of a GPU"),
    "overwriting the model": ("build conv.onnx -o conv.onnx", "the model itself"),
    "overwriting the model by export": ("export conv.onnx -o ./conv.onnx", "the model itself"),
    "export to nowhere": ("export conv.onnx", "-o"),
    "no input": ("run relu.onnx", "--input FILE (the model takes 'x')"),
    "one of two inputs": ("run two.onnx --input a=a.npy", "--input b=FILE"),
    "input without name": ("run two.onnx --input a.npy", "--input NAME=a.npy"),
    "one input given twice": ("run relu.onnx --input x=x.npy x=x.npy", "'x' is given twice"),
    "an input for a constant": ("run relu.onnx --value x=1,2,3 --input x.npy", "the model takes no input"),
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
    "results to stdout": ("run relu.onnx --input x.npy --output -", "--output: '-' is not the name of a file"),
    "results to no name": ("run relu.onnx --input x.npy --output=", "not the name of a file"),
    "artifact of no name": ("build conv.onnx -o=", "not the name of a file"),
    "artifact to stdout": ("build conv.onnx -o -", "not the name of a file"),
    "export to stdout": ("export conv.onnx -o -", "not the name of a file"),
    "measurements to stdout": ("bench conv.onnx --json -", "not the name of a file"),
    "artifact named as a graph": ("build conv.onnx -o x.txt", "a graph in text form, and an artifact is written"),
    "export named as an artifact": ("export conv.onnx -o x.convc", "a name that ends in .onnx"),
    "options for an artifact's model": ("inspect a.convc --text", "--text is for models, and 'a.convc' is an artifact"),
    "shapes of an artifact": ("run a.convc --input x.npy --shape x=1,3", "--shape is for models"),
    "limits of an artifact": ("run a.convc --input x.npy --limit nodes=9", "--limit is for models"),
    "limits of an artifact that is shown": ("inspect a.convc --limit nodes=9", "--limit is for models"),
    "limits of an artifact on a GPU": ("bench a.convc --limit nodes=9", "--limit is for models"),
    "results of an artifact on a GPU": ("bench a.convc --json b.json", "--json is for models"),
    "device of a processor's artifact": ("run a.convc --input x.npy --device 0", "for models compiled for a GPU"),
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
def test_wrong_usage(line: str, part: str, folder: Path, artifact: bytes, capsys: Capture) -> None:
    Path("a.convc").write_bytes(artifact)
    before = sorted(folder.iterdir())
    assert run(*line.split()) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "usage: convc" in err
    assert sorted(folder.iterdir()) == before


REFUSED = {
    "missing model": ("inspect nowhere.onnx", "nowhere.onnx"),
    "missing value": ("inspect relu.onnx --value x=q.npy", "cannot read 'q.npy': No such file"),
    "value that is none": ("inspect relu.onnx --value x=bad.npy", "cannot read 'bad.npy': not a .npy file"),
    "value of text": ("inspect relu.onnx --value x=text.npy", "holds text; the input is float32[1, 3]"),
    "text": ("run relu.onnx --input text.npy", "input 'x' holds text; the model takes float32"),
    "missing artifact": ("run nowhere.convc --input x.npy", "nowhere.convc"),
    "open sizes": ("build open.onnx --target cuda", "--shape x="),
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
    "archive that lacks an input": ("run two.onnx --input one.npz", "'one.npz' holds no array 'b'; it holds a"),
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
    np.save("text.npy", np.full((1, 3), "a"))
    Path("torn.npz").write_bytes(b"PK\x03\x04 torn")
    Path("foreign.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    np.savez("ab.npz", a=np.zeros(2), b=np.zeros(2))
    np.savez("one.npz", a=np.zeros(2))
    Image.new("L", (2, 2)).save("p.png")
    assert run(*line.split()) == 1
    out, err = capsys.readouterr()
    assert part in err
    assert err.startswith("convc: error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not list(folder.glob("*.convc"))
