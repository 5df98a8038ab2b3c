"""Tuning: measuring the algorithms for each convolution of a network, in the network itself.

The cost model ranks the candidates for each convolution. The network is compiled once for every rank: with the first
candidate of each convolution, with the second, and so on. All these networks are timed in turns, node by node.

Weights are therefore in the caches or not, as in normal use, and disturbances of the machine affect all candidates
alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from convc.backends.cpu.passes.choose_algorithms import candidates
from convc.ir.graph import Graph
from convc.ir.ops.fused import Fused

from ..store import store
from .build import Built, build
from .choices import Choices, algorithm, signature
from .pipeline import pipeline
from .profile import node_times
from .target import Target


@dataclass(frozen=True)
class Effort:
    """How much tuning measures, and what gain it requires."""

    worth: float = 1.5
    """A candidate that the cost model takes to be more than this many times slower than its first is not tried."""
    gain: float = 0.02
    """The share of the time that a candidate must save to be preferred. A smaller difference may be noise."""
    turn: float = 0.4
    """The number of seconds for which each network is timed in a turn, if the budget allows."""
    turns: tuple[int, int] = (3, 10)
    """The least and the greatest number of turns."""


STANDARD = Effort()
"""The effort of ``convc tune``."""

Measure = Callable[[Built, Graph, int, float], Mapping[str, float]]
"""A function that times the nodes of a network by name, as ``node_times`` does."""


@dataclass(frozen=True)
class Tuned:
    """The measurements of one distinct convolution.

    ``kernel`` is its text, ``uses`` the number of its nodes in the network, and ``seconds`` the time of one of them by
    each algorithm that was tried, the cost model's choice first.
    """

    signature: str
    uses: int
    seconds: Mapping[str, float]
    gain: float

    @property
    def winner(self) -> str:
        """The fastest algorithm, or the cost model's choice when no other saves the share ``gain``."""
        first, best = next(iter(self.seconds)), min(self.seconds, key=lambda a: self.seconds[a])
        return best if self.seconds[best] < (1 - self.gain) * self.seconds[first] else first


@dataclass(frozen=True)
class Outcome:
    """The result of tuning: the measurements, and the choices that follow from them.

    ``before`` and ``after`` are the seconds that all kernels of a run take together, with the choices of the cost model
    and with the tuned ones.
    """

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
    """Tune the convolutions of a graph of static shapes.

    ``budget`` is in seconds. When it does not allow all candidates, those that the cost model ranks last are left out.
    The ``choices`` of the outcome are empty when the network is no faster with them.
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
        return _Network(build(final, target, store()), final, algorithms)

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
    """A network compiled with the given algorithms, and with the cost model's choices for the other convolutions."""

    built: Built
    final: Graph
    algorithms: Mapping[str, str]

    def groups(self) -> dict[str, str]:
        """The name of the node that computes each value, by the name of the value.

        A node is named by its first output.
        """
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
    """The shortest time of each node of each network, by name. The networks are timed in turns until ``end``."""
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
    """The mean time of one convolution over its nodes, in each network that tries an algorithm for it."""
    uses = [node for node, k in nodes.items() if k == key]
    seconds = {}
    for name, network, found in zip(names, networks, times, strict=False):
        groups = network.groups()
        seconds[name] = sum(found.get(groups[u], 0.0) for u in uses) / len(uses)
    return Tuned(key, len(uses), seconds, gain)
