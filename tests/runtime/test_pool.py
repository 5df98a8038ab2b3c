"""The thread pool runs every iteration once, for any callers and after a fork; artifacts need the C library alone."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import small_models
from support.compiling import compiled
from support.malformed import raises
from support.shared_library import SharedLibrary

import convc
from convc import InputError
from convc.backends.cpu.carried import SOURCES, carried, text_of
from convc.backends.cpu.elf.imports import IMPORTS
from convc.backends.cpu.machine_code import MachineCode
from convc.backends.cpu.target import host_target, parse_target
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.ops.cast import Cast
from convc.ir.types import TensorType
from convc.runtime.cpu.code import RUN
from convc.runtime.cpu.model import CpuModel
from convc.runtime.cpu.pool import LAUNCH, NEW
from convc.runtime.processors import MOST_THREADS

BODY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
Launch = Callable[..., None]
LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"


@pytest.fixture(scope="module")
def launch() -> Launch:
    """``launch(threads, body, extent)`` on a pool of its own."""
    code = MachineCode([carried("pool", host_target())], host_target())
    pool = ctypes.CFUNCTYPE(ctypes.c_void_p)(code.address(NEW))()
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, BODY, ctypes.c_int64, ctypes.c_int64)(
        code.address(LAUNCH)
    )
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))  # its workers never end
    return lambda threads, body, extent: run(pool, threads, BODY(body), 0, extent)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("extent", [0, 1, 2, 7, 100, 1000])
def test_every_iteration_runs_once(threads: int, extent: int, launch: Launch) -> None:
    done = [0] * extent
    workers = set()

    def body(_: int, begin: int, end: int, worker: int) -> None:
        workers.add(worker)
        for i in range(begin, end):
            done[i] += 1

    launch(threads, body, extent)
    assert done == [1] * extent
    assert workers <= set(range(threads))


def test_many_callers_at_once(launch: Launch) -> None:
    wrong: list[int] = []

    def call() -> None:
        for extent in range(1, 60):
            done = [0] * extent

            def body(_: int, begin: int, end: int, worker: int, done: list[int] = done) -> None:
                for i in range(begin, end):
                    done[i] += 1

            launch(3, body, extent)
            if done != [1] * extent:
                wrong.append(extent)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_after_a_fork_has_workers_of_its_own() -> None:
    code = """
import os, sys, numpy as np
sys.path.insert(0, sys.argv[1])
from support import small_models
from support.compiling import compiled
from support.malformed import raises
from support.shared_library import SharedLibrary
model = compiled(small_models.resnet(1, 8), threads=2)
x = np.ones(model.inputs[0].sizes, np.float32)
want = model(x)
for _ in range(20):
    child = os.fork()
    if not child:
        os._exit(0 if all((model(x) == want).all() for _ in range(20)) else 1)
    assert (model(x) == want).all()
    assert os.waitpid(child, 0)[1] == 0
"""
    tests = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tests], check=True, timeout=120)


def test_all_models_share_one_pool(tmp_path: Path) -> None:
    """What was just compiled and what was loaded launch on the same pool, and give the same bits."""
    model = compiled(small_models.resnet(1, 8), threads=2)
    assert model.plan.parallel
    model.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc", threads=3)
    assert isinstance(loaded, CpuModel)
    x = np.random.default_rng(0).standard_normal(model.inputs[0].sizes).astype(np.float32)
    np.testing.assert_array_equal(model(x), loaded(x))
    assert model.program.pool == loaded.program.pool is not None


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers")
def test_a_signal_handler_may_call_the_model_that_it_interrupts() -> None:
    model = convc.compile(LENET, threads=1)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((1, 1, 28, 28)).astype(np.float32) for _ in range(2))
    want, other = model(a).tobytes(), model(b).tobytes()
    inner: list[bool] = []
    before = signal.signal(signal.SIGALRM, lambda *_: inner.append(model(b).tobytes() == other))
    try:
        outer = []
        for _ in range(2000):
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
            outer.append(model(a).tobytes() == want)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(outer)
    assert inner
    assert all(inner)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_may_end_while_daemon_threads_call(threads: int, tmp_path: Path) -> None:
    compiled(small_models.resnet(1, 8), threads=threads).save(tmp_path / "m.convc")
    code = f"""
