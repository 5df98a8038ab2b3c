"""The activation functions of recurrent layers, by the names that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import plural
from ..lowering import TensorExpressions
from ..onnx_io import ImportNode, as_attribute
from ._math import bounded, expm1, sigmoid, softplus, tanh


@dataclass(frozen=True)
class Gate:
    """An activation function ``function(k, x, alpha, beta)``, and the defaults of alpha and beta, where it has them."""

    function: Callable[[TensorExpressions, Any, Any, Any], Any]
    alpha: float | None = None
    beta: float | None = None


def _by_sign(k: TensorExpressions, x: Any, positive: Any, negative: Any) -> Any:
    return k.select(x >= k.like(0, x), positive, negative)


GATES = {
    "Sigmoid": Gate(lambda k, x, a, b: sigmoid(k, x)),
    "Tanh": Gate(lambda k, x, a, b: tanh(k, x)),
    "Relu": Gate(lambda k, x, a, b: bounded(k, x, low=0)),
    "Affine": Gate(lambda k, x, a, b: a * x + b, 1.0, 0.0),
    "LeakyRelu": Gate(lambda k, x, a, b: _by_sign(k, x, x, a * x), 0.01),
    "ThresholdedRelu": Gate(lambda k, x, a, b: k.select(x >= a, x, k.like(0, x)), 1.0),
    "ScaledTanh": Gate(lambda k, x, a, b: a * tanh(k, b * x), 1.0, 1.0),
    "HardSigmoid": Gate(lambda k, x, a, b: bounded(k, a * x + b, 0, 1), 0.2, 0.5),
    "Elu": Gate(lambda k, x, a, b: _by_sign(k, x, x, a * expm1(k, bounded(k, x, high=0))), 1.0),
    "Softsign": Gate(lambda k, x, a, b: x / (k.like(1, x) + k.tirx.abs(x))),
    "Softplus": Gate(lambda k, x, a, b: softplus(k, x)),
}

Activations = tuple[tuple[str, float, float], ...]
"""The activations of a layer, one for each place in its equations: name, alpha and beta, which are 0 where unused."""


def read_activations(n: ImportNode, defaults: Sequence[str], directions: int) -> list[Activations]:
    """The activations of a node for each direction.

    Its lists of alphas and betas hold entries only for functions that have them.
    """
    names = n.attr("activations") or tuple(defaults) * directions
    if names == tuple(defaults) * 2:  # ONNX's default of RNN, which ONNX Runtime writes out for one direction too
        names = names[: len(defaults) * directions]
    if len(names) != len(defaults) * directions:
        raise n.error(f"{plural(len(names), 'activation')} given; for each direction, {len(defaults)} must be")
    known = {name.lower(): name for name in GATES}
    alphas, betas = iter(n.attr("activation_alpha") or ()), iter(n.attr("activation_beta") or ())
    found = []
    for given in names:
        name = known.get(str(given).lower())
        if name is None:
            raise n.unsupported(f"activation {given!r} is not supported; known: {', '.join(GATES)}")
        gate = GATES[name]
        alpha = 0.0 if gate.alpha is None else next(alphas, as_attribute(gate.alpha))
        found.append((name, alpha, 0.0 if gate.beta is None else next(betas, as_attribute(gate.beta))))
    count = len(defaults)
    return [tuple(found[d * count : (d + 1) * count]) for d in range(directions)]


def written_activations(activations: Activations) -> dict[str, Any]:
    """The attributes of an ONNX node with these activations."""
    with_alpha = [alpha for name, alpha, _ in activations if GATES[name].alpha is not None]
    with_beta = [beta for name, _, beta in activations if GATES[name].beta is not None]
    names = tuple(name for name, _, _ in activations)
    return {"activations": names, "activation_alpha": with_alpha or None, "activation_beta": with_beta or None}
