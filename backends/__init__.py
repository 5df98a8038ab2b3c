"""The backends, which are the only code that imports TVM."""

import os

# TVM reads these variables when its thread pool starts. By default it takes half of the processors that it sees, and
# pins threads to the first ones, which is wrong in a container. The pool gets as many threads as the process may run
# on, and the operating system places them.
os.environ.setdefault(
    "TVM_NUM_THREADS", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
)
os.environ.setdefault("TVM_BIND_THREADS", "0")
