"""Random numbers: exact words, distributions, and streams that differ by node, seed and step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.malformed import raises
from support.models import model, node

import convc
from convc.ir.dtypes import numpy_dtype
from convc.ir.errors import ConvcError, ModelFileError
from convc.ir.random import Stream, philox, seeded

COUNT = 40_000


def drawn(made: Any, *inputs: np.ndarray, seed: int = 0) -> Any:
    return convc.compile(made, threads=1, seed=seed)(*inputs)


def ks(x: np.ndarray, y: np.ndarray) -> float:
    """The Kolmogorov-Smirnov statistic of two samples of one size, times the root of half of it: about 1.63 at 1%."""
    every = np.sort(np.concatenate([x, y]))
    below = [np.searchsorted(np.sort(s), every, side="right") for s in (x, y)]
    return float(abs(below[0] - below[1]).max() / x.size * np.sqrt(x.size / 2))


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter: str, key: str, words: str) -> None:
    """The answers that Random123, the authors' library, lists for philox4x32-10 (kat_vectors)."""
    given, secret, want = ([int(w, 16) for w in text.split()] for text in (counter, key, words))
    assert philox(np.array([given], np.uint32), (secret[0], secret[1])).tolist() == [want]


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_uniform(dtype: str) -> None:
    x = Stream(3, None).uniform((COUNT,), dtype, -1.0, 3.0)
    assert x.dtype == numpy_dtype(dtype)
    assert x.min() >= -1
    assert x.max() < 3
    assert ks(x.astype(np.float64), np.random.default_rng(0).uniform(-1, 3, COUNT)) < 1.95 + (dtype == "bf16")
    few = Stream(3, None).uniform((4096,), "bf16", 1.0, np.nextafter(np.float32(1.0078125), np.float32(2)))
    assert set(np.unique(few.astype(np.float32))) <= {1.0, 1.0078125}


@pytest.mark.parametrize("dtype", ["f16", "f32", "f64"])
def test_normal(dtype: str) -> None:
    x = Stream(3, 2.5).normal((COUNT - 1,), dtype, 1.0, 0.5).astype(np.float64)
    assert ks(x, np.random.default_rng(0).normal(1, 0.5, COUNT - 1)) < 1.95
    z = (x - 1) / 0.5
    moments = [np.mean(z), np.mean(z**2), np.mean(z**3), np.mean(z**4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.1)
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.02


def test_streams_differ_by_node_and_seed() -> None:
    """Two nodes with one seed draw different numbers; the caller's seed is for nodes that have none."""
    nodes = [
        node("RandomNormal", [], ["a"], shape=[3, 5]),
        node("RandomNormalLike", ["x"], ["b"], dtype=1),
        node("RandomUniform", [], ["c"], shape=[3, 5], seed=4.0, dtype=11),
        node("RandomUniformLike", ["x"], ["d"], seed=4.0, low=2.0, high=3.0),
    ]
    made = model(nodes, {"x": (np.float16, [3, 5])}, "a b c d")
    x = np.zeros((3, 5), np.float16)
    first, again = drawn(made, x), drawn(made, x)
    other = drawn(made, x, seed=7)
    assert [str(v.dtype) for v in first] == ["float32", "float32", "float64", "float16"]
    for v, w in zip(first, again, strict=True):
        np.testing.assert_array_equal(v, w)
    assert [np.array_equal(v, w) for v, w in zip(first, other, strict=True)] == [False, False, True, True]
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first[2] + 2, first[3], atol=1e-2)
    assert ((first[3] >= 2) & (first[3] < 3)).all()


def test_dynamic_sizes_keep_the_seed() -> None:
    made = model([node("RandomNormalLike", ["x"], ["y"])], {"x": ["n"]}, "y")
    x = np.zeros(6, np.float32)
    of_seven, of_zero = (convc.compile(made, threads=1, cache=False, seed=seed)(x) for seed in (7, 0))
    np.testing.assert_array_equal(
        of_seven, drawn(model([node("RandomNormalLike", ["x"], ["y"])], {"x": x}, "y"), x, seed=7)
    )
    assert not np.allclose(of_seven, of_zero)


def test_every_step_of_a_loop_draws_anew() -> None:
    body = model([node("RandomUniform", [], ["r"], shape=[4]), node("Identity", ["c"], ["on"])], {}, "on r").graph
    from onnx import TensorProto, helper

    body.input.extend([helper.make_tensor_value_info("i", TensorProto.INT64, []),
                       helper.make_tensor_value_info("c", TensorProto.BOOL, [])])  # fmt: skip
    loop = node("Loop", ["n", "t"], ["y"], body=body)
    made = model([loop], {}, "y", {"n": np.array(3), "t": np.array(True)})
    assert len(np.unique(drawn(made))) == 12


def test_bernoulli() -> None:
    p = np.linspace(0, 1, COUNT, dtype=np.float32)
    y = drawn(model([node("Bernoulli", ["x"], ["y"], dtype=6)], {"x": p}, "y"), p)
    assert y.dtype == np.int32
    assert set(np.unique(y)) == {0, 1}
    for part, chance in zip(np.split(y, 8), np.split(p, 8), strict=True):
        assert abs(part.mean() - chance.mean()) < 0.03


def test_multinomial() -> None:
    chances = np.array([[0.1, 0.2, 0.3, 0.4], [0, 1, 0, 0], [0.5, 0, 0, 0.5]])
    with np.errstate(divide="ignore"):
        x = np.log(chances).astype(np.float32) + np.float32([[5], [-300], [0]])
    y = drawn(model([node("Multinomial", ["x"], ["y"], sample_size=9000, dtype=7)], {"x": x}, "y"), x)
    assert y.dtype == np.int64
    assert y.shape == (3, 9000)
    shares = np.stack([np.bincount(row, minlength=4) / 9000 for row in y])
    np.testing.assert_allclose(shares, chances, atol=0.02)


@pytest.mark.parametrize("ratio", [None, 0.25])
def test_dropout_in_training(ratio: float | None) -> None:
    weights = {"t": np.array(True)} | ({} if ratio is None else {"r": np.float32(ratio)})
    made = model(
        [node("Dropout", ["x", "" if ratio is None else "r", "t"], ["y", "m"])], {"x": [COUNT]}, "y m", weights
    )
    x = np.random.default_rng(0).uniform(1, 2, COUNT).astype(np.float32)
    y, mask = drawn(made, x)
    assert mask.dtype == bool
    share = 1 - (0.5 if ratio is None else ratio)
    assert abs(mask.mean() - share) < 0.01
    np.testing.assert_allclose(y, np.where(mask, x / share, 0), rtol=1e-6)


@pytest.mark.parametrize("op", ["RandomUniform", "RandomNormal"])
def test_malformed(op: str) -> None:
    for attrs, why in (({}, "attribute 'shape' is missing"), ({"shape": [-1]}, "negative size"),
                       ({"shape": [2], "dtype": 7}, "int64")):  # fmt: skip
        with raises(ModelFileError, op, why):
            convc.load_onnx(model([node(op, [], ["y"], **attrs)], {}, "y"))
    with raises(convc.LimitError, op, "random numbers"):
        convc.load_onnx(model([node(op, [], ["y"], shape=[1 << 40])], {}, "y"))
    with pytest.raises(ConvcError, match="seed"), seeded(-1):
        pass
