"""Runs the cases of all ops on random values, in processes that may crash, and prints what fails."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from convc.ir import ops  # noqa: F401  registers every op
from convc.ir.errors import ConvcError
from convc.ir.op import REGISTRY, Case

from .draw import Drawer, emptied, operand_types
from .trial import Trial, agree, graph_of, other

CASES_A_PROCESS = 150
"""The number of cases that one process compiles. Machine code is never unloaded, so that a process must end in time."""
SECONDS = 20.0
"""The seconds after which a case gets no more values, since some values cause much work."""
PATIENCE = 120
"""A process that runs one draw for longer than this many seconds hangs."""
EMPTY_SHARE = 8
"""A case with a size of zero gets one value for so many of the case itself."""
OTHER_SHARE = 8
"""One case in so many is compiled for another processor too, and compared."""


@dataclass(frozen=True)
class Job:
    """A case of an op, by its number; ``empty`` makes one of its sizes zero."""

    op: str
    case: int
    empty: bool = False

    def __str__(self) -> str:
        return f"{self.op}-{self.case}{'-empty' * self.empty}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the number of values that it ran on, and the error, if any."""

    job: Job
    values: int
    error: str = ""


def jobs(names: Sequence[str] = ()) -> list[Job]:
    """All jobs, of the ops of these names where some are given."""
    counts = {name: len(list(cls.cases())) for name, cls in sorted(REGISTRY.items()) if not names or name in names}
    return [Job(name, i, empty) for name, n in counts.items() for i in range(n) for empty in (False, True)]


def chosen(count: int, seed: int, names: Sequence[str] = ()) -> list[tuple[Job, int]]:
    """The jobs of a campaign of ``count`` values, in random order, each with its number of values."""
    found = jobs(names)
    random.Random(seed).shuffle(found)
    found = found[: max(1, count // 20)]
    weights = [1 if job.empty else EMPTY_SHARE for job in found]
    return [(job, -(-count * w // sum(weights))) for job, w in zip(found, weights, strict=True)]


def attempt(job: Job, count: int, seed: int, progress: Any) -> Outcome:
    """Run one job on ``count`` values. ``progress`` receives the number of each before it runs."""
    case: Case = list(REGISTRY[job.op].cases())[job.case]
    start = np.random.default_rng([seed, zlib.crc32(str(job).encode())])
    types = emptied(operand_types(case), start) if job.empty else operand_types(case)
    what = f"{case.op} of {', '.join(map(str, types))}"
    try:
        graph = graph_of(case.op, types)
        trial = Trial(graph)
    except ConvcError as e:
        own = e.__cause__ is None or isinstance(e.__cause__, ConvcError | LookupError | TypeError | ValueError)
        return Outcome(job, 0, "" if job.empty and own else f"{what}: {e}")
    second = other(graph) if start.integers(OTHER_SHARE) == 0 else None
    drawer, begin, number = Drawer(case, types), time.monotonic(), 0
    try:
        while number < count and time.monotonic() - begin < SECONDS:
            progress[1] = number
            arrays, ordinary = drawer(rng_of(job, seed, number))
            got = trial(arrays, number)
            if second is not None:
                agree(case.op, got, second._compute(arrays), ordinary)
            number += 1
    except Exception as e:
        return Outcome(job, number, f"{what}, value {number}: {type(e).__name__}: {e}")
    return Outcome(job, number)


def rng_of(job: Job, seed: int, number: int) -> np.random.Generator:
    """The random numbers of one value of a job."""
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(str(job).encode()), number]))


def work(connection: Connection, todo: Sequence[tuple[Job, int]], seed: int, progress: Any) -> None:
    """Attempt jobs in turn, in a child process, and send the outcomes."""
    np.seterr(all="ignore")
    for i, (job, count) in enumerate(todo):
        progress[0], progress[1] = i, -1
        connection.send(attempt(job, count, seed, progress))
    connection.close()


def run(count: int, seed: int, names: Sequence[str] = ()) -> list[Outcome]:
    """Run a campaign of ``count`` values, and return the outcome of every job."""
    todo, outcomes = chosen(count, seed, names), []
    context = multiprocessing.get_context("spawn")
    while todo:
        progress = context.RawArray("q", 2)
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=work, args=(theirs, todo[:CASES_A_PROCESS], seed, progress))
        child.start()
        theirs.close()
        done = 0
        while done < len(todo[:CASES_A_PROCESS]):
            outcome = _receive(ours, child, todo[done][0], progress)
            outcomes.append(outcome)
            done += 1
            if outcome.error:
                print(f"{outcome.job}: {outcome.error}", flush=True)
            if not child.is_alive() and not ours.poll():
                break
        child.kill()
        child.join()
        todo = todo[done:]
        print(f"{sum(o.values for o in outcomes):,} values, {len(todo)} jobs left", file=sys.stderr, flush=True)
    return outcomes


def _receive(connection: Connection, child: Any, job: Job, progress: Any) -> Outcome:
    """The next outcome of a child; if it crashes or hangs, that is the outcome."""
    last, since = -2, time.monotonic()
    while True:
        try:
            if connection.poll(1):
                outcome: Outcome = connection.recv()
                return outcome
        except EOFError:
            child.join()
            return Outcome(job, max(0, progress[1]), f"the process ended with {child.exitcode} in value {progress[1]}")
        if progress[1] != last:
            last, since = progress[1], time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            child.kill()
            child.join()
            return Outcome(job, max(0, progress[1]), f"no answer in {PATIENCE} seconds in value {progress[1]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.values", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="values in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--op", action="append", default=[], help="only this op; may be repeated")
    given = parser.parse_args()
    start = time.monotonic()
    outcomes = run(given.count, given.seed, given.op)
    failed = [o for o in outcomes if o.error]
    spent = time.monotonic() - start
    total = sum(o.values for o in outcomes)
    print(f"{total} values of {len(outcomes)} cases in {spent:.0f} seconds: {len(failed)} cases failed")
    return 1 if failed else 0
