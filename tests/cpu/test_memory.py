"""The memory planner, and the memory that a loaded model takes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from support import models
from support.oracles import run_onnxruntime
from support.tolerances import MODEL_ATOL, MODEL_RTOL, assert_close

import convc
from convc.backends.in_place import replaceable
from convc.cli.footprint import footprint
from convc.ir.builder import Builder
from convc.ir.graph import Node, Value
from convc.ir.op import f32
from convc.ir.ops.binary import Add
from convc.ir.ops.conv import Conv
from convc.ir.ops.fused import Fused
from convc.ir.ops.unary import Relu
from convc.ir.text import parse_graph
from convc.runtime.cpu.memory import HUGE_PAGE, Arena, address_of
from convc.runtime.cpu.model import CpuModel, calls_of
from convc.runtime.offsets import ALIGNMENT, Lifetime, assign_offsets

LIFETIMES = st.lists(
    st.builds(
        lambda nbytes, first, length: Lifetime(nbytes, first, first + length),
        st.integers(0, 5000),
        st.integers(0, 20),
        st.integers(0, 6),
    ),
    max_size=40,
)


def test_memory_that_is_not_there() -> None:
    for size in (1 << 60, 1 << 70):
        with pytest.raises(convc.ConvcError, match=f"needs {size} bytes of memory"):
            Arena(size)


@given(LIFETIMES)
def test_live_tensors_never_overlap(lifetimes: list[Lifetime]) -> None:
    offsets, size = assign_offsets(lifetimes)
    spans = [(o, o + t.nbytes, t) for o, t in zip(offsets, lifetimes, strict=True)]
    assert all(o % ALIGNMENT == 0 and end <= size for o, end, _ in spans)
    for i, (a, a_end, x) in enumerate(spans):
        for b, b_end, y in spans[:i]:
            assert a_end <= b or b_end <= a or not x.overlaps(y)


@given(LIFETIMES)
def test_no_more_than_all_together_and_no_less_than_what_is_live_at_once(lifetimes: list[Lifetime]) -> None:
    _, size = assign_offsets(lifetimes)
    assert size <= sum(t.nbytes + ALIGNMENT for t in lifetimes)
    for step in range(27):
        assert size >= sum(t.nbytes for t in lifetimes if t.first <= step <= t.last)


def test_a_chain_takes_two_tensors() -> None:
    lifetimes = [Lifetime(1024, i, i + 1) for i in range(10)]
    assert assign_offsets(lifetimes)[1] == 2048


def test_the_tightest_gap_is_taken() -> None:
    big, left, right = Lifetime(4096, 0, 1), Lifetime(2048, 0, 3), Lifetime(1024, 2, 3)
    small = Lifetime(512, 2, 2)
    offsets, size = assign_offsets([big, left, right, small])
    assert size == 4096 + 2048
    assert offsets[2] == 0
    assert offsets[3] == 1024


def test_of_equal_tensors_the_first_given_lies_lowest() -> None:
    """Tensors of equal size are placed in the order of the list, and not in an order that a set or a hash decides."""
    lifetimes = [Lifetime(64, 0, 1), Lifetime(128, 0, 2), Lifetime(64, 1, 3), Lifetime(128, 2, 3), Lifetime(64, 0, 3)]
    assert assign_offsets(lifetimes) == ([128, 0, 256, 128, 320], 384)


@given(LIFETIMES, st.randoms(use_true_random=False))
def test_what_is_planned_follows_from_sizes_and_times(lifetimes: list[Lifetime], random: Random) -> None:
    """The places of tensors of different sizes do not depend on the order in which they are given."""
    lifetimes = [Lifetime(64 * t.nbytes + i, t.first, t.last) for i, t in enumerate(lifetimes)]
    order = list(range(len(lifetimes)))
    random.shuffle(order)
    (given_offsets, size), (offsets, shuffled_size) = (
        assign_offsets(lifetimes),
        assign_offsets([lifetimes[i] for i in order]),
    )
    assert [given_offsets[i] for i in order] == offsets
    assert size == shuffled_size


@pytest.mark.parametrize("nbytes", [0, 1, 4096, HUGE_PAGE, HUGE_PAGE + 5])
def test_an_arena_is_aligned_and_zero_and_forgets_what_is_released(nbytes: int) -> None:
    arena = Arena(nbytes)
    assert arena.address % HUGE_PAGE == 0
    memory = view(arena, nbytes)
    assert not memory.any()
    memory[:] = 1
    arena.release(nbytes // 2)
    assert memory[: nbytes // 2].all()
    assert not memory[nbytes // 2 + 4096 :].any()


def view(arena: Arena, nbytes: int) -> np.ndarray:
    import ctypes

    return np.frombuffer((ctypes.c_char * nbytes).from_address(arena.address), np.uint8)


def test_addresses() -> None:
    x = np.zeros((3, 4), np.float32)
    assert address_of(x) == x.ctypes.data
    x.flags.writeable = False
    assert address_of(x) == x.ctypes.data
    assert address_of(x[:, :0]) == x.ctypes.data


CLOSURE = 2 * ALIGNMENT
"""Bytes of scratch memory that a kernel hands to the thread pool: where its tensors lie, and its extents."""


def deep(layers: int) -> CpuModel:
    b = Builder("deep")
    x = b.input("x", f32[1, 64, 32, 32])
    w = b.constant(np.full((64, 64, 1, 1), 1 / 64, np.float32), "w")
    for _ in range(layers):
        x = b.emit(Relu(), b.emit(Conv(), x, w))
    return on_cpu(convc.compile(b.finish([x], ["y"]), threads=1))


def on_cpu(model: convc.Model) -> CpuModel:
    assert isinstance(model, CpuModel)
    return model


def test_a_deeper_network_takes_no_more_workspace() -> None:
    few, many = deep(4), deep(12)
    assert workspace(few) == workspace(many) <= 2 * 4 * 64 * 32 * 32 + CLOSURE
    assert few.plan.packed == many.plan.packed


def workspace(model: CpuModel) -> int:
    return calls_of(model.description, model.plan).workspace


def residual(blocks: int) -> convc.Graph:
    b = Builder("residual")
    x = b.input("x", f32[1, 64, 32, 32])
    w = b.constant(np.random.default_rng(0).standard_normal((64, 64, 1, 1)).astype(np.float32) / 8, "w")
    y = b.emit(Conv(), x, w)
    for _ in range(blocks):
        y = b.emit(Relu(), b.emit(Add(), b.emit(Conv(), b.emit(Conv(), y, w), w), y))
    return b.finish([y], ["y"])


def test_a_residual_sum_lies_over_its_operand() -> None:
    graph = residual(3)
    model = on_cpu(convc.compile(graph, threads=1, precision="strict"))
    # the sum, what the convolution before makes, and a kernel's closure
    assert workspace(model) == 2 * 4 * 64 * 32 * 32 + CLOSURE
    x = np.random.default_rng(1).standard_normal((1, 64, 32, 32)).astype(np.float32)
    want = run_onnxruntime(convc.to_onnx(graph), {"x": x})[0]
    assert_close(model(x), want, tolerance=(MODEL_RTOL, MODEL_ATOL))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("%2: f32[1,4,5] = relu(%0)\n%3: f32[1,4,5] = add(%2, %1)", ["a", "b"]),
        ("%2: f32[1,4,5] = softmax(%0)\n%3: f32[1,4,5] = add(%2, %1)", ["b"]),
        ("%2: f32[1,4,5] = softmax(%0)\n%3: f32[1,4,5] = add(%2, %0)", ["b"]),  # not read at all
        ("%2: f32[1,5,4] = transpose(%1) {perm=[0,2,1]}\n%3: f32[1,5,4] = relu(%2)", []),
    ],
)
def test_a_result_replaces_operands_that_are_read_element_by_element(body: str, wanted: list[str]) -> None:
    graph = parse_graph(f"graph @k(%0: f32[1,4,5], %1: f32[1,4,5]) {{\n{body}\nreturn %3\n}}")
    operands = [Value(name, v.type) for name, v in zip("ab", graph.inputs, strict=True)]
    node = Node(Fused(graph), tuple(operands), (Value("y", graph.outputs[0].type),))
    assert [v.name for v in replaceable(node)] == wanted


def test_each_thread_has_its_own_workspace() -> None:
    model = deep(2)
    x = np.ones((1, 64, 32, 32), np.float32)
    model(x)
    found = [model.program._local.space.workspace.address]

    def call() -> None:
        model(x)
        found.append(model.program._local.space.workspace.address)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(set(found)) == 2


LENET = Path(__file__).parents[2] / "examples" / "lenet.onnx"


@pytest.mark.skipif(sys.platform != "linux", reason="counts are read from /proc")
@pytest.mark.parametrize(("precision", "most"), [("default", 1.5), ("strict", 1.0)])
def test_memory_against_onnxruntime(precision: str, most: float, tmp_path: Path) -> None:
    convc.compile(LENET, precision=precision).save(tmp_path / "m.so")
    ours, theirs = footprint("convc", tmp_path / "m.so"), footprint("onnxruntime", LENET)
    assert ours.resident <= most * theirs.resident
    assert ours.peak <= most * theirs.peak


def test_kernels_do_not_run_into_each_other() -> None:
    """Small kernels are inlined into one function, where tensors share memory at different times."""
    nodes = [
        helper.make_node("ReduceMax", ["x", "axes"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Exp", ["d"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axes"], ["s"], keepdims=1),
        helper.make_node("Log", ["s"], ["l"]),
        helper.make_node("Sub", ["d", "l"], ["y"]),
    ]
    model = models.model(
        nodes, {"x": [3, 4, 5]}, {"y": [3, 4, 5]}, {"axes": np.array([2])}, opset=18, name="log_softmax"
    )
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    assert_close(convc.compile(model)(x), run_onnxruntime(model, {"x": x})[0])
