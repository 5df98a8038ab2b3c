"""Using one mutant, in a process with limited memory and time."""

from __future__ import annotations

import os
import re
import resource
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import convc
from convc import ConvcError
from convc.backends.cpu.pipeline import pipeline
from convc.ir.passes.fix_shapes import fix_shapes
from convc.ir.rewrite import rebuild
from convc.ir.text import parse_graph, print_graph
from convc.ir.verify import verify
from convc.runtime.artifact import read_artifact

from .corpus import MACHINE

MEMORY = 6 << 30
"""The address space of a process in bytes: the most that a mutant may take, with the libraries."""
SECONDS = 20
"""The seconds of processor time that one mutant may take."""
COMPILE_SECONDS = 60
FOREIGN = re.compile(
    r"values to unpack|positional argument|unsupported operand|not subscriptable|' object |unhashable|zip\(\) |"
    r"cannot reshape array|buffer size|embedded null|out of bounds for|index out of range|\b(?:Type|Value|Key|Index|"
    r"Overflow|Attribute|Runtime|Internal|Assertion)Error\b|TVM|tvm"
)
"""Texts of Python, numpy and TVM, which no message of ``ConvcError`` may hold."""


def attempt(kind: str, data: bytes, compiling: bool = False) -> bool:
    """Use a mutant, and return whether it was valid. Raises the errors that convc must not raise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _USES[kind](data, compiling)
    except ConvcError as e:
        if "more memory than there is" in str(e) or "internal" in str(e):
            raise AssertionError("memory ran out") from e
        if FOREIGN.search(re.sub("'/[^']*'", "", str(e))):  # a temporary file may be called anything
            raise AssertionError(f"a message of Python's or a library's: {e}") from e
        str(e).encode("utf-8", "surrogatepass")
        return False
    return True


def _use_onnx(data: bytes, compiling: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source: Any = data
        if b"data_location" in data or b"location" in data:
            source = _in_a_folder(Path(folder), data)
        _use_graph(convc.load_onnx(source), compiling)


def _in_a_folder(outside: Path, data: bytes) -> Path:
    """The model in a folder with external data, symbolic links that leave the folder, and a pipe.

    A secret lies outside.
    """
    folder = outside / "model"
    folder.mkdir()
    (outside / "secret").write_bytes(bytes(64))
    (outside / "data.bin").write_bytes(bytes(64))
    (folder / "data.bin").write_bytes(bytes(64))
    (folder / "link").symlink_to(outside / "secret")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    (folder / "m.onnx").write_bytes(data)
    return folder / "m.onnx"


def _use_text(data: bytes, compiling: bool) -> None:
    graph = parse_graph(data.decode("utf-8", "replace"))
    try:
        verify(graph)
    except ConvcError:  # its declared types are wrong; with inferred ones, passes run too
        graph = rebuild(graph, lambda b, node, inputs: b.reinfer(node, inputs))
    _use_graph(graph, compiling)


def _use_graph(graph: convc.Graph, compiling: bool) -> None:
    graph = fix_shapes(graph, {})
    print_graph(pipeline(MACHINE).run(graph))
    if compiling:
        convc.compile(graph, threads=2)


def _use_artifact(data: bytes, compiling: bool) -> None:
    with tempfile.NamedTemporaryFile(suffix=".so") as f:
        f.write(data)
        f.flush()
        parts = read_artifact(f.name)
        for part in parts:
            for w in part.weights.values():
                w.sum()
        if all(part.description.kind == "cuda" for part in parts):  # it has no code for this processor
            model: Any = convc.load(f.name)
            repr((model.inputs, model.outputs))


_USES: dict[str, Callable[[bytes, bool], None]] = {
    "bytes": _use_onnx,
    "proto": _use_onnx,
    "text": _use_text,
    "artifact": _use_artifact,
}


def signature(e: BaseException) -> str:
    """The signature of a failure: the error's class and where it was raised.

    Failures of one signature count as the same.
    """
    frames = [f for f in traceback.extract_tb(e.__traceback__) if "hostile" not in Path(f.filename).parts[-2:]]
    ours = [f for f in frames if re.search(r"/(ir|convc|backends)/", f.filename) and "site-packages" not in f.filename]
    last = (ours or frames)[-1] if frames else None
    return f"{type(e).__name__} in {last.name} ({Path(last.filename).name}:{last.lineno})" if last else type(e).__name__


def limit_process() -> None:
    """Limit the address space of this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(connection: Connection, jobs: Iterable[Any], make: Callable[[Any], tuple[str, bytes]], every: int) -> None:
    """Attempt one job after another, in a child process.

    It sends which job is next before each one, and how it ended. Every ``every``-th valid mutant is compiled as well.
    """
    limit_process()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    good = 0
    for job in jobs:
        kind, data = make(job)
        connection.send(("begin", job, ""))
        spent = resource.getrusage(resource.RUSAGE_SELF)
        compiling = bool(every) and kind != "artifact" and good % every == every - 1
        end = int(spent.ru_utime + spent.ru_stime) + (COMPILE_SECONDS if compiling else SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))
        try:
            fine = attempt(kind, data, compiling)
            good += fine
            connection.send(("compiled" if compiling else "good" if fine else "refused", job, ""))
        except BaseException as e:
            connection.send((signature(e), job, "".join(traceback.format_exception(e))[-4000:]))
    connection.send(("end", None, ""))
    os._exit(0)


def death(status: int) -> str:
    """How a process ended, as text."""
    if status < 0:
        name = signal.Signals(-status).name
        return "hang: no processor time left" if name == "SIGXCPU" else f"crash by {name}"
    return f"the process ended with {status}"
