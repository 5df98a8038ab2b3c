"""Runs the backend test suite of onnx through convc: ``python -m convc.onnx_suite``.

Every case has one of four results. ``pass``: the outputs agree with the suite's. ``refused``: a ``ConvcError`` named a
feature that convc does not compile, before anything ran. ``wrong``: values, shapes or dtypes differ from the suite's.
``crashed``: there was another exception, a process ended, or there was no answer in time. Cases run in worker
processes, so that a crash is attributed to its case.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from convc.ir.errors import ConvcError, ModelFileError, ShapeError, UnsupportedOpError

from .onnx_backend import prepare

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
STATUSES = ("pass", "refused", "wrong", "crashed")
BF16_RTOL = 2**-6
"""The relative tolerance for bfloat16: two units in the last place, as onnx's own runner allows."""
ATOL = 1e-4
"""The least absolute tolerance. onnx's runner has 1e-7, which sums in another order can exceed."""

DataSets = Sequence[tuple[Sequence[Any], Sequence[Any]]]


@dataclass(frozen=True)
class Result:
    """The result of one case, with the reason if it did not pass."""

    name: str
    kind: str
    op: str
    status: str
    error: str = ""
    """The name of the error's class, when the case was refused or crashed."""
    message: str = ""
    specialized: tuple[str, ...] = ()
    """The names of the inputs that were made constants, since convc needs their values at compile time."""
    whole: bool = False
    """Whether every input was made a constant, so that the case shows no more than what convc computes of constants."""
    random: bool = False
    """Whether the numbers are random, so that only what both sides kept, shapes and dtypes were compared."""
    seconds: float = 0.0


class Mismatch(Exception):
    """An output differs from the suite's."""


