"""Schedules for CPUs, compiled by LLVM: one file a kind of kernel, and the order in which rules are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..group import Group
from ..target import Target
from .depthwise_conv import depthwise_conv
from .direct_conv import direct_conv
from .fallback import fallback

Rule = Callable[[Group, Target], Any]

RULES: tuple[Rule, ...] = (direct_conv, depthwise_conv, fallback)
"""Asked in this order; the first that returns a schedule wins. The last takes every group."""
