"""The schedules for GPUs other than matrix products, in emulation: every op, and each rule over odd shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from emulator import run
from emulator.check import check
from support.cases import CASES
from support.functions import SPECIAL, erf
from support.oracles import case_graph, expected
from support.tolerances import assert_close

from convc.backends.cuda.device_math import DEFINED, LIBRARY
from convc.backends.cuda.gpu import GPUS, Gpu
from convc.backends.cuda.lower import lower
from convc.backends.cuda.nvrtc import compile_source
from convc.backends.cuda.rules import RULES
from convc.backends.cuda.schedules.depthwise import depthwise
from convc.backends.cuda.schedules.fallback import fallback
from convc.backends.cuda.schedules.pool import pool
from convc.backends.cuda.schedules.reduce import reduce
from convc.backends.cuda.schedules.rows import rows
from convc.backends.cuda.schedules.transpose import transpose
from convc.backends.group import Group
from convc.backends.intrinsics import INTRINSICS
from convc.backends.kernels import ask
from convc.ir.builder import Builder
from convc.ir.errors import UnsupportedOpError
from convc.ir.layout import Layout
from convc.ir.op import REGISTRY, Case, Op, f16, f32
from convc.ir.passes.fuse import fuse
from convc.ir.types import TensorType, type_of

A100 = GPUS["sm_80"]
TINY = replace(A100, sms=1)
"""A GPU with one multiprocessor.

Small tensors are scheduled on it as large ones are on other GPUs, with vectors and many pixels to a thread.
"""


# -- every op ----------------------------------------------------------------------------------------------------------

LOOSER: dict[str, tuple[float, float]] = {
    # a tie in rounding to an integer, which a fused multiply-add, rounding once, may miss
    "resize-13": (0.0, 1.0),
}
"""The tolerances of cases whose results depend more than others on the order of rounding."""


def sampled() -> Iterator[Any]:
    """Every case; those after the first of an op are marked slow."""
    seen = set()
    for p in CASES:
        op = p.values[0].op.name  # type: ignore[union-attr]
        yield pytest.param(*p.values, p.id, id=p.id, marks=[pytest.mark.slow] if op in seen else [])
        seen.add(op)


@pytest.mark.parametrize(("case", "name"), list(sampled()))
def test_every_op(case: Case, name: str) -> None:
    """Every op gives the oracles' results in each case, or the rules refuse it by name."""
    graph, feeds = case_graph(case)
    group = Group(graph) if case.op.counted is None else Group.of(graph.nodes[0])
    if not case.op.on_gpu:
        with pytest.raises(UnsupportedOpError, match=f"op {case.op.name} runs on CPUs alone"):
            ask(RULES, group, A100)
        return
    func, rule = ask(RULES, group, A100)
    outputs = [np.full(v.type.sizes, 1, v.type.numpy_dtype) for v in graph.outputs]
    code = lower(func, A100, "k")
    if code.launches:
        run(code, [*feeds.values(), *outputs])
    for oracle, want in expected(case, graph, feeds):
        for got, w in zip(outputs, want, strict=True):
            assert_close(got, w, f"{case.op} by {rule} against {oracle}", LOOSER.get(name))


def test_no_work() -> None:
    """A kernel of empty tensors launches nothing."""
    group = group_of([f32[0, 3]], REGISTRY["relu"]())
    assert lower(ask(RULES, group, A100)[0], A100, "k").launches == ()


# -- each rule ---------------------------------------------------------------------------------------------------------


def op(name: str, *args: Any, **attrs: Any) -> Op:
    return REGISTRY[name](*args, **attrs)


def last(t: TensorType) -> TensorType:
    """A tensor type held channels last."""
    return t.with_layout(Layout({3: "NWC", 4: "NHWC", 5: "NDHWC"}[t.rank]))


def held(t: TensorType, layout: str) -> TensorType:
    return t.with_layout(Layout(layout))


def group_of(types: Sequence[TensorType], first: Op, *rest: tuple[Op, int] | Op) -> Group:
    """A group of an op on these operands and of ops that follow, each with the index of another operand."""
    b = Builder("rules")
    inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    others = {n for r in rest if isinstance(r, tuple) for n in r[1:]}
    made = b.emit(first, *(v for i, v in enumerate(inputs) if i not in others))
    for each in rest:
        node, *read = each if isinstance(each, tuple) else (each,)
        made = b.emit(node, made, *(inputs[i] for i in read))
    graph = fuse(b.finish(made if isinstance(made, tuple) else (made,)))
    assert len(graph.nodes) == 1
    return Group.of(graph.nodes[0])


def depthwise_of(x: TensorType, kernel: Sequence[int], times: int = 1, **attrs: Any) -> Group:
    spatial = "DHW"[5 - x.rank :]
    channels = x.sizes[1]
    weight = held(TensorType(x.dtype, (channels * times, 1, *kernel)), f"{spatial}IO")
    bias, factor = (
        TensorType(x.dtype, (channels * times,)),
        TensorType(x.dtype, (channels * times,) + (1,) * len(kernel)),
    )
    conv = op("conv", group=channels, **attrs)
    return group_of([last(x), weight, bias, factor], conv, (op("mul"), 3), op("silu"))


