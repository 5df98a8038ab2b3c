"""Pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from convc.ir.op import Op
from convc.ir.ops import global_pool
from convc.ir.ops.average_pool import AveragePool
from convc.ir.ops.lp_pool import LpPool
from convc.ir.ops.max_pool import MaxPool

from ._geometry import Padding, Size, check_rank, per_axis, window_pads
from .module import Module
from .tensor import Tensor, apply


@dataclass(eq=False)
class Pooling(Module):
    """A window of ``pool_size`` moved over each channel by ``strides``, by default its own size.

    Data ``(batch, channels, *spatial)``; an axis of n becomes ``floor((n - k + p + s) / s)``, or ceil with
    ``ceil_mode``. ``padding`` is as in the convolutions.
    """

    rank: ClassVar[int]
    pool_size: Size = 2
    strides: Size | None = None
    padding: Padding = 0
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        self._op()

    def _op(self) -> Op:
        kernel = per_axis(self.pool_size, self.rank, "pool_size")
        strides = kernel if self.strides is None else per_axis(self.strides, self.rank, "strides")
        pads = window_pads(self.padding, kernel, (1,) * self.rank)
        return self._pool(kernel=kernel, strides=strides, pads=pads, ceil_mode=self.ceil_mode)

    def _pool(self, **geometry: Any) -> Op:
        raise NotImplementedError(type(self).__name__)

    def forward(self, x: Tensor) -> Tensor:
        check_rank(x, self.rank)
        return apply(self._op(), x)


@dataclass(eq=False)
class MaxPooling(Pooling):
    """The maximum of each window; padding never counts."""

    def _pool(self, **geometry: Any) -> Op:
        return MaxPool(**geometry)


@dataclass(eq=False)
class AvgPooling(Pooling):
    """The mean of each window; padding counts as zeros, unless ``count_include_pad`` is false."""

    count_include_pad: bool = True

    def _pool(self, **geometry: Any) -> Op:
        return AveragePool(**geometry, count_include_pad=self.count_include_pad)


@dataclass(eq=False)
class LpPooling(Pooling):
    """The p-norm of each window."""

    p: int = 2

    def _pool(self, **geometry: Any) -> Op:
        return LpPool(**geometry, p=self.p)


class MaxPool1D(MaxPooling):
    """Maxima along one axis: data ``(batch, channels, width)``."""

    rank = 1


class MaxPool2D(MaxPooling):
    """Maxima over images: data ``(batch, channels, height, width)``."""

    rank = 2


class MaxPool3D(MaxPooling):
    """Maxima over volumes: data ``(batch, channels, depth, height, width)``."""

    rank = 3


class AvgPool1D(AvgPooling):
    """Means along one axis: data ``(batch, channels, width)``."""

    rank = 1


class AvgPool2D(AvgPooling):
    """Means over images: data ``(batch, channels, height, width)``."""

    rank = 2


class AvgPool3D(AvgPooling):
    """Means over volumes: data ``(batch, channels, depth, height, width)``."""

    rank = 3


class LpPool1D(LpPooling):
    """Norms along one axis: data ``(batch, channels, width)``."""

    rank = 1


class LpPool2D(LpPooling):
    """Norms over images: data ``(batch, channels, height, width)``."""

    rank = 2


class LpPool3D(LpPooling):
    """Norms over volumes: data ``(batch, channels, depth, height, width)``."""

    rank = 3


class GlobalAvgPool(Module):
    """The mean of each channel: ``(batch, channels, *spatial)`` to ``(batch, channels, 1, ..., 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return apply(global_pool.GlobalAveragePool(), x)


class GlobalMaxPool(Module):
    """The maximum of each channel: ``(batch, channels, *spatial)`` to ``(batch, channels, 1, ..., 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return apply(global_pool.GlobalMaxPool(), x)
