"""Compiling a model, and comparing it with an oracle within the table of tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

import convc

from .oracles import Feeds, run_onnxruntime
from .tolerances import assert_close

Oracle = Callable[[onnx.ModelProto, Feeds], list[np.ndarray]]


def check(
    model: onnx.ModelProto,
    feeds: Feeds,
    oracle: Oracle = run_onnxruntime,
    what: str = "",
    tolerance: tuple[float, float] | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """Compile a model, by default for one thread, and compare each output with an oracle's. Returns the outputs."""
    got = list(convc.compile(model, **{"threads": 1, **options}).run(feeds).values())
    for g, w in zip(got, oracle(model, feeds), strict=True):
        assert_close(np.asarray(g), np.asarray(w), what, tolerance)
    return got