def pooled(x: TensorType, first: Op) -> Group:
    return group_of([last(x)], first, op("relu"))


def case(rule: Any, make: Any, gpu: Gpu = A100, low: float = -2.0) -> Any:
    """A parametrised case: the rule, and how to build the group that it must take, in float32 and in float16."""
    return rule, make, gpu, low


ones = ((1, 1), (1, 1))
WINDOWS = [
    case(pool, lambda t: pooled(t[2, 8, 13, 15], op("max_pool", (3, 3), (2, 2), ones))),
    case(pool, lambda t: pooled(t[2, 40, 29, 31], op("max_pool", (3, 3), (2, 2), ones)), TINY),
    case(pool, lambda t: pooled(t[1, 36, 28, 27], op("average_pool", (3, 3), (1, 1), ones)), TINY),
    case(
        pool, lambda t: pooled(t[1, 12, 27, 29], op("max_pool", (3, 2), (2, 3), ((1, 0), (0, 1)), ceil_mode=True)), TINY
    ),
    case(
        pool,
        lambda t: pooled(
            t[1, 20, 19, 28],
            op("average_pool", (3, 2), (2, 3), ((1, 1), (1, 0)), (2, 1), ceil_mode=True, count_include_pad=True),
        ),
        TINY,
    ),
    case(pool, lambda t: pooled(t[2, 24, 300], op("max_pool", (3,), (2,))), TINY),
    case(pool, lambda t: pooled(t[1, 20, 8, 9, 10], op("average_pool", (2, 2, 3), (1, 2, 2), (*ones, (1, 0)))), TINY),
    case(pool, lambda t: pooled(t[1, 6, 9, 10], op("lp_pool", (2, 2), (2, 2)))),
    case(depthwise, lambda t: depthwise_of(t[1, 13, 14, 14], (3, 3), pads=ones)),
    case(depthwise, lambda t: depthwise_of(t[1, 32, 28, 28], (3, 3), pads=ones), TINY),
    case(depthwise, lambda t: depthwise_of(t[2, 24, 27, 29], (3, 3), pads=ones, strides=(2, 2)), TINY),
    case(depthwise, lambda t: depthwise_of(t[1, 30, 13, 17], (5, 5), pads=((2, 2), (2, 1))), TINY),
    case(depthwise, lambda t: depthwise_of(t[1, 36, 14, 28], (7, 7), pads=((3, 3), (3, 3))), TINY),
    case(depthwise, lambda t: depthwise_of(t[1, 12, 26, 33], (3, 3), pads=ones, dilations=(2, 2)), TINY),
    case(depthwise, lambda t: depthwise_of(t[1, 12, 26, 33], (3, 3), 2, pads=((0, 1), (1, 0))), TINY),
    case(depthwise, lambda t: depthwise_of(t[1, 12, 260], (5,), strides=(2,)), TINY),
    case(depthwise, lambda t: depthwise_of(t[1, 12, 6, 7, 8], (3, 2, 3)), TINY),
]
NORMS = [
    case(rows, lambda t: group_of([t[3, 777]], op("softmax", 1))),
    case(rows, lambda t: group_of([t[33, 12]], op("log_softmax", 1), op("relu")), TINY),
    case(rows, lambda t: group_of([t[2, 15, 40]], op("softmax", 1))),
    case(rows, lambda t: group_of([t[1, 1000]], op("softmax", 1))),
    case(rows, lambda t: group_of([t[2, 1000]], op("hardmax", 1))),
    case(rows, lambda t: group_of([t[9, 5, 96], t[96], t[96]], op("layer_norm")), TINY),
    case(rows, lambda t: group_of([t[9, 5, 100], t[100]], op("rms_norm"))),
    case(fallback, lambda t: group_of([t[3, 1]], op("softmax"))),
    case(fallback, lambda t: group_of([t[2, 3, 1], t[3], t[3]], op("instance_norm"))),
    case(rows, lambda t: group_of([t[3, 20, 21], t[20, 21]], op("layer_norm", 1))),
    case(rows, lambda t: group_of([last(t[2, 13, 9, 10]), t[13], t[13]], op("instance_norm"), op("relu"))),
    case(rows, lambda t: group_of([t[2, 13, 9, 10], t[13], t[13]], op("instance_norm")), TINY),
    case(rows, lambda t: group_of([last(t[2, 12, 9, 10]), t[12], t[12]], op("group_norm", 3), op("relu"))),
    case(rows, lambda t: group_of([t[2, 12, 9, 10], t[12], t[12]], op("group_norm", 3)), TINY),
    case(rows, lambda t: group_of([last(t[2, 50, 3, 10])], op("lp_norm", 1)), TINY),
]
REDUCTIONS = [
    case(reduce, lambda t: group_of([last(t[1, 96, 56, 55])], op("global_average_pool"), op("relu"))),
    case(reduce, lambda t: group_of([last(t[2, 41, 7, 7])], op("global_average_pool"), op("silu"))),
    case(reduce, lambda t: group_of([last(t[2, 33, 9, 9])], op("global_max_pool"))),
    case(reduce, lambda t: group_of([t[2, 33, 9, 9]], op("global_average_pool"))),
    case(reduce, lambda t: group_of([t[1, 1000]], op("reduce_max", (1,)))),
    case(reduce, lambda t: group_of([t[3, 777]], op("arg_max", 1))),
    case(reduce, lambda t: group_of([t[7, 50, 60]], op("reduce_mean", (0, 2), keepdims=False))),
    case(reduce, lambda t: group_of([t[7, 50, 60]], op("reduce_log_sum_exp", (0, 1, 2), keepdims=False))),
    case(reduce, lambda t: group_of([t[7, 40, 6]], op("reduce_prod", (1,))), low=0.3),
    case(reduce, lambda t: group_of([t[500, 33]], op("reduce_l2", (0,), keepdims=False))),
    case(reduce, lambda t: group_of([last(t[1, 12, 100, 100]), t[12], t[12]], op("instance_norm"))),
]
OTHERS = [
    case(transpose, lambda t: group_of([t[3, 40, 70]], op("transpose", (0, 2, 1)))),
    case(transpose, lambda t: group_of([t[40, 5, 33]], op("transpose", (2, 1, 0)), op("relu"))),
    case(transpose, lambda t: group_of([t[2, 64, 20, 30]], op("relayout", "NHWC"), op("relu"))),
    case(transpose, lambda t: group_of([last(t[2, 64, 20, 30])], op("relayout", ""))),
    case(fallback, lambda t: group_of([t[96, 40, 3, 3]], op("relayout", "HWIO")), TINY),
    case(fallback, lambda t: group_of([last(t[2, 40, 12, 13]), t[40, 1, 1]], op("mul")), TINY),
    case(fallback, lambda t: group_of([last(t[2, 41, 12, 13]), t[41, 1, 1]], op("mul")), TINY),
    case(
        fallback,
        lambda t: group_of(
            [last(t[1, 64, 14, 14]), last(t[1, 32, 14, 14]), last(t[1, 10, 14, 14]), t[106, 1, 1]],
            op("concat", 1),
            (op("mul"), 3),
            op("relu"),
        ),
        TINY,
    ),
    case(
        fallback,
        lambda t: group_of([last(t[1, 24, 7, 9])], op("resize", (0, 1, 2, 3), sizes=(1, 24, 14, 18), mode="linear")),
        TINY,
    ),
]
RULE_CASES = [
    pytest.param(*c, dtype, id=f"{c[0].__name__}-{i}-{name}")
    for i, c in enumerate([*WINDOWS, *NORMS, *REDUCTIONS, *OTHERS])
    for name, dtype in (("f32", f32), ("f16", f16))
]


