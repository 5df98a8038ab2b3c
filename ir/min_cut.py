"""The minimum cut of a network by Dinic's algorithm (E. A. Dinic, Soviet Mathematics Doklady 11, 1970)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise


def minimum_cut(capacities: Mapping[tuple[str, str], float], source: str, sink: str) -> set[str]:
    """The source's side of a minimum cut: the vertices from which the sink cannot be reached once the flow is maximal.

    ``capacities`` gives the capacity of each arc, which may be infinite. There must be no path of infinite capacity
    from the source to the sink. Of several minimum cuts, this is the one with the most vertices on the source's side.
    """
    left: dict[str, dict[str, float]] = defaultdict(dict)
    for (a, b), capacity in capacities.items():
        left[a][b] = left[a].get(b, 0.0) + capacity
        left[b].setdefault(a, 0.0)
    while (distance := _distances(left, sink)).get(source) is not None:
        _block(left, distance, source, sink)
    return {v for v in left if v not in distance}


def _distances(left: Mapping[str, Mapping[str, float]], sink: str) -> dict[str, int]:
    """The number of arcs with capacity left on the way to the sink, for each vertex from which there is a way."""
    found, front = {sink: 0}, [sink]
    while front:
        behind = []
        for v in front:
            for u in left[v]:
                if u not in found and left[u][v] > 0:
                    found[u] = found[v] + 1
                    behind.append(u)
        front = behind
    return found


def _block(left: dict[str, dict[str, float]], distance: Mapping[str, int], source: str, sink: str) -> None:
    """Send flow along shortest paths until each of them has an arc without capacity left."""
    untried = {v: list(left[v]) for v in distance}
    path = [source]
    while path:
        v = path[-1]
        if v == sink:
            arcs = list(pairwise(path))
            flow = min(left[a][b] for a, b in arcs)
            assert flow < math.inf, "no cut is finite"
            for a, b in arcs:
                left[a][b] -= flow
                left[b][a] += flow
            path = path[: next(i for i, (a, b) in enumerate(arcs) if left[a][b] <= 0) + 1]
        elif untried[v]:
            w = untried[v][-1]
            if left[v][w] > 0 and distance.get(w, -1) == distance[v] - 1:
                path.append(w)
            else:
                untried[v].pop()
        else:
            path.pop()
            if path:
                untried[path[-1]].pop()
