"""Code for processors other than this one: the innermost loops for AVX2, AVX-512 and NEON, read as assembly."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.profile import assembly
from convc.backends.cpu.target import Target
from convc.backends.cpu.variants import scheduled_as
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import f32
from convc.ir.ops.conv import Conv
from convc.ir.ops.unary import Relu

HASWELL = Target("haswell", "x86_64-unknown-linux-gnu")
SKYLAKE = Target("skylake-avx512", "x86_64-unknown-linux-gnu")
NEOVERSE = Target("neoverse-n1", "aarch64-unknown-linux-gnu")
MULTIPLY_ADD = {HASWELL: r"vfmadd\w*\s.*%ymm", SKYLAKE: r"vfmadd\w*\s.*%zmm", NEOVERSE: r"fmla\s+v\d+\.4s"}
STACK = r"(\(%rsp|-\d+\(%rbp|\[sp\b)"  # %rbp alone may hold any address
SPILLED = re.compile(rf"(%[xyz]mm\d+|\b[qvz]\d+).*{STACK}|{STACK}.*%[xyz]mm")
"""Matches the move of a vector register to or from the stack."""


def convolution(channels: int, size: int, outputs: int, kernel: int, group: int = 1) -> Graph:
    b = Builder()
    x = b.input("x", f32[1, channels, size, size])
    rng = np.random.default_rng(0)
    w = b.constant(rng.standard_normal((outputs, channels // group, kernel, kernel)).astype(np.float32), "w")
    pad = kernel // 2
    conv = Conv(strides=(1, 1), pads=((pad, pad), (pad, pad)), dilations=(1, 1), group=group)
    return b.finish([b.emit(Relu(), b.emit(conv, x, w))])


def code(graph: Graph, target: Target, rule: str) -> str:
    """The assembly of the only kernel that ``rule`` schedules."""
    for node in pipeline(target.machine).run(graph).nodes:
        text, name = assembly(scheduled_as(node, target), target)
        if name == rule:
            return text
    raise AssertionError(f"no kernel by {rule}")


def innermost_loops(asm: str) -> list[list[str]]:
    """The bodies of innermost loops: from a label to the jump back to it, without another label between."""
    loops: list[list[str]] = []
    label, body = "", []
    for line in asm.splitlines():
        if m := re.match(r"(\.LBB\w+):", line):
            label, body = m.group(1), []
        elif line.startswith("\t") and not line.startswith("\t."):
            body.append(line.strip())
            if re.match(rf"(j\w+|b\.\w+|cb\w+\s.*)\s+{re.escape(label)}\b", line.strip()) and label:
                loops.append(body)
                label, body = "", []
    return loops


@pytest.mark.parametrize("target", [HASWELL, SKYLAKE, NEOVERSE], ids=lambda t: t.mcpu)
@pytest.mark.parametrize(
    ("graph", "rule", "least"),
    [
        (convolution(256, 14, 256, 1), "direct_conv", 8),
        (convolution(64, 56, 64, 3), "winograd", 10),
        (convolution(24, 56, 72, 1), "direct_conv", 8),
    ],
    ids=["pointwise", "winograd", "ragged"],
)
def test_accumulators_stay_in_registers(graph: Graph, rule: str, least: int, target: Target) -> None:
    loops = innermost_loops(code(graph, target, rule))
    counted = [(sum(bool(re.match(MULTIPLY_ADD[target], i)) for i in loop), loop) for loop in loops]
    dense = [(count / len(loop), loop) for count, loop in counted if count >= least]
    assert dense, f"no loop has {least} multiply-adds, the longest {max((c for c, _ in counted), default=0)}"
    share, loop = max(dense)
    assert share > 0.3, f"of {len(loop)} instructions in the loop {share:.0%} multiply and add"
    spilled = [i for i in loop if SPILLED.search(i)]
    assert not spilled, f"{len(spilled)} of {len(loop)} instructions spill: {spilled[:3]}"


def test_cross_compilation_knows_the_machines() -> None:
    assert [t.machine.lanes for t in (HASWELL, SKYLAKE, NEOVERSE)] == [8, 16, 4]
    assert [t.machine.registers for t in (HASWELL, SKYLAKE, NEOVERSE)] == [16, 32, 32]
    # blocks are halved except where vectors of eight are half as fast
    assert [t.machine.half_block for t in (HASWELL, SKYLAKE, NEOVERSE)] == [8, 16, 8]


@pytest.mark.parametrize(("target", "instruction"), [(HASWELL, "prefetcht1"), (NEOVERSE, "prfm")], ids=["x86", "arm"])
@pytest.mark.parametrize(("size", "kernel", "rule"), [(7, 1, "direct_conv"), (14, 3, "winograd")])
def test_weights_are_fetched_ahead(size: int, kernel: int, rule: str, target: Target, instruction: str) -> None:
    asm = code(convolution(256, size, 256, kernel), target, rule)
    assert any(line.strip().startswith(instruction) for line in asm.splitlines())