import sys, threading, time, numpy as np, convc
model = convc.load(sys.argv[1], threads={threads})
x = np.zeros(model.inputs[0].sizes, np.float32)
def call():
    while True: model(x)
for _ in range(3): threading.Thread(target=call, daemon=True).start()
time.sleep(0.2)
"""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.convc")], check=False).returncode == 0


def test_a_thread_that_outlives_the_main_one_loads_a_model(tmp_path: Path) -> None:
    """Python then starts no thread any more."""
    convc.compile(LENET, threads=1).save(tmp_path / "m.convc")
    code = """
import sys, threading, time, convc
def late():
    time.sleep(0.3)
    print(convc.load(sys.argv[1]).name)
threading.Thread(target=late).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.convc")], check=True, capture_output=True, text=True
    )
    assert done.stdout == "main_graph\n", done.stderr


def test_no_call_asks_for_more_threads_than_a_loop_seats() -> None:
    model = compiled(small_models.resnet(1, 8), threads=1)
    again = CpuModel(model.machine_code, model.description, model.part().weights, threads=10**30)
    assert again.threads == MOST_THREADS == 128
    for wrong in (0, -1, True, 2.0, "2"):
        with raises(InputError, "threads must be an integer of at least 1", repr(wrong)):
            CpuModel(model.machine_code, model.description, model.part().weights, threads=wrong)  # type: ignore[arg-type]


CONVERSIONS = [("f64", "f16"), ("f16", "f64"), ("f64", "bf16"), ("i64", "f16"), ("f16", "u64")]


def converting(source: str, target: str) -> Graph:
    b = Builder("convert")
    return b.finish([b.emit(Cast(target), b.input("x", TensorType(source, (37,))))], ["y"])


@pytest.mark.parametrize("target", ["x86-64-v2", "aarch64"])
@pytest.mark.parametrize(
    "model", [small_models.mobilenet, small_models.resnet, small_models.unet], ids=lambda m: m.__name__
)
def test_an_artifact_needs_the_c_library_alone(model: Callable[[int, int], object], target: str) -> None:
    made = compiled(model(1, 8), target, threads=2)
    library = SharedLibrary(bytes(made.part().code))
    assert set(library.imports) <= IMPORTS
    assert all(name.startswith("convc_") for name in library.exports)
    assert RUN in library.exports
    assert ({NEW, LAUNCH} <= set(library.exports)) == made.description.details["plan"]["parallel"]


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "aarch64"])
@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_conversions_need_no_function_of_a_compiler(source: str, target: str, level: str) -> None:
    library = SharedLibrary(bytes(compiled(converting(source, target), level).part().code))
    assert set(library.imports) <= IMPORTS


@pytest.mark.parametrize("name", ["x86-64-v2", "aarch64"])
def test_one_text_serves_every_family(name: str) -> None:
    target = parse_target(name)
    machine = {"x86_64": 62, "aarch64": 183}[target.family]
    assert all(int.from_bytes(carried(source, target)[18:20], "little") == machine for source in SOURCES)


def test_the_ir_holds_what_the_source_defines() -> None:
    """Making the IR anew needs clang; what it exports can be compared without."""
    for name, functions in (("pool", {NEW, LAUNCH}), ("program", {RUN})):
        source = (Path(sys.modules[carried.__module__].__file__ or "").parent / f"{name}.c").read_text()
        assert set(re.findall(r"^\w[\w *]*?(convc_\w+)\(", source, re.MULTILINE)) == functions
        assert functions <= set(re.findall(r"^define .*@(\w+)\(", text_of(name), re.MULTILINE))
