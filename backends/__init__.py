"""Backends: the only code that touches TVM."""

import os

# TVM reads these when its thread pool starts. It would take half the processors it sees and pin threads to the first ones,
# which is wrong in a container; the pool is sized by what this process may use, and the scheduler places the threads.
os.environ.setdefault(
    "TVM_NUM_THREADS", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
)
os.environ.setdefault("TVM_BIND_THREADS", "0")
