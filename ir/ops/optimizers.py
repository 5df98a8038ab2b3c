"""Import of the steps of optimizers: ONNX Momentum, Adagrad and Adam (domain ``ai.onnx.preview.training``).

A node updates any number of tensors. Its inputs are the learning rate, the number of updates so far, then all tensors,
all gradients and all states; its outputs are all new tensors and all new states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOATS
from ..graph import Value
from ..onnx_io import ImportNode, imports
from ..op import Op
from .binary import Add, Div, Mul, Pow, Sub
from .cast import Cast
from .compare import Greater
from .unary import Sqrt
from .where import Where

DOMAIN = "ai.onnx.preview.training"


@imports(f"{DOMAIN}::Momentum")
def _import_momentum(n: ImportNode) -> Any:
    """Import stochastic gradient descent with a standard or Nesterov momentum."""
    mode, alpha, beta = n.attr("mode"), n.attr("alpha"), n.attr("beta")
    if mode not in ("standard", "nesterov"):
        raise n.error(f"unknown mode {mode!r}; known: standard, nesterov")

    def step(s: _Step, x: Value, gradient: Value, velocity: Value) -> Sequence[Value]:
        first = s.where_begun(s.scalar(beta), s.scalar(1))
        velocity = s(Add, s(Mul, s.scalar(alpha), velocity), s(Mul, first, gradient))
        ahead = s(Add, gradient, s(Mul, s.scalar(alpha), velocity)) if mode == "nesterov" else velocity
        return s(Sub, x, s(Mul, s.rate, ahead)), velocity

    return _updated(n, 2, step)


@imports(f"{DOMAIN}::Adagrad")
def _import_adagrad(n: ImportNode) -> Any:
    """Import Adagrad (Duchi, Hazan and Singer 2011), which divides by the root of the sum of squared gradients."""

    def step(s: _Step, x: Value, gradient: Value, squares: Value) -> Sequence[Value]:
        rate = s(Div, s.rate, s(Add, s.scalar(1), s(Mul, s.updates, s.scalar(n.attr("decay_factor", 0.0)))))
        squares = s(Add, squares, s(Mul, gradient, gradient))
        root = s(Add, s(Sqrt, squares), s.scalar(n.attr("epsilon", 1e-6)))
        return s(Sub, x, s(Div, s(Mul, rate, gradient), root)), squares

    return _updated(n, 2, step)


@imports(f"{DOMAIN}::Adam")
def _import_adam(n: ImportNode) -> Any:
    """Import Adam (Kingma and Ba 2014), which follows the mean of gradients over the root of that of their squares."""
    alpha, beta = n.attr("alpha", 0.9), n.attr("beta", 0.999)

    def step(s: _Step, x: Value, gradient: Value, mean: Value, squares: Value) -> Sequence[Value]:
        mean = s(Add, s(Mul, s.scalar(alpha), mean), s(Mul, s.scalar(1 - alpha), gradient))
        squared = s(Mul, gradient, gradient)
        squares = s(Add, s(Mul, s.scalar(beta), squares), s(Mul, s.scalar(1 - beta), squared))
        unbiased, whole = (s(Sub, s.scalar(1), s(Pow, s.scalar(rate), s.updates)) for rate in (beta, alpha))
        rate = s.where_begun(s(Mul, s.rate, s(Div, s(Sqrt, unbiased), whole)), s.rate)
        root = s(Add, s(Sqrt, squares), s.scalar(n.attr("epsilon", 1e-6)))
        moved = s(Sub, x, s(Div, s(Mul, rate, mean), root))
        return s(Mul, s.scalar(1 - n.attr("norm_coefficient_post", 0.0)), moved), mean, squares

    return _updated(n, 3, step)


class _Step:
    """The update of one tensor, whose dtype its constants have. A call adds an op."""

    def __init__(self, n: ImportNode, x: Value) -> None:
        self._n, self._x = n, x
        self.rate, self.updates = (v if v.type.dtype == x.type.dtype else n.emit(Cast(x.type.dtype), v)
                                   for v in (n.input(0), n.input(1)))  # fmt: skip

    def __call__(self, op: type[Op], *operands: Value) -> Value:
        made: Value = self._n.emit(op(), *operands)
        return made

    def scalar(self, value: float) -> Value:
        return self._n.scalar(value, self._x)

    def where_begun(self, yes: Value, no: Value) -> Value:
        """``yes`` if there have been updates, else ``no``."""
        return self(Where, self(Greater, self.updates, self.scalar(0)), yes, no)


def _updated(n: ImportNode, states: int, step: Callable[..., Sequence[Value]]) -> list[Value]:
    """The results of a node whose tensors have ``states - 1`` states beside the gradient, by ``step`` for each tensor.

    ``norm_coefficient`` times the tensor is added to its gradient first.
    """
    values = n.present_inputs()[2:]
    count, rest = divmod(len(values), states + 1)
    if rest or not count:
        raise n.error(f"it has {len(values)} tensors; it needs {states + 1} for each tensor that it updates")
    if any(v.type.numel != 1 for v in (n.input(0), n.input(1))):
        raise n.error("its learning rate and its number of updates must be single numbers")
    made = []
    for x, gradient, *held in (values[i::count] for i in range(count)):
        if x.type.dtype not in FLOATS or any(v.type != x.type for v in (gradient, *held)):
            raise n.error(f"a tensor of floats, its gradient and its states differ in type: {x}, {gradient}")
        s = _Step(n, x)
        decay = s(Mul, s.scalar(n.attr("norm_coefficient", 0.0)), x)
        made.append(step(s, x, s(Add, decay, gradient), *held))
    return [results[i] for i in range(states) for results in made]
