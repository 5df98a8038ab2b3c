"""The right results of a graph, and the tolerance for each output.

ONNX Runtime gives the results. It also runs the graph with noise added where arithmetic rounds. The noise has the size
by which right implementations of a node may differ, so that its effect on the outputs is what rounding may do to them,
however the graph amplifies it. Where ONNX Runtime supports float32 alone, it runs float16 and float64 graphs in
float32.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from support.oracles import Feeds, run_onnxruntime, run_reference

from convc.ir.builder import Builder
from convc.ir.dtypes import FLOATS, numpy_dtype
from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.binary import Add, Mul
from convc.ir.ops.cast import Cast
from convc.ir.ops.conv import Conv
from convc.ir.ops.cum_sum import Cumulative
from convc.ir.ops.loop import Loop
from convc.onnx.export import to_onnx

from .shrink import has_empties

EPSILON = {"f16": 2.0**-11, "f32": 2.0**-24, "f64": 2.0**-24}
"""The relative error of one rounding. It holds for float64 graphs too, which ONNX Runtime runs in float32."""
WINOGRAD = 20
"""How many times larger Winograd's rounding errors may be than those of the direct form of convolution.

See ``tests/support/tolerances.py``.
"""
SAFETY = 8
"""The error may be this many times the effect of noise.

Noise is drawn only twice, and rarely hits the worst case.
"""
FLOOR = 16
"""An error of this many roundings of the largest element is always allowed."""


@dataclass(frozen=True)
class Truth:
    """The right value of an output, and the largest allowed error, which is 0 where every bit is determined."""

    name: str
    value: np.ndarray
    error: float


class Unclear(Exception):
    """The oracle does not decide, since it refuses the graph or its result is not finite."""


def feeds_for(graph: Graph) -> dict[str, np.ndarray]:
    """Inputs near 1, the same on every run. Those of float64 have values that float32 can represent."""
    feeds = {}
    for v in graph.inputs:
        rng = np.random.default_rng(zlib.crc32(f"{v.name}{v.type}".encode()))
        if v.type.is_float:
            values = np.clip(rng.standard_normal(v.type.sizes), -3, 3).astype(np.float32)
        else:
            values = rng.integers(0, 2 if v.type.dtype == "bool" else 5, v.type.sizes)
        feeds[v.name] = np.asarray(values, v.type.numpy_dtype)
    return feeds


def truth(graph: Graph, feeds: Feeds) -> list[Truth]:
    """The right value of every output, by ONNX Runtime. Raises ``Unclear``."""
    wide = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in feeds.items()}
    models = [to_onnx(held_in("f32", graph, noise)) for noise in (None, 1, 2)]
    plain, *noisy = _results(models, wide, has_empties(graph))
    found = []
    for i, (v, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
        y = plain[i]
        if y.dtype.kind != "f":
            found.append(Truth(name, y.astype(v.type.numpy_dtype), 0.0))
            continue
        if not all(np.isfinite(r[i]).all() for r in (plain, *noisy)) or np.abs(y).max(initial=0) > 6e4:
            raise Unclear(f"'{name}' is not finite")
        moved = max(float(np.abs(r[i].astype(np.float64) - y).max(initial=0)) for r in noisy)
        least = FLOOR * EPSILON[v.type.dtype] * float(np.abs(y).max(initial=0))
        found.append(Truth(name, y, SAFETY * moved + least if moved or loses_digits(graph) else 0.0))
    return found


def _results(models: Sequence[onnx.ModelProto], feeds: Feeds, empties: bool) -> list[list[np.ndarray]]:
    """The results of each model by ONNX Runtime. Raises ``Unclear``.

    It refuses some ops of tensors without elements, such as Conv. With ``empties``, onnx's reference decides then.
    """
    try:
        return [run_onnxruntime(m, feeds, optimized=False) for m in models]
    except Exception as e:  # it raises errors of many kinds
        refusal = f"ONNX Runtime: {str(e)[:300]}"
    if not empties:
        raise Unclear(refusal)
    try:
        return [run_reference(m, feeds) for m in models]
    except Exception as e:  # as does the reference
        raise Unclear(f"{refusal}; onnx.reference: {str(e)[:300]}") from e


def loses_digits(graph: Graph) -> bool:
    """Whether float32 cannot represent a constant.

    An op that only moves its elements then differs from the oracle by a rounding too.
    """
    wide = [c.array for c in graph.all_constants() if c.type.dtype == "f64"]
    return any(not np.array_equal(x, x.astype(np.float32)) for x in wide)


def exonerates(graph: Graph, feeds: Feeds, truths: Sequence[Truth], got: Sequence[np.ndarray]) -> bool:
    """Whether onnx's reference implementation in float64 agrees with results that differ from ONNX Runtime's.

    ONNX Runtime's own may be wrong, as when it computes a variance as a difference of squares.
    """
    wide = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in feeds.items()}
    try:
        right = run_reference(to_onnx(held_in("f64", graph)), wide)
    except Exception:  # it raises errors of many kinds
        return False
    # The worst node may amplify the rounding of its inputs to float32, so ONNX Runtime is allowed ten times the error.
    closer = [
        Truth(t.name, y, max(t.error, float(np.abs(y - t.value).max(initial=0)) / 10))
        if t.value.dtype.kind == "f" and t.value.shape == y.shape
        else t
        for t, y in zip(truths, right, strict=True)
    ]
    return not differences(closer, got, "")


def held_in(dtype: str, graph: Graph, noise: int | None = None) -> Graph:
    """The graph with all floats in one dtype.

    With ``noise``, a seed, noise is added to the result of each node that rounds.
    """
    rng = np.random.default_rng(noise)
    b = Builder(graph.name)
    env: dict[str, Value] = {}
    for v in graph.inputs:
        env[v.name] = b.input(v.name, v.type.with_dtype(_held(v.type.dtype, dtype)))
    for name, c in graph.constants.items():
        array = c.array.astype(numpy_dtype(dtype)) if c.type.is_float else c.array
        env[name] = b.constant(array, name)
    for node in graph.nodes:
        op = Cast(_held(node.op.to, dtype)) if isinstance(node.op, Cast) else node.op
        if isinstance(op, Loop):  # the noise is in its body
            op = replace(op, body=held_in(dtype, op.body, noise))
        made = b.emit(op, *(env[v.name] for v in node.inputs), names=[v.name for v in node.outputs])
        size = _noise(node) if noise is not None else 0.0
        for v, y in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True):
            env[v.name] = y
            if size and v.type.is_float:
                scaled = b.emit(Mul(), y, b.constant(1 + _jitter(rng, size, y.type.sizes)))
                env[v.name] = b.emit(Add(), scaled, b.constant(_jitter(rng, size, y.type.sizes)))
    return b.finish([env[v.name] for v in graph.outputs], graph.output_names)


def _jitter(rng: np.random.Generator, size: float, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of either sign, none near 0, so that noise is never lost in rounding."""
    return (rng.uniform(size / 2, size, shape) * rng.choice((-1, 1), shape)).astype(np.float32)


