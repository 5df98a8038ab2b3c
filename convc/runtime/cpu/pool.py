"""The threads of this process that share out the parallel loops of models: one pool for all models and all callers.

The pool is machine code that every artifact with parallel loops carries (``backends/cpu/pool.c``). The first code that is
loaded gives the process its pool, and is kept for good; all others use that one. It starts workers when a call first asks for
them, and lets them sleep when nothing is left to do.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import Any

from convc.ir.errors import ConvcError

from .code import Code

NEW, LAUNCH = "convc_pool_new", "convc_pool_launch"
"""The functions of the pool: one makes it, the other runs a parallel loop on it."""


@dataclass(frozen=True)
class Pool:
    """The pool of the process: its address, that of the function which runs a loop on it, and the code that both belong to."""

    address: int
    launch: int
    code: Any


_lock = threading.Lock()
_pool: Pool | None = None


def pool_of(code: Code) -> Pool:
    """The pool of the process, which ``code`` provides where there is none yet. Raises ``ConvcError`` when there is no memory."""
    global _pool  # noqa: PLW0603
    with _lock:
        if _pool is None:
            made = ctypes.CFUNCTYPE(ctypes.c_void_p)(code.address(NEW))()
            if not made:
                raise ConvcError("there is no memory for a pool of threads")
            _pool = Pool(int(made), code.address(LAUNCH), code)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))  # workers may run until the process has ended
        return _pool
