"""Tuning: measurements decide what is compiled, through a database whose damage never makes compiling fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import Capture, run
from support.compiling import compiled
from support.convolutions import convolution, feeds_of
from support.machines import on_machines
from support.oracles import run_onnxruntime
from support.tolerances import WINOGRAD, assert_close

import convc
from convc.backends.cpu.build import Built
from convc.backends.cpu.choices import Choices, algorithm
from convc.backends.cpu.database import database, read, write
from convc.backends.cpu.passes.choose_algorithms import candidates
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import Target, host_target, parse_target
from convc.backends.cpu.tuning import Effort, Outcome, tune
from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.reader import as_graph

CPU = host_target().mcpu


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the database, whose folder does not exist yet."""
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path / "cache"))
    found = database(CPU)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """A convolution that can be computed by several algorithms."""
    return convolution((48, 64, (1, 3), 1, 8, (0, 1), 1, 1), "Relu", bias=True)


def by_the_cost_model(model: onnx.ModelProto, target: Target) -> str:
    """The algorithm of the only convolution of a model that is not tuned."""
    before, _ = pipeline(target.machine).split("choose_algorithms")
    ((_, ranked),) = candidates(before.run(as_graph(model)), target.machine)
    return algorithm(ranked[0][1])


@pytest.fixture(scope="module")
def untuned(model: onnx.ModelProto) -> str:
    return by_the_cost_model(model, host_target())


@on_machines
def test_the_cost_model_chooses_for_a_machine(model: onnx.ModelProto, machine: Target) -> None:
    assert by_the_cost_model(model, machine) == "winograd 1x4"


def algorithms(model: onnx.ModelProto, **options: object) -> set[str]:
    """The algorithms of the convolutions of a model."""
    kernels = convc.compile(model, threads=1, **options).kernels  # type: ignore[arg-type]
    return {algorithm(k.group.anchor.op) for k in kernels if k.rule in ("winograd", "direct_conv")}


ALL = Effort(worth=10.0)
"""An effort that tries every candidate."""


def tuned_to(wanted: str, model: onnx.ModelProto, target: Target, effort: Effort = ALL) -> Outcome:
    """Tune by fake measurements, in which a kernel takes half a second by this algorithm and a second by the others."""

    def measure(built: Built, final: Graph, threads: int, seconds: float) -> Mapping[str, float]:
        return {u: 1.0 - 0.5 * (algorithm(k.group.anchor.op) == wanted) for k in built.kernels for u in k.uses}

    return tune(as_graph(model), target, 60.0, lambda _: None, measure, effort)


