"""The schedule rules for GPUs, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

RULES: tuple[Rule, ...] = (
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