def _held(dtype: str, floats: str) -> str:
    return floats if dtype in FLOATS else dtype


def _noise(node: Node) -> float:
    """The relative and the absolute amount by which right results of a node may differ; 0 where it does not round."""
    out = node.output.type
    if (
        not out.is_float
        or not node.op.rounds
        or isinstance(node.op, Loop)
        or (isinstance(node.op, Cast) and not rounds(node))
    ):
        return 0.0
    terms = node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs]) / max(out.numel, 1)
    if node.op.normalises_rows or isinstance(node.op, Cumulative):  # an element may depend on all others
        terms = node.inputs[0].type.numel
    widest = WINOGRAD if isinstance(node.op, Conv) and out.dtype == "f32" else 1
    accumulated = EPSILON["f32"] * math.sqrt(terms + 1) * widest
    return 2 * (EPSILON[out.dtype] + accumulated)


def rounds(cast: Node) -> bool:
    """Whether a conversion to a float loses digits."""
    order = {"bool": 0, "i8": 1, "u8": 1, "f16": 1, "i32": 2, "f32": 2, "i64": 2, "f64": 3}
    return order[cast.inputs[0].type.dtype] > order[cast.output.type.dtype]


def differences(truths: Sequence[Truth], got: Sequence[np.ndarray], what: str) -> list[str]:
    """The differences between results and the truth, as text."""
    wrong = []
    for t, y in zip(truths, got, strict=True):
        if y.shape != t.value.shape:
            wrong.append(f"{what}: '{t.name}' has shape {list(y.shape)}, not {list(t.value.shape)}")
        elif y.dtype.kind == "f":
            off = np.abs(y.astype(np.float64) - t.value)
            worst = float(off.max(initial=0)) if np.isfinite(y).all() else math.inf
            if worst > t.error:
                bad = int((~(off <= t.error)).sum())
                wrong.append(f"{what}: '{t.name}' is off by {worst:.3g} at {bad} of {y.size}, {t.error:.3g} allowed")
        elif not np.array_equal(y, t.value):
            wrong.append(f"{what}: '{t.name}' differs at {int((y != t.value).sum())} of {y.size}")
    return wrong
