"""The number of processors that this process may use, and of threads that a call may."""

from __future__ import annotations

import os
from operator import index
from typing import Any


def available_processors() -> int:
    """The number of logical processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


MOST_THREADS = 128
"""The most threads that share out a loop (``PARTS`` in ``backends/cpu/pool.c``): a call never uses more."""


def thread_count(threads: Any) -> int:
    """The number of threads that a call may use, as a caller gives it. Raises ``ValueError`` for another value."""
    try:
        count = 0 if isinstance(threads, bool) else index(threads)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"threads must be an integer of at least 1, not {threads!r}")
    return min(count, MOST_THREADS)
