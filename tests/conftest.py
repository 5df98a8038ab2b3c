"""Shared by all tests."""

from __future__ import annotations

import os

import pytest

os.environ["CONVC_CACHE"] = ""  # what somebody tuned here decides no test


@pytest.fixture(autouse=True)
def _small_networks_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are small, and what they are to show is that sharing work out is right."""
    monkeypatch.setattr("convc.backends.cpu.build.NETWORK_CYCLES", 0)
