"""Commands that are interrupted (Ctrl-C) or terminated."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import spawn


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


BLOCKED = """
import ctypes
from convc.runtime.files import temporary_folder
def net():
    with temporary_folder():
        print("ready", flush=True)
        lock, take = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
        take(lock)
        take(lock)  # waits for itself, whatever signals come
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is glibc's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_long_call(number: int, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call into TVM of half a minute does not hold up the end, nor leaves its temporary files."""
    (folder / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
    Path("blocked.py").write_text(BLOCKED)
    process = spawn("inspect", "blocked.py:net", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(10) == code
    assert process.stderr.read() == b""
    assert not list((folder / "temporary").iterdir())
