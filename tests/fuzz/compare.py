"""The right results of a graph, and the tolerance for each output.

ONNX Runtime gives the results. It also runs the graph with noise added where arithmetic rounds. The noise has the size
by which right implementations of a node may differ, so that its effect on the outputs is what rounding may do to them,
however the graph amplifies it. Where ONNX Runtime supports float32 alone, it runs float16 and float64 graphs in
float32.

Some graphs hold *special values*: NaN, infinities, negative zeros and denormal numbers in their inputs, or the means
and maxima of nothing where a value has no elements. There each element is decided alone. The plain and the noisy
results must agree whether it is NaN, infinite or finite; where they do not, any result is right. ONNX Runtime's maximum
of values among which one is NaN depends on where NaN stands, and ``docs/coverage.md`` states numpy's order. Where a
result differs from ONNX Runtime's, the graph is unclear if each differing element is as in onnx's reference in float64.
Winograd's algorithm spreads NaN and infinities over a tile, since it multiplies sums of neighbours. A graph with
special values that contains a convolution to which it may apply is therefore compiled in the ``strict`` precision
alone, in which no convolution uses it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from support.oracles import Feeds, run_onnxruntime, run_reference

from convc.backends.cpu.cost import winograd_candidates
from convc.ir.builder import Builder
from convc.ir.dtypes import FLOATS, numpy_dtype
from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.binary import Add, Mul
from convc.ir.ops.cast import Cast
from convc.ir.ops.conv import Conv
from convc.ir.ops.cum_sum import Cumulative
from convc.ir.ops.loop import Loop
from convc.onnx.export import to_onnx

from .draw import WILD
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
LARGEST = 6e4
"""A right value of larger magnitude decides nothing, since float16 may not represent it."""
SPECIAL = (math.nan, math.inf, -math.inf, -0.0, 2.0**-20, -(2.0**-24), 1e-40, -1e-40)
"""The special values of inputs. The last four are denormal in float16 or in float32."""
FINITE = 0
"""The class of a finite number."""
FLOOR = 16
"""An error of this many roundings of the largest element is always allowed."""


ENDS = frozenset(["Einsum", "Conv", "ConvTranspose"])
"""The operators at which ONNX Runtime may end the process when a tensor has no elements."""
MISTAKEN = frozenset(
    [
        "AveragePool",
        "ConvTranspose",
        "DeformConv",
        "GlobalMaxPool",
        "GridSample",
        "GRU",
        "LpPool",
        "LRN",
        "LSTM",
        "MaxPool",
        "Resize",
        "RNN",
    ]
)
"""The operators of which onnx's reference computes some form wrongly."""


@dataclass(frozen=True)
class Truth:
    """The right value of an output, and the largest allowed error, which is 0 where every bit is determined.

    Where ``decided`` is false, any element is right; without it, all elements are decided.
    """

    name: str
    value: np.ndarray
    error: float
    decided: np.ndarray | None = None

    def wrong(self, got: np.ndarray) -> np.ndarray:
        """Which elements of a result of the same shape differ by more than the error, or are of another class."""
        with np.errstate(invalid="ignore", over="ignore"):
            if got.dtype.kind != "f":
                differs = got != self.value
            else:
                off = np.abs(got.astype(np.float64) - self.value)
                same = (classes(got) != FINITE) & (classes(got) == classes(self.value))
                differs = ~((off <= self.error) | same)
        return differs if self.decided is None else differs & self.decided


class Unclear(Exception):
    """The oracle does not decide, since it refuses the graph or its result is not finite."""


