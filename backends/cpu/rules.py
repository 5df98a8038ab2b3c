"""The schedule rules for CPUs, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..group import Group
from .schedules.dense import dense
from .schedules.depthwise_conv import depthwise_conv
from .schedules.direct_conv import direct_conv
from .schedules.fallback import fallback
from .schedules.grouped_conv import grouped_conv
from .schedules.layer_norm import layer_norm
from .schedules.pool import pool
from .schedules.select_channels import select_channels
from .schedules.winograd import winograd, winograd_weight
from .target import Target

Rule = Callable[[Group, Target], Any]

RULES: tuple[Rule, ...] = (
    winograd,
    winograd_weight,
    depthwise_conv,
    grouped_conv,
    direct_conv,
    pool,
    dense,
    layer_norm,
    select_channels,
    fallback,
)
"""The rules, asked in this order: the first that returns a schedule wins. The last takes every group."""
