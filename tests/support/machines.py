"""Machines by name. Tests of choices compile for one of them, and not for the machine that runs the tests."""

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
"""A machine with sixteen registers of eight lanes, and two multiply-adds per cycle."""
AVX512 = Target("x86-64-v4", _LINUX, threads=2)
"""A machine with thirty-two registers of sixteen lanes, and one multiply-add per cycle, like Zen 4.

Vectors of eight lanes reach the same rate.
"""
AVX512_TWICE = Target("skylake-avx512", _LINUX, threads=2)
"""A machine with thirty-two registers of sixteen lanes, and two multiply-adds per cycle, like Skylake-SP and Zen 5."""
MACHINES = {"avx2": AVX2, "avx512": AVX512, "avx512-twice": AVX512_TWICE}
on_machines = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def rules_on(machine: Target, model: onnx.ModelProto) -> dict[str, str]:
    """The rules that schedule the kernels of a model for a machine, by the kernels' ops.

    No machine code is generated.
    """
    groups = [Group.of(node) for node in pipeline(machine.machine).run(as_graph(model)).nodes]
    return {g.name: ask(RULES, g, machine)[1] for g in groups}


def skip_unless_it_runs(machine: Target) -> None:
    """Skip a test whose code this processor cannot run."""
    if missing := host().lacks(machine.family, machine.features):
        pytest.skip(f"code for {machine.mcpu} needs {missing}")


def run_on(machine: Target, model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """The outputs of a model compiled for a machine. The test is skipped where this processor cannot run its code."""
    skip_unless_it_runs(machine)
    return list(compiled(model, sharing(machine), machine.threads).run(feeds).values())
