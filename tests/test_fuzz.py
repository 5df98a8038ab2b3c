"""Random graphs that are compiled in several ways and compared with ONNX Runtime, and graphs that once failed.

``python -m tests.fuzz`` checks more.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz.campaign import failure
from fuzz.compare import Truth, Unclear, classes, differences, feeds_for, is_wild, truth
from fuzz.contrib import rewritten
from fuzz.draw import WILD
from fuzz.generate import generate
from fuzz.shrink import has_empties, shrink
from fuzz.variants import SAME, VARIANTS, check, unequal
from onnxruntime.capi import onnxruntime_pybind11_state as errors
from support.oracles import run_onnxruntime

from convc.ir.graph import Graph
from convc.ir.text import parse_graph, print_graph

REGRESSIONS = sorted((Path(__file__).parent / "fuzz" / "regressions").glob("*.txt"))


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda p: p.stem)
def test_regression(path: Path) -> None:
    assert not check(parse_graph(path.read_text(encoding="utf-8")), [*VARIANTS, *SAME])


@pytest.mark.parametrize("seed", range(30))
def test_seed(seed: int) -> None:
    assert not failure(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 400))
def test_more_seeds(seed: int) -> None:
    try:
        assert not failure(seed, variants=4)
    except Unclear as e:
        pytest.skip(str(e))


def test_the_same_graph_for_the_same_seed() -> None:
    assert print_graph(generate(7)) == print_graph(generate(7)) != print_graph(generate(8))


def test_empty_tensors_are_drawn() -> None:
    """About one graph in twelve has an empty input; in the others no value is empty."""
    empty = [g for g in map(generate, range(300)) if has_empties(g)]
    assert 10 < len(empty) < 50
    assert all(any(not v.type.numel for v in g.inputs) for g in empty)


def test_special_values_are_drawn() -> None:
    """About one graph in eight has an input with NaN, infinities, negative zeros or denormal numbers."""
    wild = [g for g in map(generate, range(300)) if is_wild(g)]
    assert 20 < len(wild) < 60
    values = np.concatenate([x.reshape(-1) for g in wild for n, x in feeds_for(g).items() if n.startswith(WILD)])
    assert set(classes(values)) == {0, 1, 2, 3}
    assert (np.isfinite(values).mean()) > 0.7


def test_special_values_are_told_apart() -> None:
    """NaN, either infinity and numbers are four classes, and an element that is not decided may be any."""
    value = np.array([np.nan, np.inf, -np.inf, 1.0])
    right = Truth("y", value, 0.5)
    assert not right.wrong(value).any()
    for turn in (1, 2, 3):
        assert right.wrong(np.roll(value, turn)).all()
    assert right.wrong(np.full(4, 1.4)).tolist() == [True, True, True, False]
    decided = np.array([True, False, False, True])
    assert Truth("y", value, 0.5, decided).wrong(np.roll(value, 1)).tolist() == [True, False, False, True]
    assert not unequal([np.array([np.nan])], [-np.array([np.nan])], "NaN of another sign")
    assert unequal([np.array([0.0])], [np.array([-0.0])], "zero of another sign")


def test_a_wrong_result_is_found() -> None:
    """An error far smaller than the values, but larger than rounding, is detected."""
    path = next(p for p in REGRESSIONS if p.stem == "conv_transpose_groups")
    graph = parse_graph(path.read_text(encoding="utf-8"))
    truths = truth(graph, feeds_for(graph))
    right = [t.value for t in truths]
    assert not differences(truths, right, "right")
    wrong = right[0].copy()
    wrong.reshape(-1)[3] += 1e-3
    assert differences(truths, [wrong, *right[1:]], "wrong") == [
        f"wrong: '{truths[0].name}' is off by 0.001 at 1 of {wrong.size}, {truths[0].error:.3g} allowed"
    ]
    assert differences([Truth("y", np.arange(3), 0.0)], [np.array([0, 1, 3])], "wrong")


def test_operators_of_onnx_runtime_mean_what_they_replace() -> None:
    """ONNX Runtime gives the same results for the forms of its own, of those that it has kernels for."""
    run = 0
    for seed in range(60):
        graph = generate(seed)
        feeds = feeds_for(graph)
        try:
            got = run_onnxruntime(rewritten(graph), feeds, optimized=False)
            assert not differences(truth(graph, feeds), got, f"seed {seed}")
        except (Unclear, errors.Fail, errors.InvalidGraph, errors.NotImplemented):
            continue
        run += any(n.domain for n in rewritten(graph).graph.node)
    assert run > 12


def test_shrinking_keeps_what_fails() -> None:
    """A failing graph shrinks to the one op that is at fault, at the smallest sizes."""

    def holds_softplus(graph: Graph) -> bool:
        return any(n.op.name == "softplus" for n in graph.nodes)

    seed = next(s for s in range(1000) if holds_softplus(generate(s)) and len(generate(s).nodes) > 4)
    small = shrink(generate(seed), holds_softplus)
    assert [n.op.name for n in small.nodes] == ["softplus"]
    assert max(small.outputs[0].type.sizes) == 1


def test_the_command() -> None:
    """The command checks one model in a separate process, and prints the count."""
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "2", "--models", "1"]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.fullmatch(r"1 models in 0.\d\d hours, \d+ an hour: \{'clean': 1\}\n", run.stdout)
