"""The resources that the kernels of a network take of a GPU, as ptxas reports them, for people and tests to read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from convc.runtime.cuda.plan import Start

from .build import Code
from .gpu import Gpu


@dataclass(frozen=True)
class Usage:
    """The resources of one kernel, the rule that scheduled it, and how it fills the GPU.

    ``uses`` is how often a call launches it (0: only at load); ``registers`` is per thread; ``shared`` is bytes of
    shared memory per block; ``spills`` is bytes; ``occupancy`` is the share of a multiprocessor's threads that can be
    resident at once; ``waves`` is how many times the grid fills all multiprocessors.
    """

    kernel: str
    rule: str
    uses: int
    blocks: int
    threads: int
    registers: int
    shared: int
    spills: int
    occupancy: float
    waves: float

    HEADER = " regs shared spill occupancy waves   blocks x threads  uses  rule: kernel"

    def __str__(self) -> str:
        return (
            f"{self.registers:5d} {self.shared:6d} {self.spills:5d} {self.occupancy:9.0%} {self.waves:5.1f}"
            f" {self.blocks:8d} x {self.threads:<7d} {self.uses:5d}  {self.rule}: {self.kernel}"
        )


def usage(code: Code, gpu: Gpu) -> list[Usage]:
    """The usage of each kernel, in the order of their first launch; empty for PTX, which ptxas has not seen."""
    rules = {k.name: k.rule for k in code.variant.kernels}
    starts = (*code.variant.plan.run, *code.variant.plan.load)
    first: dict[str, Start] = {}
    for start in starts:
        first.setdefault(start.kernel, start)
    return list(_usages(code, gpu, rules, first))


def _usages(code: Code, gpu: Gpu, rules: dict[str, str], starts: dict[str, Start]) -> Iterator[Usage]:
    for name, s in starts.items():
        figures = code.modules[s.module].figures.get(name)
        if figures is None:
            continue
        blocks, threads, shared = math.prod(s.grid), math.prod(s.block), figures.shared + s.shared
        held = gpu.resident(threads, figures.registers, shared)
        uses = sum(other.kernel == name for other in code.variant.plan.run)
        occupancy = held * threads / gpu.threads_per_sm
        waves = blocks / (held * gpu.sms) if held else math.inf
        rule = rules[name[: name.rindex("_kernel")]]
        yield Usage(name, rule, uses, blocks, threads, figures.registers, shared, figures.spills, occupancy, waves)
