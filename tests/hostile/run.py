"""The fuzzer's driver: seeds go to forked processes, results come back, and failures are shrunk."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import corpus
from .attempt import death, serve
from .mutate import KINDS, mutant
from .shrink import smaller

DEFAULT_SPLIT = {"bytes": 0.3, "proto": 0.45, "text": 0.15, "artifact": 0.1}
WALL = 900
"""A process that sends nothing for this many seconds hangs. Mutants have a limit of processor time besides."""

Job = tuple[str, int]


@dataclass
class Found:
    """The results: counts by kind and end, and the failures by signature, with the first job and message of each."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[str, tuple[Job, str, int]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, how: str, job: Job, message: str) -> None:
        fine = how in ("good", "compiled", "refused")
        self.counts[job[0], how if fine else "failed"] += 1
        if not fine:
            first, text, times = self.failures.get(how, (job, message, 0))
            self.failures[how] = (first, text, times + 1)


def jobs_of(mutants: int, start: int = 0, kind: str | None = None) -> list[Job]:
    """Kinds and seeds of mutants, with the kinds mixed."""
    split = {kind: 1.0} if kind else DEFAULT_SPLIT
    jobs = [(k, start + i) for k in split for i in range(round(mutants * split[k]))]
    return sorted(jobs, key=lambda job: (job[1] / split[job[0]], job[0]))


def fuzz(
    mutants: int,
    start: int = 0,
    kind: str | None = None,
    jobs: int = 1,
    every: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> Found:
    """Attempt mutants. ``say`` is called with each new failure."""
    corpus.models(), corpus.texts(), corpus.artifacts()  # made once, before forking
    todo = jobs_of(mutants, start, kind)
    found = Found()
    begun = time.monotonic()
    done = 0

    def heard(how: str, job: Job, message: str) -> None:
        nonlocal done
        done += 1
        if how not in found.failures and how not in ("good", "compiled", "refused"):
            say(f"{job}: {how}\n{message[-1500:]}")
        found.add(how, job, message)
        if done % 5000 == 0:
            say(f"{done} mutants, {done / (time.monotonic() - begun):.0f} a second")

    attempt_all([todo[i::jobs] for i in range(jobs)], _make, every, heard)
    found.seconds = time.monotonic() - begun
    return found


def _make(job: Job) -> tuple[str, bytes]:
    return job[0], mutant(*job)


def attempt_all(
    lists: Iterable[list[Any]],
    make: Callable[[Any], tuple[str, bytes]],
    every: int,
    heard: Callable[[str, Any, str], Any],
) -> None:
    """Run lists of jobs, each list in a process of its own.

    A process that dies is replaced, and the new one continues after the job that killed it.
    """
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[Any, list[Any]]] = {}

    def begin(todo: list[Any]) -> None:
        if todo:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, todo, make, every))
            process.start()
            theirs.close()
            running[ours] = (process, todo)

    for todo in lists:
        begin(todo)
    at: dict[Any, int] = {}
    while running:
        ready = multiprocessing.connection.wait(list(running), timeout=WALL)  # type: ignore[attr-defined]
        for connection in ready or list(running):
            process, todo = running[connection]
            try:
                if not ready:
                    process.kill()
                how, job, message = connection.recv()
            except EOFError:
                process.join()
                del running[connection]
                index = at.pop(connection, 0)
                heard(death(process.exitcode or 0), todo[index], "")
                begin(todo[index + 1 :])
                continue
            if how == "begin":
                at[connection] = todo.index(job, at.get(connection, 0))
            elif how == "end":
                process.join()
                del running[connection]
            else:
                heard(how, job, message)


def fails_alike(kind: str, how: str, data: bytes) -> bool:
    """Whether input fails in this way. It is tried in a separate process."""
    ends: list[str] = []
    attempt_all([[data]], lambda d: (kind, d), 0, lambda h, job, message: ends.append(h))
    return ends == [how]


def report(found: Found, save: Path | None = None) -> str:
    """Print the counts, the rate of mutants per second, and the failures.

    With a folder, each failure is shrunk and saved there.
    """
    total = sum(found.counts.values())
    lines = [f"{total} mutants in {found.seconds:.0f} s: {total / max(found.seconds, 1e-9):.0f} a second"]
    for kind in KINDS:
        ends = {how: n for (k, how), n in sorted(found.counts.items()) if k == kind}
        if ends:
            lines.append(f"  {kind:9}{sum(ends.values()):7}: " + ", ".join(f"{n} {how}" for how, n in ends.items()))
    for i, (how, (job, message, times)) in enumerate(found.failures.items()):
        lines.append(f"{times} x {how}, first {job}\n{message[-800:]}")
        if save:
            save.mkdir(parents=True, exist_ok=True)
            shrunk = smaller(job[0], mutant(*job), lambda data, job=job, how=how: fails_alike(job[0], how, data))  # type: ignore[misc]
            path = save / f"{i:02}_{job[0]}_{job[1]}"
            path.write_bytes(shrunk)
            lines.append(f"saved as {path} ({len(shrunk)} bytes)")
    return "\n".join(lines)
