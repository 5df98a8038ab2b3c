"""Small inputs that decide sizes and axes are read when the model runs: one artifact takes any of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support import models
from support.malformed import raises
from support.oracles import run_onnxruntime, run_reference
from support.tolerances import assert_close

import convc

X = np.random.default_rng(0).uniform(-2, 2, (2, 3, 4)).astype(np.float32)
Feeds = dict[str, Any]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def one(op: str, feeds: Sequence[Feeds], opset: int = 20, outputs: str = "y", **attrs: Any) -> Any:
    """A model of one node, all of whose inputs are the model's, and feeds for it."""
    given = [{name: np.asarray(x) for name, x in some.items()} for some in feeds]
    node = helper.make_node(op, list(given[0]), outputs.split(), **attrs)
    return models.model([node], given[0], outputs, opset=opset), given


def axes(op: str, *given: Sequence[int], **attrs: Any) -> Any:
    positive = np.abs(X) + 0.1 if "Log" in op else X
    return one(op, [{"x": positive, "axes": ints(*axes)} for axes in given], **attrs)


def resized(axes: Sequence[int], ahead: Sequence[int] = ()) -> Any:
    """A picture whose height and width an input decides."""
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", axes=axes)
    feeds = [{"x": X[None], "sizes": ints(*ahead, *s)} for s in ((5, 9), (3, 4), (1, 2))]
    return models.model([node], feeds[0], "y"), feeds


CASES: dict[str, Callable[[], Any]] = {
    "sum along one axis": lambda: axes("ReduceSum", (0,), (1,), (-1,), (-3,)),
    "sum along two axes": lambda: axes("ReduceSum", (0, 2), (2, 1), (-1, 0), keepdims=0),
    "sum along all axes": lambda: axes("ReduceSum", (0, 1, 2), (2, 0, -2), keepdims=0),
    "mean": lambda: axes("ReduceMean", (0, 1), (-1, 1), keepdims=0),
    "length": lambda: axes("ReduceL2", (0, 1), (2, 0)),
    "sum of squares": lambda: axes("ReduceSumSquare", (0, 1), (2, 0)),
    "logarithm of a sum": lambda: axes("ReduceLogSum", (0, 1), (2, 0), keepdims=0),
    "logarithm of a sum of powers": lambda: axes("ReduceLogSumExp", (0, 1), (2, 0)),
    "largest": lambda: axes("ReduceMax", (1,), (2,), keepdims=0),
    "running totals": lambda: one("CumSum", [{"x": X, "axis": np.array(a)} for a in (0, 1, -1)], reverse=1),
    "without axes": lambda: one("Squeeze", [{"x": X[None, :, None], "axes": ints(*a)} for a in ((0, 2), (-5, -3))]),
    "with axes": lambda: one("Unsqueeze", [{"x": X, "axes": ints(*a)} for a in ((0, 1), (4, 0), (-1, 2))]),
    "slice": lambda: one(
        "Slice",
        [
            {"x": X, "starts": ints(*s), "ends": ints(*e), "axes": ints(*a), "steps": ints(*t)}
            for s, e, a, t in (
                ((0, 1), (1, 3), (0, 2), (1, 1)),
                ((-1, 3), (-10, 0), (1, 2), (-1, -2)),
                ((5, 0), (9, 1 << 62), (-1, 1), (1, 2)),
                ((3, -1), (-(1 << 62), 1), (2, 0), (-3, 1)),
            )
        ],
    ),
    "split": lambda: one("Split", [{"x": X, "split": ints(*s)} for s in ((1, 3), (4, 0))], outputs="y z", axis=2),
    "pad": lambda: one(
        "Pad", [{"x": X, "pads": ints(*p)} for p in ((0, 1, 2, 3, 0, 1), (0,) * 6, (1, 0, 0, 0, -1, 0))]
    ),
    "pad some axes": lambda: one(
        "Pad",
        [{"x": X, "pads": ints(1, 2, 0, 3), "c": np.float32(7), "axes": ints(*a)} for a in ((0, 2), (-1, 1))],
    ),
    "edges": lambda: one("Pad", [{"x": X, "pads": ints(0, 1, 2, 3, 0, 1)}], mode="edge"),
    "reshape": lambda: one("Reshape", [{"x": X, "shape": ints(*s)} for s in ((4, 6), (-1, 2), (0, -1), (0, 12))]),
    "expand": lambda: one("Expand", [{"x": X[:, :1], "shape": ints(*s)} for s in ((2, 5, 1), (1, 1, 4), (2, 3, 4))]),
    "resize": lambda: resized([2, 3]),
    "resize all axes": lambda: resized([0, 1, 2, 3], (1, 2)),
    "the largest few": lambda: one("TopK", [{"x": X, "k": ints(k)} for k in (1, 4, 3)], outputs="y i"),
    "one of several": lambda: one(
        "OneHot", [{"i": ints(0, 2, -1), "depth": np.array(d), "v": np.float32([0, 1])} for d in (3, 5)]
    ),
    "triangle": lambda: one("Trilu", [{"x": X, "k": np.array(k)} for k in (0, 1, -2, 9)]),
    "lower triangle": lambda: one("Trilu", [{"x": X, "k": np.array(k)} for k in (0, -1, 3)], upper=0),
    "integers": lambda: one(
        "Range", [dict(zip("abc", map(np.array, t), strict=True)) for t in ((0, 5, 2), (9, 1, -3), (4, 4, 1))]
    ),
    "floats": lambda: one(
        "Range", [dict(zip("abc", map(np.float32, t), strict=True)) for t in ((0, 1, 0.3), (2, -1, -0.5))]
    ),
    "filled": lambda: one("ConstantOfShape", [{"shape": ints(*s)} for s in ((2, 3), (0, 4), (5, 1))]),
    "tiles": lambda: one("Tile", [{"x": X, "repeats": ints(*r)} for r in ((1, 2, 3), (2, 0, 1))]),
    "affine grid": lambda: one(
        "AffineGrid",
        [{"theta": X[:, :2, :3].copy(), "size": ints(2, 3, *s)} for s in ((4, 5), (1, 7))],
        align_corners=1,
    ),
}  # fmt: skip
REFERENCE = ("affine grid",)
"""What ONNX Runtime has no kernel for."""


