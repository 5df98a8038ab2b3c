"""Measure the ways to compute each convolution of a network, in place: the network is compiled once for every rank of the cost
model's candidates, each convolution of it by its first, its second and so on, and all are timed in turns, node by node.

So weights come from where they come from in the network, and what the machine does meanwhile meets all candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from convc.backends.cpu.passes.choose_algorithms import candidates
from convc.ir.graph import Graph
from convc.ir.ops.fused import Fused

from .build import Built, build
from .choices import Choices, algorithm, signature
from .pipeline import pipeline
from .profile import node_times
from .target import Target


@dataclass(frozen=True)
class Effort:
    """How far tuning goes."""

    worth: float = 1.5
    """Candidates that the cost model takes to be this many times slower than its first are not tried."""
    gain: float = 0.02
    """The share that a candidate must save to be preferred: less may be noise."""
    turn: float = 0.4
    """Seconds that each network is timed in a turn, where the budget allows."""
    turns: tuple[int, int] = (3, 10)
    """The least and the most turns."""


STANDARD = Effort()
"""As far as ``convc tune`` goes."""

Measure = Callable[[Built, Graph, int, float], Mapping[str, float]]
"""Times by the names of nodes, as ``node_times`` gives them."""


@dataclass(frozen=True)
class Tuned:
    """One distinct convolution: its text, how often the network has it, and what one takes by each algorithm that was tried,
    in seconds, the cost model's choice first.
    """

    signature: str
    uses: int
    seconds: Mapping[str, float]
    gain: float

    @property
    def winner(self) -> str:
        """The fastest algorithm, or the cost model's where no other saves the share ``gain``."""
        first, best = next(iter(self.seconds)), min(self.seconds, key=lambda a: self.seconds[a])
        return best if self.seconds[best] < (1 - self.gain) * self.seconds[first] else first


@dataclass(frozen=True)
class Outcome:
    """What was measured, the choices that follow, and the seconds of all kernels of a run by the cost model and by those."""

    convolutions: Sequence[Tuned]
    choices: Choices
    before: float
    after: float


def tune(
    graph: Graph,
    target: Target,
    budget: float,
    report: Callable[[str], None],
    measure: Measure = node_times,
    effort: Effort = STANDARD,
) -> Outcome:
    """Tune a graph of static shapes. ``budget`` is in seconds; candidates that the cost model ranks last may not fit into it.

    ``choices`` of the outcome are empty when the network is no faster with them.
    """
    graph = pipeline(target.machine).split("choose_algorithms")[0].run(graph)
    ranked: dict[str, list[str]] = {}
    nodes: dict[str, str] = {}
    for node, ops in candidates(graph, target.machine):
        nodes[node.output.name] = signature(node)
        ranked[signature(node)] = [algorithm(op) for cycles, op in ops if cycles <= effort.worth * ops[0][0]]

    def compiled(algorithms: Mapping[str, str]) -> _Network:
        _, rest = pipeline(target.machine, choices=Choices(algorithms)).split("choose_algorithms")
        final = rest.run(graph)
        return _Network(build(final, target, trace=True), final, algorithms)

    end = time.perf_counter() + budget
    ranks = max(map(len, ranked.values()), default=1)
    networks = []
    for rank in range(ranks):
        if rank > 1 and time.perf_counter() > end - budget / 2:
            report(f"no time for the last {ranks - rank} of {ranks} candidates")
            break
        report(f"compiling candidate {rank + 1} of {ranks}")
        networks.append(compiled({k: names[rank] for k, names in ranked.items() if rank < len(names)}))
    effort = replace(effort, turn=min(effort.turn, budget))

    def timed(some: Sequence[_Network], until: float) -> list[dict[str, float]]:
        return _in_turns(some, target.threads, until, report, measure, effort)

    times = timed(networks, end if ranks > 1 else 0.0)
    convolutions = [_tuned(k, ranked[k], nodes, networks, times, effort.gain) for k in ranked]
    won = Choices({t.signature: t.winner for t in convolutions if t.winner != ranked[t.signature][0]})
    before = after = sum(times[0].values())
    if won.algorithms:
        report("comparing the whole network")
        pair = [networks[0], compiled(won.algorithms)]
        before, after = (sum(t.values()) for t in timed(pair, 0.0))
    return Outcome(convolutions, won if after < before else Choices(), before, after)


@dataclass(frozen=True)
class _Network:
    """A network compiled with these algorithms, the cost model's where none is named."""

    built: Built
    final: Graph
    algorithms: Mapping[str, str]

    def groups(self) -> dict[str, str]:
        """The node that each value is computed in, by the names of the value and of the node's output."""
        bodies = [(n.output.name, n.op.body.nodes if isinstance(n.op, Fused) else (n,)) for n in self.final.nodes]
        return {inner.output.name: name for name, body in bodies for inner in body}


def _in_turns(
    networks: Sequence[_Network],
    threads: int,
    end: float,
    report: Callable[[str], None],
    measure: Measure,
    effort: Effort,
) -> list[dict[str, float]]:
    """The least time of each node of each network, timed in turns until ``end``."""
    least: list[dict[str, float]] = [{} for _ in networks]
    for turn in range(1, effort.turns[1] + 1):
        if turn > effort.turns[0] and time.perf_counter() > end:
            break
        report(f"measuring, turn {turn}")
        for network, found in zip(networks, least, strict=True):
            for name, seconds in measure(network.built, network.final, threads, effort.turn).items():
                found[name] = min(seconds, found.get(name, seconds))
    return least


def _tuned(
    key: str,
    names: Sequence[str],
    nodes: Mapping[str, str],
    networks: Sequence[_Network],
    times: Sequence[Mapping[str, float]],
    gain: float,
) -> Tuned:
    """What one convolution took, on average over its uses, in the networks that try an algorithm for it."""
    uses = [node for node, k in nodes.items() if k == key]
    seconds = {}
    for name, network, found in zip(names, networks, times, strict=False):
        groups = network.groups()
        seconds[name] = sum(found.get(groups[u], 0.0) for u in uses) / len(uses)
    return Tuned(key, len(uses), seconds, gain)
