"""The number of processors that this process may use."""

from __future__ import annotations

import os


def available_processors() -> int:
    """The number of logical processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
