"""The schedule rules for CPUs, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..group import Group
from ..target import Target
from .dense import dense
from .depthwise_conv import depthwise_conv
from .direct_conv import direct_conv
from .fallback import fallback
from .grouped_conv import grouped_conv
from .layer_norm import layer_norm
from .pool import pool
from .select_channels import select_channels
from .winograd import winograd, winograd_weight

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
"""Asked in this order; the first that returns a schedule wins. The last takes every group."""
