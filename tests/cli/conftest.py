"""The working directory of tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import write_samples


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some models and inputs, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path)
    return tmp_path
