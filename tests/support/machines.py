"""Machines by name: what is chosen is said of one of them, never of the machine that runs the tests."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.rules import RULES
from convc.backends.cpu.target import Target
from convc.backends.group import Group
from convc.backends.kernels import ask
from convc.reader import as_graph
from convc.runtime.cpu.host import host

from .compiling import compiled, sharing
from .oracles import Feeds

_LINUX = "x86_64-unknown-linux-gnu"
AVX2 = Target("x86-64-v3", _LINUX, threads=2)
"""Sixteen registers of eight lanes, two multiply-adds a cycle."""
AVX512 = Target("x86-64-v4", _LINUX, threads=2)
"""Thirty-two registers of sixteen lanes, one multiply-add a cycle, as Zen 4 has it: vectors of eight are as fast."""
AVX512_TWICE = Target("skylake-avx512", _LINUX, threads=2)
"""Thirty-two registers of sixteen lanes, two multiply-adds a cycle, as Skylake-SP and Zen 5 have them."""
MACHINES = {"avx2": AVX2, "avx512": AVX512, "avx512-twice": AVX512_TWICE}
on_machines = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def rules_on(machine: Target, model: onnx.ModelProto) -> dict[str, str]:
    """The rule that schedules each kernel of a model for a machine, by the kernel's ops; no machine code is made."""
    groups = [Group.of(node) for node in pipeline(machine.machine).run(as_graph(model)).nodes]
    return {g.name: ask(RULES, g, machine)[1] for g in groups}


def skip_unless_it_runs(machine: Target) -> None:
    """Skip a test whose code this processor cannot run."""
    if missing := host().lacks(machine.family, machine.features):
        pytest.skip(f"code for {machine.mcpu} needs {missing}")


def run_on(machine: Target, model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """The outputs of a model, compiled for a machine; skips the test where this processor cannot run its code."""
    skip_unless_it_runs(machine)
    return list(compiled(model, sharing(machine), machine.threads).run(feeds).values())
