"""Which thread calls machine code.

TVM keeps a pool of workers for every thread that calls parallel code, and never ends one: each thread that ends would
leave its workers behind, and a child after a fork would wait forever for workers that it does not have, in calls and when
it ends. So only threads of ours own pools. A caller borrows one for the time of a call, which costs 10 us or so; where one
thread is asked for, it calls by itself.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import tvm
import tvm_ffi

P = ParamSpec("P")
T = TypeVar("T")

_config_threadpool = tvm_ffi.get_global_func("runtime.config_threadpool")
_SHARE_ALL_CORES = -3
_set_max_concurrency = tvm.base._LOADED_LIBS["tvm_runtime"]._ZN3tvm7runtime9threading17SetMaxConcurrencyEi
_set_max_concurrency.argtypes = [ctypes.c_int]
"""Bounds the workers of the calling thread; with 1 it runs parallel loops by itself, and makes no pool."""


class Setting(threading.local):
    """How many threads code that the calling thread calls runs on; 0 when that is not settled."""

    threads = 0


setting = Setting()


def with_threads(threads: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call, made on the calling thread or another, such that code which it calls runs on so many threads."""
    if setting.threads == threads:
        return call(*args, **kwargs)
    if threads == 1:
        _set_max_concurrency(1)
        setting.threads = 1
        try:
            return call(*args, **kwargs)
        finally:
            _set_max_concurrency(0)
            setting.threads = 0
    job = Job(threads, lambda: call(*args, **kwargs))
    (_idle.pop() if _idle else Owner()).begin(job)
    job.done.acquire()  # an interrupt ends the waiting; the owner finishes the job and is idle then
    if job.error is not None:
        raise job.error
    return job.result  # type: ignore[no-any-return]


class Job:
    """A call and how many threads it is to run on; then its result, or what it raised."""

    def __init__(self, threads: int, call: Callable[[], Any]) -> None:
        self.threads = threads
        self.call = call
        self.done = threading.Lock()
        self.done.acquire()
        self.result: Any = None
        self.error: BaseException | None = None


class Owner:
    """A thread that owns a pool, and does one job at a time."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._begin = threading.Lock()
        self._begin.acquire()
        threading.Thread(target=self._work, name="convc", daemon=True).start()

    def begin(self, job: Job) -> None:
        """Start on a job; its ``done`` is released when it is done."""
        self._job = job
        self._begin.release()

    def _work(self) -> None:
        while True:
            self._begin.acquire()
            job, self._job = self._job, None
            assert job is not None
            try:
                if setting.threads != job.threads:
                    _config_threadpool(_SHARE_ALL_CORES, job.threads)
                    setting.threads = job.threads
                job.result = job.call()
            except BaseException as e:
                job.error = e
            _idle.append(self)
            job.done.release()
            del job


_idle: list[Owner] = []
"""Owners that nobody borrows now: as many as ever called at one time."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # none of them is there
