"""Steps of optimizers, and features for classical machine learning, compared with onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.compare import check
from support.malformed import raises
from support.models import model, node
from support.oracles import run_reference

import convc
from convc.ir.errors import ModelFileError, UnsupportedOpError

TRAINING = "ai.onnx.preview.training"
rng = np.random.default_rng(0)


def of_domain(made: Any, domain: str, version: int = 1) -> Any:
    made.opset_import.append(helper.make_opsetid(domain, version))
    return made


@pytest.mark.parametrize("updates", [0, 3])
@pytest.mark.parametrize(
    ("op", "states", "attrs"),
    [
        ("Momentum", 1, {"mode": "standard", "alpha": 0.9, "beta": 0.3, "norm_coefficient": 0.01}),
        ("Momentum", 1, {"mode": "nesterov", "alpha": 0.9, "beta": 0.3, "norm_coefficient": 0.01}),
        ("Adagrad", 1, {"decay_factor": 0.1, "norm_coefficient": 0.01}),
        ("Adam", 2, {"alpha": 0.8, "beta": 0.95, "norm_coefficient": 0.01, "norm_coefficient_post": 0.02}),
    ],
)
def test_optimizer(op: str, states: int, attrs: dict[str, Any], updates: int) -> None:
    """Two tensors of different shapes are updated by one node."""
    shapes = ([3, 4], [5])
    kinds = "xgvh"[: 2 + states]
    names = [f"{kind}{i}" for kind in kinds for i in range(2)]
    outputs = [f"new_{kind}{i}" for kind in kinds[0] + kinds[2:] for i in range(2)]
    made = model(
        [node(op, ["rate", "updates", *names], outputs, domain=TRAINING, **attrs)],
        {"rate": [], "updates": (np.int64, []), **{name: shapes[int(name[1])] for name in names}},
        " ".join(outputs),
    )
    feeds: dict[str, Any] = {"rate": np.float32(0.1), "updates": np.array(updates)}
    feeds |= {name: rng.uniform(0.1, 1, shapes[int(name[1])]).astype(np.float32) for name in names}
    check(of_domain(made, TRAINING), feeds, run_reference)


def test_optimizer_without_all_its_tensors() -> None:
    attrs = {"mode": "standard", "alpha": 0.9, "beta": 0.3, "norm_coefficient": 0.0}
    made = model([node("Momentum", ["r", "t", "x", "g"], ["y"], domain=TRAINING, **attrs)],
                 {"r": [], "t": (np.int64, []), "x": [3], "g": [3]}, "y")  # fmt: skip
    with raises(ModelFileError, "Momentum node", "2 tensors", "3 for each"):
        convc.load_onnx(of_domain(made, TRAINING))


POOL = {"ngram_counts": [0, 4], "ngram_indexes": [0, 2, 1, 3, 4, 5, 6], "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]}


@pytest.mark.parametrize(("mode", "least", "most", "skips"), [("TF", 1, 1, 0), ("IDF", 2, 2, 3), ("TFIDF", 1, 2, 1)])
@pytest.mark.parametrize("shape", [(12,), (3, 9)])
def test_tf_idf(mode: str, least: int, most: int, skips: int, shape: tuple[int, ...]) -> None:
    x = rng.integers(2, 9, shape).astype(np.int32 if len(shape) == 1 else np.int64)
    attrs: dict[str, Any] = {"min_gram_length": least, "max_gram_length": most, "max_skip_count": skips}
    attrs |= {"mode": mode, "weights": [0.5, 1, 2, 3, 4, 5, 6], **POOL}
    check(model([node("TfIdfVectorizer", ["x"], ["y"], **attrs)], {"x": x}, "y"), {"x": x})


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"ngram_indexes": [0, -2, 1, 3, 4, 5, 6]}, ModelFileError, "ngram_indexes"),
        ({"ngram_indexes": [0, 1 << 40, 1, 3, 4, 5, 6]}, ModelFileError, "ngram_indexes"),
        ({"ngram_indexes": [0, 1]}, ModelFileError, "ngram_indexes"),
        ({"ngram_counts": [0, 5]}, ModelFileError, "do not divide"),
        ({"weights": [1.0]}, ModelFileError, "1 weights"),
        ({"pool_int64s": None, "pool_strings": ["a"] * 10}, UnsupportedOpError, "strings"),
    ],
)
def test_malformed_tf_idf(change: dict[str, Any], error: type[Exception], why: str) -> None:
    attrs: dict[str, Any] = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0, "mode": "TF"} | POOL
    attrs = {name: value for name, value in (attrs | change).items() if value is not None}
    with raises(error, "TfIdfVectorizer node", why):
        convc.load_onnx(model([node("TfIdfVectorizer", ["x"], ["y"], **attrs)], {"x": (np.int64, [3])}, "y"))


@pytest.mark.parametrize("shape", [(6,), (2, 3, 6)])
def test_ops_of_ml(shape: tuple[int, ...]) -> None:
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    nodes = [
        node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml"),
        node("Binarizer", ["x"], ["z"], domain="ai.onnx.ml", threshold=0.25),
    ]
    made = of_domain(model(nodes, {"x": x}, "y z", {"i": np.array([5, 0, 0])}), "ai.onnx.ml")
    check(made, {"x": x}, run_reference)


def test_mel_weights_follow_from_constants() -> None:
    held = {
        "bins": np.array(8),
        "n": np.array(16),
        "rate": np.array(8192),
        "low": np.float32(0),
        "high": np.float32(4096),
    }
    made = model([node("MelWeightMatrix", [*held], ["m"]), node("MatMul", ["x", "m"], ["y"])], {"x": [2, 9]}, "y", held)
    check(made, {"x": rng.uniform(0, 1, (2, 9)).astype(np.float32)})
    held["bins"] = np.array(1 << 40)
    made = model([node("MelWeightMatrix", [*held], ["y"])], {"x": [2, 9]}, "y", held)
    with raises(ModelFileError, "MelWeightMatrix node", "too large"):
        convc.load_onnx(made)
