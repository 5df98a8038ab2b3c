"""What the kernels of a network take of a GPU, as its assembler reports it: for people and tests to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from convc.runtime.cuda.plan import Start

from .build import Code
from .gpu import Gpu


@dataclass(frozen=True)
class Usage:
    """One kernel: the rule that scheduled it, how often a call starts it (0: at load alone), its blocks and threads, registers a
    thread, bytes of shared memory a block, bytes spilled; the share of a multiprocessor's threads that can be there at once
    (``occupancy``), and how many times all multiprocessors are filled (``waves``).
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
    """The kernels of machine code for one GPU, in the order of their first start; none for PTX, which no assembler has seen."""
    rules = {k.name: k.rule for k in code.variant.kernels}
    starts = (*code.variant.plan.run, *code.variant.plan.load)
    return list(_usages(code, gpu, rules, {s.kernel: s for s in reversed(starts)}))


def _usages(code: Code, gpu: Gpu, rules: dict[str, str], starts: dict[str, Start]) -> Iterator[Usage]:
    for name, s in reversed(starts.items()):
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
