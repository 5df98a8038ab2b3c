"""Interrupts while a model is compiled in Python."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from support.commands import save

import convc
from convc.runtime.files import remove_temporary, temporary_folder
from convc.runtime.interrupts import ending_soon, interrupts_kept


def interrupted(*_: Any, number: int = signal.SIGINT) -> None:
    """Do what TVM may do with an interrupt in a callback."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)
    raise RuntimeError


@pytest.mark.parametrize("size", [3, "n"])
def test_an_interrupt_of_compiling_stays_one(size: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a ``KeyboardInterrupt``, at once or where sizes are compiled in a call, and the next try works."""
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [size]})
    with monkeypatch.context() as m:
        m.setattr("convc.backends.cpu.build.build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convc.compile(path, cache=False)([1.0, -2.0, 3.0])
    assert convc.compile(path, cache=False)([1.0, -2.0, 3.0]).tolist() == [1, 0, 3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_of_saving_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [3]})
    model = convc.compile(path)

    def interrupt(_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("convc.backends.cpu.machine_code.MachineCode.library", property(interrupt))
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "m.convc")
    assert not (tmp_path / "m.convc").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_handler_raises_is_kept(number: int) -> None:
    """Another error that follows is replaced by it, at any depth, and the handlers are as before in the end."""

    class Ended(BaseException):
        pass

    def end(*_: Any) -> None:
        raise Ended

    before = signal.signal(number, end)
    try:
        with pytest.raises(Ended), interrupts_kept(), interrupts_kept():
            interrupted(number=number)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)


def test_other_errors_and_other_handlers_are_left_alone() -> None:
    """A handler that raises nothing changes no error, and one that is set meanwhile stays."""
    with pytest.raises(ZeroDivisionError), interrupts_kept():
        _ = 1 / 0
    mine, later = signal.signal(signal.SIGINT, lambda *_: None), lambda *_: None
    try:
        with pytest.raises(RuntimeError), interrupts_kept():
            interrupted()
        with interrupts_kept():
            signal.signal(signal.SIGINT, later)
        assert signal.getsignal(signal.SIGINT) is later
    finally:
        signal.signal(signal.SIGINT, mine)


def test_waiting_for_signals_leaves_nothing_behind() -> None:
    """Neither a thread nor a file descriptor stays, and one who waits for signals already is not disturbed."""
    outer = signal.set_wakeup_fd(-1)
    try:
        for _ in range(3):
            with ending_soon({}):
                found = signal.set_wakeup_fd(-1)
                signal.set_wakeup_fd(found)
                assert found != -1
                with ending_soon({}):
                    assert signal.set_wakeup_fd(found) == found
        for thread in threading.enumerate():
            if thread.name == "convc-signals":
                thread.join(5)
                assert not thread.is_alive()
    finally:
        signal.set_wakeup_fd(outer)


def test_temporary_folders_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        (folder / "a").write_text("a")
        remove_temporary()
        assert not folder.exists()
        folder.mkdir()
    assert not list(tmp_path.iterdir())
