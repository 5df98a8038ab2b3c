"""The thread pool of this process, which runs the parallel loops of all models for all callers.

The pool is machine code that every artifact with parallel loops carries (``backends/cpu/pool.c``). The code that is
loaded first gives the process its pool, and is never unloaded; all models use that pool. It starts workers when a call
first asks for them, and lets them sleep when there is nothing left to do.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import Any

from convc.ir.errors import ConvcError

from .code import Code

NEW, LAUNCH = "convc_pool_new", "convc_pool_launch"
"""The names of the pool's functions: ``NEW`` makes the pool, and ``LAUNCH`` runs a parallel loop on it."""


@dataclass(frozen=True)
class Pool:
    """The thread pool: its address, the address of its launch function, and the code that both belong to."""

    address: int
    launch: int
    code: Any


_lock = threading.Lock()
_pool: Pool | None = None


def pool_of(code: Code) -> Pool:
    """The thread pool of the process, which ``code`` provides when there is none yet.

    Raises ``ConvcError`` when there is no memory for it.
    """
    global _pool  # noqa: PLW0603
    with _lock:
        if _pool is None:
            made = ctypes.CFUNCTYPE(ctypes.c_void_p)(code.address(NEW))()
            if not made:
                raise ConvcError("there is no memory for a pool of threads")
            _pool = Pool(int(made), code.address(LAUNCH), code)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))  # workers may run until the process has ended
        return _pool
