"""Commands that are interrupted (Ctrl-C) or terminated."""

from __future__ import annotations

import signal
import subprocess
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