def load_cases(kinds: Sequence[str], pattern: str = "") -> dict[tuple[str, str], Any]:
    """The suite's cases of these kinds whose names match a regular expression, by kind and name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [(kind, case) for kind in kinds for case in load_model_tests(kind=kind)]
    return {(kind, case.name): case for kind, case in cases if re.search(pattern, case.name)}


def run_case(kind: str, case: Any) -> Result:
    """Run one case in this process."""
    began = time.monotonic()
    op, error, message = kind, "", ""
    specialized: tuple[str, ...] = ()
    whole = random = False
    try:
        model, data_sets = case_data(case)
        op = op_of(kind, model)
        try:
            prepared = prepare(model, threads=1)
            got = [prepared.run(inputs) for inputs, _ in data_sets]
            specialized = prepared.specialized
            whole = bool(specialized) and all(len(specialized) == len(inputs) for inputs, _ in data_sets)
            for made, (_, wanted) in zip(got, data_sets, strict=True):
                try:
                    compare(made, wanted, case.rtol, max(case.atol, ATOL))
                except Mismatch:
                    if not draws(model):
                        raise
                    compare(made, wanted, case.rtol, max(case.atol, ATOL), drawn=True)
                    random = True
            status = "pass"
        except Mismatch as e:
            status, message = "wrong", str(e)
        except (UnsupportedOpError, ShapeError, ModelFileError) as e:
            status, error, message = "refused", type(e.__cause__ if e.__cause__ else e).__name__, str(e)
            if isinstance(e, UnsupportedOpError):
                error = "UnsupportedOpError"
    except Exception as e:
        status, error, message = "crashed", type(e).__name__, str(e)
    return Result(
        case.name,
        kind,
        op,
        status,
        error,
        message[:2000],
        specialized,
        whole,
        random,
        round(time.monotonic() - began, 3),
    )


def case_data(case: Any) -> tuple[onnx.ModelProto, DataSets]:
    """The model of a case, and its data sets, each of which has inputs and expected outputs.

    The data is part of the case, lies in files beside the model, or is generated.
    """
    if case.model is not None:
        return case.model, case.data_sets
    root = Path(onnx.__file__).parent.parent
    path = root / case.url if case.url else Path(case.model_dir) / "model.onnx"
    model = onnx.load(path)
    if case.url:
        prefix = str(path.with_suffix(""))
        info = next(i for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer})
        shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
        size = int(np.prod(shape))
        made = (np.arange(size).reshape(shape) / size).astype(np.float32)  # as onnx's runner makes it
        wanted = [_load_tensor(Path(f"{prefix}_output_{i}.pb")) for i in range(len(model.graph.output))]
        return model, [([made], wanted)]
    return model, [
        (list(_files(folder, "input", model.graph.input)), list(_files(folder, "output", model.graph.output)))
        for folder in sorted(Path(case.model_dir).glob("test_data_set_*"))
    ]


def _files(folder: Path, what: str, infos: Sequence[onnx.ValueInfoProto]) -> Iterator[Any]:
    for i, _ in enumerate(sorted(folder.glob(f"{what}_*.pb"))):
        path = folder / f"{what}_{i}.pb"
        kind = infos[i].type.WhichOneof("value")
        if kind == "sequence_type":
            yield numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
        elif kind == "optional_type":
            yield numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
        else:
            yield _load_tensor(path)


def _load_tensor(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def op_of(kind: str, model: onnx.ModelProto) -> str:
    """The row of the table in which a case is counted: the operator of a single node, or else the kind of the case."""
    nodes = model.graph.node
    if len(nodes) == 1:
        return str(nodes[0].op_type)
    return f"({kind}, several ops)"


def draws(model: onnx.ModelProto) -> bool:
    """Whether a model draws random numbers."""
    random = ("Bernoulli", "RandomUniformLike")
    return any(n.op_type in random or (n.op_type == "Dropout" and len(n.input) > 2) for n in model.graph.node)


def compare(got: Sequence[Any], wanted: Sequence[Any], rtol: float, atol: float, drawn: bool = False) -> None:
    """Raise ``Mismatch`` unless the outputs are equal in number, dtype and shape, and close in value.

    With ``drawn``, which elements are 0 is random: those are compared that are 0 in neither, and there must be some.
    """
    if len(got) != len(wanted):
        raise Mismatch(f"{len(got)} outputs, expected {len(wanted)}")
    for i, (g, want) in enumerate(zip(got, wanted, strict=True)):
        w = numpy_helper.to_array(want) if isinstance(want, onnx.TensorProto) else np.asarray(want)
        if g.dtype != w.dtype or g.shape != w.shape:
            raise Mismatch(f"output {i} is {g.dtype}{list(g.shape)}, expected {w.dtype}{list(w.shape)}")
        alike = [g, w]
        if drawn:
            both = (g != 0) & (w != 0)
            if not both.any():
                raise Mismatch(f"output {i} has nothing but 0 where the suite has other numbers")
            alike = [g[both], w[both]]
        if w.dtype.kind in "biu":
            close = np.array_equal(*alike)
        else:
            few = max(rtol, BF16_RTOL) if w.dtype.name == "bfloat16" else rtol
            with np.errstate(all="ignore"):
                g64, w64 = (v.astype(np.float64) for v in alike)
                close = np.allclose(g64, w64, rtol=few, atol=atol, equal_nan=True)
        if not close:
            raise Mismatch(f"output {i} is {_brief(g)}, expected {_brief(w)}")


def _brief(x: np.ndarray) -> str:
    text = np.array2string(x.reshape(-1)[:12], precision=5, separator=", ")
    return f"{x.dtype}{list(x.shape)} {text}" + ("..." if x.size > 12 else "")


# -- worker processes -------------------------------------------------------------------------------------------------


def _work(connection: Connection, kinds: Sequence[str], pattern: str) -> None:
    """The loop of a worker process, which receives cases by kind and name and sends results."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # TVM prints a trace for every error
    warnings.simplefilter("ignore")
    cases = load_cases(kinds, pattern)
    connection.send(None)
    while (key := connection.recv()) is not None:
        connection.send(run_case(key[0], cases[key]))