QUICK = (
    *("sum along one axis", "sum along two axes", "logarithm of a sum", "running totals", "slice", "pad", "reshape"),
    *("with axes", "expand", "resize", "resize all axes", "integers", "triangle", "split", "one of several"),
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in CASES])
def test_one_artifact_for_all_values(name: str, tmp_path: Path) -> None:
    network, feeds = CASES[name]()
    network.ir_version = 9
    model = convc.compile(network, threads=1)
    assert isinstance(model, convc.CompiledModel)
    model.save(tmp_path / "m.convc")
    loaded = convc.load(tmp_path / "m.convc", threads=1)
    run = run_reference if name in REFERENCE else run_onnxruntime
    for given in feeds:
        for got, want in zip(loaded.run(given).values(), run(network, given), strict=True):
            assert_close(got, want, f"{name} for {[v.tolist() for v in given.values() if v.dtype.kind == 'i']}")


def test_an_axis_that_does_not_exist(tmp_path: Path) -> None:
    network, _ = axes("ReduceSum", (0,))
    model = convc.compile(network, threads=1)
    model.save(tmp_path / "m.convc")
    for wrong in (3, -4, 1 << 40):
        with raises(convc.SizeError, "-1"):
            convc.load(tmp_path / "m.convc").run({"x": X, "axes": ints(wrong)})
        with raises(convc.ShapeError, f"axis {wrong}"):
            model.run({"x": X, "axes": ints(wrong)})
    assert_close(model.run({"x": X, "axes": ints(1)})["y"], X.sum(1, keepdims=True))


def test_hostile_values() -> None:
    network, feeds = CASES["resize"]()
    model = convc.compile(network, threads=1)
    for sizes in ((-1, 4), (1 << 40, 4), (1 << 20, 1 << 20), (0, 4), (1 << 62, 1 << 62), (-(1 << 63), 1)):
        with pytest.raises(convc.ConvcError):
            model.run({**feeds[0], "sizes": ints(*sizes)})
    assert_close(model.run(feeds[0])["y"], run_onnxruntime(network, feeds[0])[0])


def test_values_that_are_given_are_constants() -> None:
    network, _ = CASES["resize"]()
    model = convc.compile(network, values={"sizes": ints(5, 9)}, threads=1)
    assert str(model.outputs[0]).endswith("float32[1, 2, 5, 9]")
    assert "sizes" not in [p.name for p in model.inputs]


def test_a_dropout_whose_ratio_is_an_input() -> None:
    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y", "mask"], seed=3)
    inputs = {"x": X, "ratio": np.float32(0), "training": np.array(True)}
    model = convc.compile(models.model([node], inputs, "y mask"), threads=1)
    for ratio in (0.25, 0.75):
        y, mask = model(X, np.float32(ratio), np.array(True))
        assert 0 < mask.mean() < 1
        assert_close(y, np.where(mask, X / np.float32(1 - ratio), 0).astype(np.float32))
    y, mask = model(X, np.float32(0.25), np.array(False))
    np.testing.assert_array_equal(y, X)
    assert mask.all()
