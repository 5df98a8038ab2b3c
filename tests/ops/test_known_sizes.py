"""Tensors that follow from sizes, in graphs whose sizes are written as numbers."""

from __future__ import annotations

import numpy as np
import pytest

import convc
from convc.ir.errors import GraphError, ShapeError
from convc.ir.text import parse_graph
from convc.ir.verify import verify


def test_numbers() -> None:
    graph = parse_graph("""graph @g(%x: f32[2,3]) {
      %a: f32[2,3] = known_sizes() {values=[1,2,3,4,5,7],shape=[2,3],divisors=[2,1,1,1,1,4],dtype="f32"}
      %b: f32[2,3] = known_sizes() {values=[3],shape=[2,3],divisors=[2],dtype="f32"}
      %c: i64[3] = range() {count=3,start=9,step=-2}
      %y: f32[2,3] = add(%x, %a)
      %z: f32[2,3] = mul(%y, %b)
      return %z, %c
    }""")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    z, c = convc.compile(graph, threads=1)(x)
    np.testing.assert_array_equal(z, (x + np.array([[0.5, 2, 3], [4, 5, 1.75]], np.float32)) * 1.5)
    np.testing.assert_array_equal(c, [9, 7, 5])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ('f32[2] = known_sizes() {values=[1,2,3],shape=[2],dtype="f32"}', "a value for each element"),
        ('f32[2] = known_sizes() {values=[1,2],shape=[2],divisors=[1,3],dtype="f32"}', "powers of two"),
        ("i64[2] = range() {count=-1}", "not negative"),
        ('f32[2] = range() {count=2,dtype="f32"}', "makes a number of integers"),
    ],
)
def test_what_does_not_fit(node: str, message: str) -> None:
    with pytest.raises((ShapeError, GraphError), match=message):
        verify(parse_graph(f"graph @g(%x: f32[1]) {{ %y: {node} return %y }}"))
