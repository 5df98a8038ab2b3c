"""The schedule rules for GPUs, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..group import Group
from .fallback import fallback
from .gpu import Gpu

Rule = Callable[[Group, Gpu], Any]

RULES: tuple[Rule, ...] = (fallback,)
"""Asked in this order; the first that returns a schedule wins. The last takes every group."""
