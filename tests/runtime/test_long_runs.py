"""Models that run for a long time: constant memory, right answers, forks, and interrupted builds.

Each slow test takes ``CONVC_LONG_RUN`` seconds.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.long_runs import answer

import convc
from convc import nn
from convc.cli import Terminated, main
from convc.ir.builder import Builder
from convc.ir.op import f32
from convc.ir.ops.conv import Conv
from convc.ir.ops.unary import Relu

SCRIPT = Path(__file__).parents[1] / "support" / "long_runs.py"
LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"
SHAPE = (1, 32, 32, 32)
OUTPUT_BYTES = 1 * 32 * 32 * 32 * 4
"""The size in bytes of the smallest object that a call could leak: one output."""
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads /proc")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of parallel kernels, which need a pool of threads."""
    conv = [nn.Conv2D(32, kernel_size=3, padding=1, activation="relu") for _ in range(2)]
    path = tmp_path_factory.mktemp("long") / "m.so"
    convc.compile(nn.Sequential(*conv), shapes={"x": SHAPE}, threads=2).save(path)
    return path


@pytest.fixture(scope="module")
def open_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model for pictures of any size."""
    b = Builder("open")
    x = b.input("x", f32[1].with_shape((1, 32, "h", "w")))
    for i in range(2):
        w = np.random.default_rng(i).uniform(-0.1, 0.1, (32, 32, 3, 3)).astype(np.float32)
        x = b.emit(Relu(), b.emit(Conv(pads=((1, 1), (1, 1))), x, b.constant(w)))
    path = tmp_path_factory.mktemp("long") / "m.so"
    convc.compile(b.finish([x]), threads=2).save(path)
    return path


def check(what: str, path: Path, amount: str, slack: int) -> None:
    """Run ``long_runs.py``. Memory may grow by ``slack`` bytes, however many rounds there are."""
    done = subprocess.run([sys.executable, SCRIPT, what, path, amount], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)  # pytest -s, or a failure, shows it
    before, after = report["before"], report["after"]
    assert report["rounds"] * OUTPUT_BYTES > 2 * slack, "too few rounds to see a leak of an output each"
    assert report["wrong"] == 0
    assert after["rss"] - before["rss"] < slack
    assert (after["threads"], after["files"]) == (before["threads"], before["files"])
    assert after["mappings"] - before["mappings"] < report["rounds"] / 2


SLACK = 4 << 20
"""The bytes that the allocators of a few threads may still take after the warm-up: half of the least possible leak."""


@pytest.mark.parametrize("what", ["calls", "cycles", "threads"])
def test_memory_stays_flat(what: str, artifact: Path) -> None:
    check(what, artifact, "80", SLACK)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["calls", "cycles", "threads"])
def test_memory_stays_flat_for_long(what: str, artifact: Path) -> None:
    check(what, artifact, os.environ.get("CONVC_LONG_RUN", "60") + "s", 2 * SLACK)


@pytest.mark.slow
def test_memory_stays_flat_whatever_the_sizes(open_artifact: Path) -> None:
    """Eight threads call one model with eight sizes, and with ten thousand others.

    The allocators of threads whose arrays have all sizes take longer to settle, at 20 MB more.
    """
    check("sizes", open_artifact, os.environ.get("CONVC_LONG_RUN", "60") + "s", 6 * SLACK)


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_started_after_use_computes(start: str, artifact: Path) -> None:
    """A child process computes, even after the workers of its parent's pool have gone to sleep.

    A second child does so too.
    """
    model = convc.load(artifact, threads=2)
    x = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)
    want = model(x)
    context: Any = multiprocessing.get_context(start)
    for pause in (0.0, 0.5):
        time.sleep(pause)
        queue = context.Queue()
        child = context.Process(target=answer, args=(model if start == "fork" else None, artifact, x, queue))
        child.start()
        try:
            for got in queue.get(timeout=120):
                np.testing.assert_array_equal(got, want)
            child.join(120)
            assert child.exitcode == 0
        finally:
            child.kill()
    np.testing.assert_array_equal(model(x), want)


def test_a_forked_child_ends_like_any_process(artifact: Path) -> None:
    """A child process ends by the normal exit and not by ``os._exit``, so that destructors of the C++ runtime run."""
    code = f"""
        import os, sys, numpy as np, convc
        model, x = convc.load({str(artifact)!r}, threads=2), np.zeros({SHAPE}, np.float32)
        want = model(x)
        if (child := os.fork()) == 0:
            sys.exit(7 if np.array_equal(model(x), want) else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "7\n", done.stderr


def test_a_child_compiles(artifact: Path) -> None:
    context: Any = multiprocessing.get_context("fork")
    convc.load(artifact, threads=2)(np.zeros(SHAPE, np.float32))
    child = context.Process(target=lambda: convc.compile(LENET, threads=2))
    child.start()
    child.join(300)
    assert child.exitcode == 0


def test_an_interrupted_call_leaves_a_model_that_works(artifact: Path) -> None:
    code = f"""
        import signal, numpy as np, convc
        model, x = convc.load({str(artifact)!r}, threads=2), np.zeros({SHAPE}, np.float32)
        want, interrupts = model(x), 0
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for i in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + i))
                for _ in range(1000):
                    y = model(x)
            except KeyboardInterrupt:
                interrupts += 1
            assert np.array_equal(model(x), want)
        print(interrupts)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True, timeout=600
    )
    assert done.stdout == "200\n", done.stderr


# -- interrupts --------------------------------------------------------------------------------------------------------

STAGES = [
    "convc.onnx.importer.verify",
    "convc.ir.pipeline.verify",
    "convc.backends.cpu.codegen.schedule",
    "convc.backends.cpu.codegen.lower",
    "convc.backends.cpu.planning.Network",
    "convc.runtime.cpu.model.Program",
    "convc.backends.cpu.machine_code.link",
    "convc.runtime.files.Path.replace",
]


def left(folder: Path) -> list[str]:
    """The files in a folder, and the folders in its temporary folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() or p.parent.name == "tmp")


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_in_any_stage_leaves_nothing(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interrupt at the beginning of any stage, or in the middle of it, leaves no file."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    original = pkgutil.resolve_name(stage)

    def interrupted(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **options)

    monkeypatch.setattr(stage, interrupted)
    assert main(["build", str(LENET), "-o", str(tmp_path / "m.so")]) == 130
    assert capfd.readouterr().err == ""
    assert left(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_becomes_another_error_ends_the_command(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """TVM turns what a signal's handler raises in a callback into a ``RuntimeError`` without a text."""

    def interrupted(*args: Any, **options: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt, Terminated):
            signal.raise_signal(number)
        raise RuntimeError("")

    before = signal.getsignal(number)
    monkeypatch.setattr(STAGES[0], interrupted)
    try:
        assert main(["build", str(LENET), "-o", str(tmp_path / "m.so")]) == code
        assert capfd.readouterr().err == ""
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_an_interrupt_at_any_time_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    """Interrupts at fractions of the time that a whole build takes here leave a whole file or none."""
    (tmp_path / "tmp").mkdir()
    env = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "CONVC_CACHE": ""}

    def build() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "convc", "build", LENET, "-o", tmp_path / "m.so"], env=env)

    begun = time.monotonic()
    assert build().wait(300) == 0
    whole = time.monotonic() - begun
    for fraction in (0.4, 0.6, 0.8):
        (tmp_path / "m.so").unlink(missing_ok=True)
        process = build()
        time.sleep(whole * fraction)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) in (0, 130, -signal.SIGINT)
        assert left(tmp_path) in ([], ["m.so"])
        if left(tmp_path):
            convc.load(tmp_path / "m.so")