class _Worker:
    """A worker process that runs one case at a time. It is replaced by a new process whenever it ends."""

    def __init__(self, kinds: Sequence[str], pattern: str, limit: float) -> None:
        self.kinds, self.pattern, self.limit = kinds, pattern, limit
        self.key: tuple[str, str] = ("", "")
        self.deadline = 0.0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, self.kinds, self.pattern), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()

    def give(self, key: tuple[str, str]) -> None:
        """Give a case to the worker."""
        self.key, self.deadline = key, time.monotonic() + self.limit
        self.connection.send(key)

    def take(self) -> Result | str | None:
        """The result of the case, or ``None`` while the worker is busy.

        A process that ended or took too long is replaced; the reason is then returned as text.
        """
        late = time.monotonic() > self.deadline
        if not self.connection.poll() and not late:
            return None
        try:
            if not late:
                result: Result = self.connection.recv()
                return result
            why = f"no answer in {self.limit:g} s"
        except EOFError:
            self.process.join()
            why = f"the process ended with status {self.process.exitcode}"
        self.stop()
        self._start()
        return why

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_suite(kinds: Sequence[str], pattern: str = "", jobs: int = 1, limit: float = 120.0) -> list[Result]:
    """Run the cases of these kinds whose names match, in ``jobs`` processes, for at most ``limit`` seconds each."""
    cases = load_cases(kinds, pattern)
    todo = list(reversed(cases))
    results: list[Result] = []
    busy = [_Worker(kinds, pattern, limit) for _ in range(min(jobs, len(todo)))]
    for worker in busy:
        worker.give(todo.pop())
    while busy:
        wait([w.connection for w in busy], max(0.01, min(w.deadline for w in busy) - time.monotonic()))
        for worker in list(busy):
            result = worker.take()
            if result is None:
                continue
            if isinstance(result, str):
                kind, name = worker.key
                op = op_of(kind, case_data(cases[worker.key])[0])
                result = Result(name, kind, op, "crashed", result, "")
            results.append(result)
            if todo:
                worker.give(todo.pop())
            else:
                worker.stop()
                busy.remove(worker)
    return sorted(results, key=lambda r: (KINDS.index(r.kind), r.name))


# -- report -----------------------------------------------------------------------------------------------------------


def table(results: Sequence[Result]) -> str:
    """A table of the counts by operator and in total, and a list of the cases that are wrong or crashed."""
    by_op: dict[str, Counter[str]] = defaultdict(Counter)
    ops = {r.name: r.op for r in results}
    for r in results:
        # "_expanded" marks the same case with its operator expanded to its function body
        whole, expanded, _ = r.name.partition("_expanded")
        by_op[f"{ops[whole]} (expanded)" if expanded and whole in ops else r.op][r.status] += 1
    total = Counter(r.status for r in results)
    lines = [f"{'op':32}" + "".join(f"{s:>9}" for s in STATUSES)]
    for op, counts in [*sorted(by_op.items()), ("total", total)]:
        lines.append(f"{op:32}" + "".join(f"{counts[s] or '':>9}" for s in STATUSES))
    passed = [r for r in results if r.status == "pass"]
    fixed, all_fixed = sum(bool(r.specialized) for r in passed), sum(r.whole for r in passed)
    lines.append(f"{fixed} of the passes have inputs fixed that convc needs at compile time, {all_fixed} all inputs")
    lines.append(f"{sum(r.random for r in passed)} of the passes draw random numbers of which no values are expected")
    refusals = Counter(r.error for r in results if r.status == "refused")
    lines.append("refused by: " + (", ".join(f"{name} {count}" for name, count in refusals.most_common()) or "none"))
    for r in results:
        if r.status in ("wrong", "crashed"):
            lines.append(f"{r.status}: {r.kind} {r.name}: {r.error} {r.message[:400]}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 when a case is wrong or crashed, and else 0."""
    parser = argparse.ArgumentParser(prog="python -m convc.onnx_suite", description="Run onnx's backend tests.")
    parser.add_argument("--kind", default=",".join(KINDS), help="comma-separated, out of %(default)s")
    parser.add_argument("--filter", default="", metavar="REGEX", help="run the cases whose names match")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every result to this file")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a case may take")
    args = parser.parse_args(argv)
    kinds = args.kind.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown kind {sorted(unknown)[0]!r}; known: {', '.join(KINDS)}")
    results = run_suite(kinds, args.filter, args.jobs, args.limit)
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    return int(any(r.status in ("wrong", "crashed") for r in results))


__all__ = ["ConvcError", "Mismatch", "Result", "compare", "load_cases", "main", "run_case", "run_suite", "table"]


if __name__ == "__main__":
    raise SystemExit(main())
