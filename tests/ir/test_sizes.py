"""Sizes as expressions over named sizes: the algebra agrees with integers, and what is assumed is kept and checked."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

import pytest

from convc.ir.assumptions import Assumptions, check_assumptions
from convc.ir.errors import ParseError, ShapeError
from convc.ir.sizes import (
    MOST,
    TYPICAL,
    Dim,
    Size,
    at,
    at_least,
    bounds,
    equal,
    largest,
    least,
    named,
    names,
    same,
    spelt,
    typical,
)
from convc.ir.text import parse_graph, print_graph
from convc.ir.types import TensorType

h, w, n, k = named("h"), named("w"), named("n"), named("k", 1)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (h + 1 + h, "2*h + 1"),
        (h - h, "0"),
        (h * w - w * h + 3, "3"),
        (-(-h // 2), "(h + 1)//2"),  # rounded up
        (((h + 1) // 2 + 1) // 2, "(h + 3)//4"),
        ((h - 1) // 2 + 1, "(h + 1)//2"),
        ((4 * h + 2) // 8, "h//2"),
        ((2 * h + 1) // 2, "h"),
        (2 * (h // 2), "2*(h//2)"),
        (3 - h // 2, "3 - h//2"),
        (h % 32, "h - 32*(h//32)"),
        ((n * k * w * 64) // (k * 64), "n*w"),
        ((n * (h + 1) * (w + 2)) // (h + 1), "2*n + n*w"),
        ((n * k + w) // k, "n + w//k"),
        (largest(h, 3, w, 2), "max(3, h, w)"),
        (largest(h, h + 1), "h + 1"),
        (largest(0, h), "h"),
        (k // k, "1"),
    ],
)
def test_one_form(size: Dim, text: str) -> None:
    assert str(size) == text


def _tree(draw: random.Random, depth: int, leaves: Mapping[str, Dim]) -> Dim:
    if not depth:
        return draw.choice([*leaves.values(), draw.randint(0, 9)])
    x, y, d = _tree(draw, depth - 1, leaves), _tree(draw, depth - 1, leaves), draw.randint(1, 9)
    makers: list[Callable[[], Dim]] = [
        lambda: x + y,
        lambda: x - y,
        lambda: x * y,
        lambda: x // d,
        lambda: -(-x // d),
        lambda: x % d,
        lambda: x // largest(y, 1),
        lambda: largest(x, y),
        lambda: least(x, y),
    ]
    return draw.choice(makers)()


def test_expressions_agree_with_integers_and_survive_as_text() -> None:
    """For random expressions: value, bounds, and the text form."""
    open_sizes = {"h": h, "w": w, "n": n}
    for seed in range(300):
        depth = 1 + seed % 4
        size = _tree(random.Random(seed), depth, open_sizes)
        values = {name: random.Random(f"{seed} {name}").randint(0, 40) for name in open_sizes}
        expected = _tree(random.Random(seed), depth, values)
        low, high = bounds(size)
        assert at(size, values) == expected, (seed, size, values)
        assert low <= expected <= high, (seed, size, values)
        moved = at(size, {"h": w + 1, "n": 3})
        assert at(moved, values) == at(size, {**values, "h": values["w"] + 1, "n": 3}), (seed, size, moved)
        text = f"graph @g(%x: f32[{spelt(largest(size, 0), json.dumps)}]) {{ return %x }}"
        assert parse_graph(text).inputs[0].type.shape == (largest(size, 0),), (seed, text)


def test_a_comparison_is_decided_by_bounds_or_assumed_as_it_is_for_typical_sizes() -> None:
    made = Assumptions()
    with made.noted("here"):
        assert h >= 0
        assert not h + 1 <= 0
        assert not made.made
        assert h >= 7
        assert h >= 5
        assert h + w >= 6  # since w >= 0
        assert (h + 1) // 2 >= 4
        assert h // 4 < 100
        assert 6 * (h // 4) < 600
        assert bool(n)
    assert [str(a) for a in made.made] == ["h >= 7", "399 >= h", "n >= 1"]
    assert set(made.made.values()) == {"here"}


def test_what_is_assumed_is_known_from_then_on() -> None:
    made = Assumptions()
    with made.noted("here"):
        assert same(n, 3 * w)
        assert same(3 * w, n)
        assert not equal(n, 2)
        assert not equal(2, n)
        assert not h < 9
        assert not equal(h, 8)
    assert [str(a) for a in made.made] == ["n == 3*w", "n != 2", "h >= 9"]
    check_assumptions(made.made, {"n": 6, "w": 2, "h": 9})
    with pytest.raises(ShapeError, match=r"here: it was inferred for n == 3\*w, but n = 7, w = 2"):
        check_assumptions(made.made, {"n": 7, "w": 2, "h": 9})
    with pytest.raises(ShapeError, match="h >= 9, but h = 8"):
        check_assumptions(made.made, {"n": 6, "w": 2, "h": 8})


def test_nothing_is_assumed_outside() -> None:
    with pytest.raises(ShapeError, match="h == w is open here"):
        same(h, w)
    with pytest.raises(ShapeError, match="size h is open here"):
        range(h)  # type: ignore[arg-type, call-overload]


def test_a_size_does_not_grow_for_ever() -> None:
    def grown(size: Dim) -> Dim:
        return grown(size // 2 + size // 3)

    with pytest.raises(ShapeError, match="too long an expression"):
        grown(h)


def test_names_bounds_and_typical_values_of_a_size() -> None:
    size = named("b", 2, 8, typical=4) * 3 + (named("h", 1) - 1) // 2
    assert isinstance(size, Size)
    assert [v.name for v in names(size)] == ["h", "b"]
    assert bounds(size)[0] == 6
    assert typical(size) == 12 + 223 // 2


def test_assumptions_have_a_text_form() -> None:
    text = """graph @g(%x: f32["h"], %y: f32["w"]) {
  assume "h" == "w" for "Add node 'a'"
  assume "h" >= 7
  %s: f32["h"] = add(%x, %y)
  return %s
}"""
    graph = parse_graph(text)
    assert print_graph(graph) == text
    assert [str(a) for a in graph.assumptions] == ["h == w", "h >= 7"]


def test_typical_values_follow_from_axes() -> None:
    shapes = [("n", 3, "h", "w"), ("t", "b", 8), ("t",), ("n", 2, "d", "h", "w")]
    types = [TensorType("f32", shape).at_typical().shape for shape in shapes]
    assert types == [(1, 3, 224, 224), (1, 128, 8), (128,), (1, 2, 64, 64, 64)]


def test_what_is_inferred_for_one_image_holds_for_several() -> None:
    size = named("n", typical=1)
    assumed = Assumptions()
    with assumed.noted("here"):
        assert not equal(size, 1)
        assert at_least(size, 2)
    assert [str(a) for a in assumed.made] == ["n != 1", "n >= 2"]


def test_equal_sizes_are_brought_to_lowest_terms() -> None:
    assert not equal(6 * h, 9)
    assumed = Assumptions()
    with assumed.noted("here"):
        assert same(512 * h * w, 512 * 49)
    assert [str(a) for a in assumed.made] == ["h*w == 49"]


def test_what_is_known_of_a_size_has_a_text_form() -> None:
    text = """graph @g("n" least 1 most 64 typical 1, "w" typical 1024, %x: f32["n","h","w"]) {
  %y: f32["n","h","w"] = tanh(%x)
  return %y
}"""
    graph = parse_graph(text)
    assert print_graph(graph) == text
    assert [(v.least, v.most, v.typical) for v in graph.named_sizes.values()] == [
        (1, 64, 1), (0, MOST, TYPICAL), (0, MOST, 1024),
    ]  # fmt: skip
    for wrong in ('"n" least 2 typical 1', '"n" least -1', '"n" typical x', '"n" most 3'):
        with pytest.raises(ParseError, match="line 1"):
            parse_graph(text.replace('"n" least 1 most 64 typical 1', wrong))