@pytest.mark.parametrize(("rule", "make", "gpu", "low", "dtype"), RULE_CASES)
def test_rule(rule: Any, make: Any, gpu: Gpu, low: float, dtype: Any) -> None:
    """The rule is the first to take the group, its result is right, and ptxas reports no spilled registers."""
    group = make(dtype)
    assert ask(RULES, group, gpu)[1] == rule.__name__
    code = check(group, rule, gpu, low=low)
    for kernel, figures in compile_source(code.source, gpu.name, "k").figures.items():
        assert figures.spills == 0, f"{kernel} spills {figures.spills} bytes"


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "mish", "relu"])
def test_intrinsics(name: str) -> None:
    """GPUs compute convc's own formulas as float64 does, including NaN, infinities and denormals."""
    x = np.concatenate(
        [np.linspace(-110, 110, 4001).astype(np.float32), np.linspace(-6, 6, 4001).astype(np.float32), SPECIAL]
    )
    group = group_of([type_of(x)], op(name))
    y = np.zeros_like(x)
    code = lower(ask(RULES, group, A100)[0], A100, "k")
    assert "convc_" in code.source
    run(code, [x, y])
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        sigmoid = 1 / (1 + np.exp(-wide))
        want = {
            "sigmoid": sigmoid,
            "silu": wide * sigmoid,
            "gelu": wide * 0.5 * (1 + erf(wide * np.sqrt(0.5))),
            "mish": wide * np.tanh(np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))),
            "relu": np.maximum(wide, 0),
        }[name]
        np.testing.assert_allclose(y, want.astype(np.float32), rtol=2e-6, atol=3e-7)


def test_every_intrinsic_is_there() -> None:
    """CUDA's library or convc's own source defines each intrinsic."""
    assert set(INTRINSICS) == set(LIBRARY) | set(DEFINED)
    assert not set(LIBRARY) & set(DEFINED)