@pytest.mark.parametrize("wanted", ["winograd 1x2", "direct"])
def test_compile_uses_what_was_measured(
    wanted: str, path: Path, model: onnx.ModelProto, untuned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wanted == untuned:
        pytest.skip(f"{wanted} is what the cost model chooses for this processor")
    outcome = tuned_to(wanted, model, host_target())
    assert [(t.uses, t.winner) for t in outcome.convolutions] == [(1, wanted)]
    assert outcome.after < outcome.before
    assert algorithms(model) == {untuned}
    write(path, CPU, outcome.choices)
    assert algorithms(model) == {wanted}
    assert algorithms(model, tuning=None) == algorithms(model, tuning=False) == {untuned}
    assert algorithms(model, precision="strict") == {"direct"}
    monkeypatch.setenv("CONVC_CACHE", "")
    assert algorithms(model) == {untuned}
    assert algorithms(model, tuning=path) == {wanted}
    feeds = feeds_of(model)
    one, two = (compiled(model, threads=t, choices=read(path, CPU)).run(feeds)["y"] for t in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert_close(one, run_onnxruntime(model, feeds)[0], wanted, WINOGRAD)


@pytest.mark.parametrize("wanted", ["winograd 1x2", "direct"])
def test_a_database_for_one_of_several_targets(wanted: str, path: Path, model: onnx.ModelProto) -> None:
    """Of several targets, the one that a database is for is compiled by it, and the others as usual."""
    write(path, "x86-64-v3", tuned_to(wanted, model, parse_target("x86-64-v3")).choices)
    both = convc.compile(model, "x86-64-v2,x86-64-v3", threads=1, tuning=path)
    usual = convc.compile(model, "x86-64-v2", threads=1, tuning=None)
    old, new, untuned = ([algorithm(k.group.anchor.op) for k in m.kernels] for m in (*both.models, usual))  # type: ignore[attr-defined]
    assert old == untuned
    assert wanted in new
    with pytest.raises(CompileError, match="for the processor 'x86-64-v3', not 'x86-64-v2' or 'neoverse-n1'"):
        convc.compile(model, "x86-64-v2,neoverse-n1", tuning=path)


def test_a_database_that_would_be_ignored_is_refused(path: Path, model: onnx.ModelProto) -> None:
    write(path, CPU, Choices())
    with pytest.raises(CompileError, match="tuning is for a processor, and the target is 'cuda'"):
        convc.compile(model, "cuda", arch="sm_80", tuning=path)
    with pytest.raises(CompileError, match="precision 'strict' has one"):
        convc.compile(model, precision="strict", tuning=path)


def test_small_gains_are_noise(model: onnx.ModelProto, untuned: str) -> None:
    outcome = tuned_to("winograd 1x2", model, host_target(), replace(ALL, gain=0.6))
    assert outcome.choices == Choices()
    assert outcome.convolutions[0].winner == untuned


def test_kernels_are_told_apart_by_more_than_names(model: onnx.ModelProto) -> None:
    """Keys include shapes and attributes, but neither the names of values nor the number of threads."""
    other = onnx.ModelProto.FromString(model.SerializeToString())
    other.graph.node[0].output[0] = other.graph.node[1].input[0] = "renamed"
    wider = convolution((48, 64, (1, 3), 1, 8, (0, 2), 1, 1), "Relu", bias=True)
    keys = [
        set(tuned_to("winograd 1x2", m, host_target(threads)).choices.algorithms)
        for m, threads in ((model, 1), (other, 1), (model, 2), (wider, 1))
    ]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_an_algorithm_that_is_not_there_is_ignored(path: Path, model: onnx.ModelProto, untuned: str) -> None:
    outcome = tuned_to("winograd 1x2", model, host_target())
    write(path, CPU, Choices(dict.fromkeys(outcome.choices.algorithms, "winograd 9x9")))
    assert algorithms(model) == {untuned}


def test_round_trip(path: Path) -> None:
    choices = Choices({"a": "direct", "b": "winograd 2x2"})
    write(path, CPU, choices)
    assert read(path, CPU) == choices
    assert [p.name for p in path.parent.iterdir()] == [f"tuning-{CPU}.json"]


DAMAGED = {
    "empty": b"",
    "torn": b'{"algorithms": {"a": "dir',
    "not JSON": b"\xff\x00",
    "a list": b"[]",
    "another format": b'{"algorithms": {}, "cpu": "CPU", "format": "convc-tuning-0"}',
    "another processor": b'{"algorithms": {}, "cpu": "z80", "format": "convc-tuning-1"}',
    "a list of choices": b'{"algorithms": ["a"], "cpu": "CPU", "format": "convc-tuning-1"}',
    "choices of numbers": b'{"algorithms": {"a": 1}, "cpu": "CPU", "format": "convc-tuning-1"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_database_is_ignored_with_a_message(
    content: bytes, path: Path, model: onnx.ModelProto, untuned: str
) -> None:
    path.parent.mkdir()
    path.write_bytes(content.replace(b"CPU", CPU.encode()))
    with pytest.warns(UserWarning, match="without its tuning database"):
        assert algorithms(model) == {untuned}
    with pytest.raises(CompileError, match=path.name):
        convc.compile(model, tuning=path)


def test_a_database_asked_for_must_be_there(path: Path, model: onnx.ModelProto) -> None:
    with pytest.raises(CompileError, match="No such file"):
        convc.compile(model, tuning=path)


def test_a_database_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CompileError, match="cannot write the tuning database"):
        write(tmp_path / "file" / "t.json", CPU, Choices())


def test_the_command(
    path: Path, model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The command makes real measurements.

    Whatever they are, it keeps what it prints, and keeps the choices for other kernels.
    """
    write(path, CPU, Choices({"another": "direct"}))
    onnx.save(model, tmp_path / "m.onnx")
    assert run("tune", str(tmp_path / "m.onnx"), "--budget", "0.01") == 0
    out = capsys.readouterr().out.splitlines()
    kept = read(path, CPU).algorithms
    assert kept["another"] == "direct"
    assert out[0].startswith("  1x ")
    assert "conv(float32[2, 48, 8, 8]{NCHW16c}, float32[64, 48, 1, 3]" in out[0]
    assert " ms" in out[1]
    assert out[2] == f"{path}: {len(kept)} choices"


def test_the_command_without_convolutions(path: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.txt").write_text("graph @g(%x: f32[4]) {\n  %y: f32[4] = relu(%x)\n  return %y\n}\n")
    assert run("tune", str(tmp_path / "m.txt")) == 0
    assert "gains nothing" in capsys.readouterr().out
    assert read(path, CPU) == Choices()