def feeds_for(graph: Graph) -> dict[str, np.ndarray]:
    """Inputs near 1, the same on every run. Those of float64 have values that float32 can represent.

    Up to an eighth of the elements of an input that is named as wild are special values.
    """
    feeds = {}
    for v in graph.inputs:
        rng = np.random.default_rng(zlib.crc32(f"{v.name}{v.type}".encode()))
        if v.type.is_float:
            values = np.clip(rng.standard_normal(v.type.sizes), -3, 3).astype(np.float32)
            if v.name.startswith(WILD):
                some = rng.permutation(values.size)[: rng.integers(1, values.size // 8 + 2)]
                values.reshape(-1)[some] = rng.choice(rng.permutation(SPECIAL)[: rng.integers(1, 4)], some.size)
        else:
            values = rng.integers(0, 2 if v.type.dtype == "bool" else 5, v.type.sizes)
        feeds[v.name] = np.asarray(values, v.type.numpy_dtype)
    return feeds


def is_wild(graph: Graph) -> bool:
    """Whether an input of the graph holds special values."""
    return any(v.name.startswith(WILD) and v.type.is_float for v in graph.inputs)


def has_special_values(graph: Graph) -> bool:
    return is_wild(graph) or has_empties(graph)


def spreads(graph: Graph) -> bool:
    """Whether the graph holds special values that Winograd's algorithm may spread."""
    return has_special_values(graph) and any(winograd_candidates(n) for n in all_nodes(graph))


def all_nodes(graph: Graph) -> list[Node]:
    """The nodes of the graph and of the bodies of its loops."""
    return [*graph.nodes, *(n for node in graph.nodes for body in node.op.bodies() for n in all_nodes(body))]


def classes(x: np.ndarray) -> np.ndarray:
    """The class of each float: 0 for finite, 1 for NaN, 2 for infinity and 3 for minus infinity."""
    found: np.ndarray = np.select([np.isnan(x), np.isposinf(x), np.isneginf(x)], [1, 2, 3], FINITE)
    return found


def truth(graph: Graph, feeds: Feeds) -> list[Truth]:
    """The right value of every output, by ONNX Runtime. Raises ``Unclear``."""
    wide = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in feeds.items()}
    models = [to_onnx(held_in("f32", graph, noise)) for noise in (None, 1, 2)]
    plain, *noisy = _results(models, wide, has_empties(graph))
    found, special = [], has_special_values(graph)
    for i, (v, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
        y = plain[i]
        if y.dtype.kind != "f":
            same = np.all([r[i] == y for r in noisy], axis=0) if special else None
            found.append(Truth(name, y.astype(v.type.numpy_dtype), 0.0, same))
            continue
        finite = np.all([np.isfinite(r[i]) for r in (plain, *noisy)], axis=0)
        in_range = np.isinf(y) | ~(np.abs(y) > LARGEST)
        if not special and not (finite & in_range).all():
            raise Unclear(f"'{name}' is not finite")
        moved = max(float(np.abs(r[i][finite].astype(np.float64) - y[finite]).max(initial=0)) for r in noisy)
        least = FLOOR * EPSILON[v.type.dtype] * float(np.abs(y[finite & in_range]).max(initial=0))
        decided = in_range & np.all([classes(r[i]) == classes(y) for r in noisy], axis=0) if special else None
        found.append(Truth(name, y, SAFETY * moved + least if moved or loses_digits(graph) else 0.0, decided))
    if special and not any(t.decided is None or t.decided.any() or not t.decided.size for t in found):
        raise Unclear("no element is decided")
    return found


def _results(models: Sequence[onnx.ModelProto], feeds: Feeds, empties: bool) -> list[list[np.ndarray]]:
    """The results of each model by ONNX Runtime. Raises ``Unclear``.

    With ``empties``, onnx's reference decides where ONNX Runtime refuses a tensor without elements, or would end the
    process (``ENDS``), except about operators that the reference computes wrongly (``MISTAKEN``).
    """
    ops = {n.op_type for n in models[0].graph.node}
    refusal = "ONNX Runtime: it divides by a size of 0"
    if not (empties and ops & ENDS):
        try:
            return [run_onnxruntime(m, feeds, optimized=False) for m in models]
        except Exception as e:  # it raises errors of many kinds
            refusal = f"ONNX Runtime: {str(e)[:300]}"
    if not empties or ops & MISTAKEN:
        raise Unclear(refusal)
    try:
        results = [run_reference(m, feeds) for m in models]
    except Exception as e:  # as does the reference
        raise Unclear(f"{refusal}; onnx.reference: {str(e)[:300]}") from e
    if "Conv" in ops and not all(np.isfinite(y).all() for some in results for y in some if y.dtype.kind == "f"):
        raise Unclear("onnx.reference multiplies the padding of a Conv too, and makes NaN of NaN times nothing")
    return results


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
    if has_special_values(graph):
        return all(
            y.shape == g.shape == t.value.shape and not (t.wrong(g) & replace(t, value=y).wrong(g)).any()
            for t, y, g in zip(truths, right, got, strict=True)
        )
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
    terms = node.flops / max(out.numel, 1)
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
            bad = t.wrong(y)
            if bad.any():
                with np.errstate(invalid="ignore"):
                    off = np.abs(y.astype(np.float64) - t.value)[bad]
                worst = float(off.max()) if np.isfinite(off).all() else math.inf
                at = int(bad.sum())
                wrong.append(f"{what}: '{t.name}' is off by {worst:.3g} at {at} of {y.size}, {t.error:.3g} allowed")
        elif t.wrong(y).any():
            wrong.append(f"{what}: '{t.name}' differs at {int(t.wrong(y).sum())} of {y.size}")
    return wrong
