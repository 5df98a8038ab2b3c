"""The schedule rules for GPUs, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..group import Group
from .depthwise import depthwise
from .fallback import fallback
from .gemv import gemv
from .gpu import Gpu
from .implicit_gemm import implicit_gemm
from .pool import pool
from .reduce import reduce
from .rows import rows
from .tensor_core import tensor_core
from .transpose import transpose

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
"""Asked in this order; the first that returns a schedule wins. The last takes every group."""
