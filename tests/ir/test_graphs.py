"""Algorithms on graphs, against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from support.graphs import graph
from support.malformed import raises

from convc.ir.errors import GraphError
from convc.ir.graph import sort_topologically
from convc.ir.min_cut import minimum_cut
from convc.ir.passes.fuse import _post_dominators


@pytest.mark.parametrize("seed", range(40))
def test_the_minimum_cut_is_the_largest_on_the_side_of_the_source(seed: int) -> None:
    """Small whole capacities give many cuts of the same size."""
    rng = np.random.default_rng(seed)
    names = ["s", *map(str, range(rng.integers(1, 12))), "t"]
    pairs = [(a, b) for a in names for b in names if a != b and rng.random() < 0.4]
    capacities = {pair: float(rng.integers(0, 4)) for pair in pairs}
    capacities |= {(a, b): np.inf for a, b in pairs if a != "s" and b == "t" and rng.random() < 0.3}
    g = nx.DiGraph()
    g.add_nodes_from(["s", "t", *(v for pair in pairs for v in pair)])
    g.add_edges_from((a, b, {} if c == np.inf else {"capacity": c}) for (a, b), c in capacities.items())
    capacities.setdefault(("s", "t"), 0.0)
    _, (side, _) = nx.minimum_cut(g, "s", "t")
    assert minimum_cut(capacities, "s", "t") == side


@pytest.mark.parametrize("seed", range(20))
def test_post_dominators(seed: int) -> None:
    """Each node adds two values before it. Some are read by nothing, and only some are returned."""
    rng = np.random.default_rng(seed)
    values, lines = ["x"], []
    for i in range(15):
        a, b = (values[max(0, len(values) - rng.integers(1, 5))] for _ in range(2))
        lines.append(f"%v{i}: f32[4] = add(%{a}, %{b})")
        values.append(f"v{i}")
    returned = sorted({"v14", *rng.choice(values[1:], 2)})
    made = graph("\n".join([*lines, f"return {', '.join(f'%{v}' for v in returned)}"]), "%x: f32[4]")
    g = nx.DiGraph()
    for i, node in enumerate(made.nodes):
        g.add_edges_from((int(v.name[1:]), i) for v in node.inputs if v.name != "x")
        if node.output.name in made.output_set:
            g.add_edge(i, -1)
    expected = dict(nx.immediate_dominators(g.reverse(), -1))
    found = _post_dominators(made)
    assert {i: d for i, d in found.items() if i != -1} == {i: d for i, d in expected.items() if i != -1}


@pytest.mark.parametrize("seed", range(20))
def test_topological_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 20))
    rank = rng.permutation(count)
    reads = [[f"v{j}" for j in range(count) if rank[j] < rank[i] and rng.random() < 0.2] for i in range(count)]
    g = nx.DiGraph()
    g.add_nodes_from(range(count))
    g.add_edges_from((int(name[1:]), i) for i in range(count) for name in reads[i])
    order = sort_topologically(rank, lambda i: reads[i], lambda i: [f"v{i}"], str)
    assert order == list(nx.lexicographical_topological_sort(g))


def test_a_cycle_is_named_in_its_order() -> None:
    """0 -> 1 -> 3 -> 4 -> 1, and 5 reads the cycle."""
    reads = [[], [0, 4], [], [1, 2], [3], [3, 1]]
    with raises(GraphError, "the graph has a cycle: 1 -> 3 -> 4 -> 1"):
        sort_topologically(reads, lambda i: list(map(str, reads[i])), lambda i: [str(i)], str)
