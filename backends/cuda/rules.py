"""The schedule rules for GPUs, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convc.ir.errors import UnsupportedOpError

from ..group import Group
from .gpu import Gpu
from .schedules.depthwise import depthwise
from .schedules.fallback import fallback
from .schedules.gemv import gemv
from .schedules.implicit_gemm import implicit_gemm
from .schedules.pool import pool
from .schedules.reduce import reduce
from .schedules.rows import rows
from .schedules.tensor_core import tensor_core
from .schedules.transpose import transpose

Rule = Callable[[Group, Gpu], Any]


def on_cpus_alone(group: Group, gpu: Gpu) -> None:
    """Raises ``UnsupportedOpError`` for a group that GPUs cannot compute, before any rule lowers it."""
    for node in group.body.nodes:
        if not node.op.on_gpu:
            raise UnsupportedOpError(f"op {node.op.name} runs on CPUs alone so far: leave target 'cuda' out")


RULES: tuple[Rule, ...] = (
    on_cpus_alone,
    depthwise,
    gemv,
    tensor_core,
    implicit_gemm,
    pool,
    rows,
    reduce,
    transpose,
    fallback,
)
"""The rules, asked in this order: the first that returns a schedule wins. The last takes every group."""
