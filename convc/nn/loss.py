"""Losses: modules of two inputs, a prediction and a target, that give their mean over the batch."""

from __future__ import annotations

import numpy as np

from convc.ir.errors import ShapeError
from convc.ir.ops.one_hot import OneHot
from convc.ir.ops.reduce import ReduceMean, ReduceSum

from .functional import log_softmax
from .module import Module
from .tensor import Tensor, apply


class MSE(Module):
    """The mean of ``(x - target) ** 2``; both of one shape, the result a scalar."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        if x.shape != target.shape:
            raise ShapeError(f"the target has shape {list(target.shape)}, not that of the prediction, {list(x.shape)}")
        difference = x - target
        return apply(ReduceMean(keepdims=False), difference * difference)


class SoftmaxCrossEntropy(Module):
    """The mean over the batch of ``-sum over c of target[c] * log softmax(x)[c]``, a scalar.

    ``x`` holds scores ``(batch, classes, ...)``; the target is of the same shape, probabilities, or without the class
    axis, class numbers from 0 (as whole numbers of any dtype).
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        if len(x.shape) < 2 or target.shape not in (x.shape, x.shape[:1] + x.shape[2:]):
            raise ShapeError(
                f"scores {list(x.shape)} must be (batch, classes, ...) and the target of the same shape or without the "
                f"class axis, not {list(target.shape)}"
            )
        if target.shape != x.shape:
            target = apply(OneHot(x.shape[1], axis=1), target, x.constant(np.array([0, 1])))
        losses = apply(ReduceSum((1,), keepdims=False), log_softmax(x, axis=1) * target)
        return -apply(ReduceMean(keepdims=False), losses)
