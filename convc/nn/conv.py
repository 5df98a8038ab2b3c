"""Convolutions and transposed convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.ir.errors import ShapeError, plural
from convc.ir.op import Op
from convc.ir.ops._window import Ints
from convc.ir.ops.conv import Conv
from convc.ir.ops.conv_transpose import ConvTranspose

from ._geometry import Padding, Size, check_rank, per_axis, window_pads
from .activation import ActivationLike, activate, check_activation
from .initializers import fill, glorot
from .module import Module
from .tensor import Tensor, apply


@dataclass(eq=False)
class Convolution(Module):
    """``y[n,o,i] = b[o] + sum over c, k of x[n, c, stride*i + dilation*k - pad] * w[o,c,k]``, a cross-correlation.

    Data ``(batch, channels, *spatial)``; parameters ``weight (channels, in channels / groups, *kernel)`` and
    ``bias (channels,)``. An axis of n becomes ``floor((n - k + p + s) / s)``, p being the padding of both ends and k
    the extent of the dilated kernel. ``padding`` is ``"valid"``, ``"same"`` (k - 1 in all, the larger half first), a
    size, or for each axis a size or a pair (begin, end).
    """

    rank: ClassVar[int]
    channels: int
    kernel_size: Size
    strides: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: int = 1
    use_bias: bool = True
    activation: ActivationLike = None

    def __post_init__(self) -> None:
        per_axis(self.channels, 1, "channels")
        per_axis(self.groups, 1, "groups")
        if self.channels % self.groups:
            raise ShapeError(
                f"{plural(self.channels, 'channel')} cannot be divided into {plural(self.groups, 'group')}"
            )
        check_activation(self.activation)
        self._op()

    def _kernel(self) -> Ints:
        return per_axis(self.kernel_size, self.rank, "kernel_size")

    def _op(self) -> Op:
        strides, dilations = (
            per_axis(self.strides, self.rank, "strides"),
            per_axis(self.dilation, self.rank, "dilation"),
        )
        return Conv(strides, window_pads(self.padding, self._kernel(), dilations), dilations, self.groups)

    def _weight_shape(self, channels: int) -> Ints:
        return (self.channels, channels // self.groups, *self._kernel())

    def forward(self, x: Tensor) -> Tensor:
        check_rank(x, self.rank)
        if x.shape[1] % self.groups:
            raise ShapeError(
                f"the data's {plural(x.shape[1], 'channel')} cannot be divided into {plural(self.groups, 'group')}"
            )
        shape = self._weight_shape(x.shape[1])
        operands = [self.parameter(x, "weight", shape, glorot(shape))]
        if self.use_bias:
            operands.append(self.parameter(x, "bias", (self.channels,), fill(0)))
        return activate(self.activation, apply(self._op(), x, *operands))


class Conv1D(Convolution):
    """A convolution along one axis: data ``(batch, channels, width)``."""

    rank = 1


class Conv2D(Convolution):
    """A convolution over images: data ``(batch, channels, height, width)``."""

    rank = 2


class Conv3D(Convolution):
    """A convolution over volumes: data ``(batch, channels, depth, height, width)``."""

    rank = 3


@dataclass(eq=False)
class TransposedConvolution(Convolution):
    """The transpose of a convolution of the same attributes:
    ``y[n, o, stride*i + dilation*k - pad] += x[n,c,i] * w[c,o,k]``.

    Data ``(batch, channels, *spatial)``; parameters ``weight (in channels, channels / groups, *kernel)`` and
    ``bias (channels,)``. An axis of n becomes ``s * (n - 1) + k - p + output_padding``; with ``padding="same"`` it
    becomes ``s * n``.
    """

    output_padding: Size | None = None
    """How many elements to add at the end of each axis: by default none, or stride - 1 with ``padding="same"``."""

    def _op(self) -> Op:
        strides, dilations = (
            per_axis(self.strides, self.rank, "strides"),
            per_axis(self.dilation, self.rank, "dilation"),
        )
        pads = window_pads(self.padding, self._kernel(), dilations)
        extra = per_axis(self.output_padding or 0, self.rank, "output_padding", least=0)
        if self.output_padding is None and self.padding == "same":
            extra = tuple(s - 1 for s in strides)
        return ConvTranspose(strides, pads, dilations, extra, self.groups)

    def _weight_shape(self, channels: int) -> Ints:
        return (channels, self.channels // self.groups, *self._kernel())


class Conv1DTranspose(TransposedConvolution):
    """A transposed convolution along one axis: data ``(batch, channels, width)``."""

    rank = 1


class Conv2DTranspose(TransposedConvolution):
    """A transposed convolution over images: data ``(batch, channels, height, width)``."""

    rank = 2


class Conv3DTranspose(TransposedConvolution):
    """A transposed convolution over volumes: data ``(batch, channels, depth, height, width)``."""

    rank = 3
