"""Calls, loads and drops models for a long time: ``python long_runs.py calls|cycles|threads|sizes ARTIFACT AMOUNT``.

AMOUNT is a number of rounds, or of seconds as in ``60s``. The process prints JSON: rounds, wrong answers, and resident
memory, threads, open files and mappings after the warm-up and at the end.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import convc

CALLERS = 8
WARM_UP = 20
"""The rounds of each caller before memory is measured, after which allocators and thread-local memory have settled."""
HANG = 600
MOMENTS, MOMENT = 40, 0.025
"""How often, and how many seconds apart, the process is measured."""


def main(what: str, path: str, amount: str) -> None:
    faulthandler.dump_traceback_later(HANG, repeat=False, exit=True)  # a deadlock ends the process and shows where
    rounds = 0
    model = convc.load(path, threads=2)
    stated = model.inputs[0].shape
    shapes = [tuple(s if isinstance(s, int) else 12 + i for s in stated) for i in range(CALLERS)]
    images = [np.random.default_rng(i).uniform(-1, 1, shape).astype(np.float32) for i, shape in enumerate(shapes)]
    wanted = [model(x) for x in images]
    del model
    run: Callable[[Callable[[], Iterator[int]]], int]
    run = {"calls": _calls, "cycles": _cycles, "threads": _threads, "sizes": _sizes}[what](path, images, wanted)
    wrong = run(lambda: iter(range(WARM_UP)))
    before = measured()
    done = [0]
    wrong += run(lambda: _until(amount, done))
    rounds = done[0]
    print(json.dumps({"rounds": rounds, "wrong": wrong, "before": before, "after": measured()}))


def _until(amount: str, done: list[int]) -> Iterator[int]:
    """Count rounds until the amount is reached. All iterators of a run add to ``done``."""
    end = time.monotonic() + float(amount[:-1]) if amount.endswith("s") else None
    for i in count():
        if time.monotonic() > end if end is not None else i >= int(amount):
            return
        done[0] += 1  # not atomic, but a round more or less does not matter
        faulthandler.dump_traceback_later(HANG, exit=True)
        yield i


def _calls(path: str, images: Any, wanted: Any) -> Any:
    """Call one loaded model from several threads."""
    model = convc.load(path, threads=2)

    def run(rounds: Callable[[], Iterator[int]]) -> int:
        wrong = [0] * CALLERS

        def call(i: int) -> None:
            for _ in rounds():
                wrong[i] += not np.array_equal(model(images[i]), wanted[i])

        callers = [threading.Thread(target=call, args=(i,)) for i in range(CALLERS)]
        for t in callers:
            t.start()
        for t in callers:
            t.join()
        return sum(wrong)

    return run


def _cycles(path: str, images: Any, wanted: Any) -> Any:
    """Load, call and drop a model in each round. The loader sees a different file each time."""
    copy, data = Path(path).with_suffix(".copy"), Path(path).read_bytes()

    def run(rounds: Callable[[], Iterator[int]]) -> int:
        wrong = 0
        for i in rounds():
            aside = copy.with_suffix(".aside")
            aside.write_bytes(data)
            aside.replace(copy)
            model = convc.load(copy, threads=1 + i % 2)
            wrong += not np.array_equal(model(images[i % CALLERS]), wanted[i % CALLERS])
        return wrong

    return run


def _threads(path: str, images: Any, wanted: Any) -> Any:
    """Start threads that end after one call."""
    model = convc.load(path, threads=2)

    def run(rounds: Callable[[], Iterator[int]]) -> int:
        wrong = [0]

        def call(i: int) -> None:
            wrong[0] += not np.array_equal(model(images[i % CALLERS]), wanted[i % CALLERS])

        for i in rounds():
            t = threading.Thread(target=call, args=(i,))
            t.start()
            t.join()
        return wrong[0]

    return run


def _sizes(path: str, images: Any, wanted: Any) -> Any:
    """Call one model of open sizes from several threads, each with a size of its own and one of ten thousand others."""
    model = convc.load(path, threads=2)
    n, channels, *_ = images[0].shape

    def run(rounds: Callable[[], Iterator[int]]) -> int:
        wrong = [0] * CALLERS

        def call(i: int) -> None:
            for k in rounds():
                j = CALLERS * k + i
                other = np.zeros((n, channels, 107 - j % 100, 107 - j // 100 % 100), np.float32)  # the largest first
                wrong[i] += model(other).shape[2:] != other.shape[2:]
                wrong[i] += not np.array_equal(model(images[i]), wanted[i])

        callers = [threading.Thread(target=call, args=(i,)) for i in range(CALLERS)]
        for t in callers:
            t.start()
        for t in callers:
            t.join()
        return sum(wrong)

    return run


def measured() -> dict[str, int]:
    """The resident bytes, threads, open files and mappings of this process, at the moment of the fewest threads.

    Joining a Python thread waits until its Python code has ended. The system's thread, and the stack that it has
    mapped, end a little later, and much later on a busy machine. A thread that leaks is there at every moment.
    """
    gc.collect()
    moments = []
    for _ in range(MOMENTS):
        moments.append(_measured())
        time.sleep(MOMENT)
    return min(moments, key=lambda m: (m["threads"], m["mappings"]))


def _measured() -> dict[str, int]:
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
        "mappings": Path("/proc/self/maps").read_text().count("\n"),
    }


def answer(model: Any, path: Path, x: np.ndarray, queue: Any) -> None:
    """The result of a child process that runs the given model or one that it loads, also on one thread."""
    model = model or convc.load(path, threads=2)
    queue.put([model(x), convc.load(path, threads=1)(x)])


if __name__ == "__main__":
    main(*sys.argv[1:])
