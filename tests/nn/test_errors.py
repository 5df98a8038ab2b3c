"""The errors of the layer API."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from support.layers import SHAPES, small

import convc
from convc import nn


class Lost(nn.Module):
    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return nn.Dense(3)(x)  # type: ignore[no-any-return]


class Nothing(nn.Module):
    def forward(self, x: nn.Tensor) -> None: ...


class Branching(nn.Module):
    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return x if x else -x


class Itself(nn.Module):
    def __init__(self) -> None:
        self.me = self


ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "no shapes": (lambda: convc.compile(small()), r"needs the shape of its input 'x': give shapes=\{'x'"),
    "one missing": (lambda: nn.MSE().to_graph({"x": (1, 4)}), "'target'"),
    "unknown input": (
        lambda: nn.MSE().to_graph({"x": (1,), "goal": (1,)}),
        "'goal', which MSE lacks; there are: x, target",
    ),
    "bad shape": (lambda: small().to_graph({"x": 5}), "input 'x' must be a list of integers and names, not 5"),  # type: ignore[dict-item]
    "bad dtype": (lambda: small().to_graph(SHAPES, dtype="float"), "unknown dtype 'float'"),
    "rank": (
        lambda: small().to_graph({"x": (2, 5, 5)}),
        r"layer '0' \(Conv2D\): takes data of shape \(batch, channels",
    ),
    "window": (lambda: small().to_graph({"x": (1, 2, 2, 5)}), r"layer '0' \(Conv2D\).*window of 3.*size 2"),
    "groups": (lambda: nn.Conv2D(4, 1, groups=2).to_graph({"x": (1, 3, 5, 5)}), "Conv2D: the data's 3 channels"),
    "residual": (
        lambda: nn.Sequential(nn.Residual(nn.Conv2D(4, 3))).to_graph(SHAPES),
        r"layer '0' \(Residual\): the branch gives \[1, 4, 3, 3\].*shortcut=",
    ),
    "parallel": (lambda: nn.Parallel(nn.Dense(4), nn.Dense(1), combine="add").to_graph({"x": (1, 4)}), "be added"),
    "nested": (
        lambda: nn.Sequential(nn.Residual(nn.Sequential(nn.Conv2D(4, 9)))).to_graph(SHAPES),
        r"layer '0.branch.0' \(Conv2D\)",
    ),
    "not a shape": (lambda: nn.Conv2D(4, "a"), "kernel_size must be"),  # type: ignore[arg-type]
    "zero channels": (lambda: nn.Conv2D(0, 3), "channels must be an integer of at least 1"),
    "padding name": (lambda: nn.Conv2D(4, 3, padding="sane"), "padding must be 'same', 'valid'.*'sane'"),
    "padding axes": (lambda: nn.Conv2D(4, 3, padding=(1, 2, 3)), "for each of 2 axes"),
    "negative padding": (lambda: nn.MaxPool2D(3, padding=-1), "padding must be"),
    "group division": (lambda: nn.Conv2D(4, 3, groups=3), "4 channels cannot be divided into 3 groups"),
    "activation": (lambda: nn.Dense(4, activation="rely"), "unknown activation 'rely'; known: relu"),
    "combine": (lambda: nn.Parallel(nn.relu, combine="mul"), "'concat' or 'add', not 'mul'"),
    "class for layer": (lambda: nn.Sequential(nn.Flatten), "takes modules and functions"),
    "rate": (lambda: nn.Dropout(1.5), "rate must be"),
    "called on array": (lambda: nn.Dense(4)(np.ones((1, 2))), "compile it"),
    "no name": (lambda: Lost().to_graph({"x": (1, 2)}), "Dense is no part of Lost.*in __init__"),
    "no result": (lambda: Nothing().to_graph({"x": (1, 2)}), "Nothing: forward must return a tensor.*not NoneType"),
    "no forward": (lambda: nn.Module().to_graph({"x": (1, 2)}), "defines no forward"),
    "branching": (lambda: Branching().to_graph({"x": (1, 2)}), "cannot branch|can branch on its shape"),
    "fraction of an integer": (
        lambda: nn.Sequential(lambda x: x + 0.5).to_graph({"x": (1, 2)}, dtype="i32"),
        "a tensor of int32 does not combine with float64 numbers",
    ),
    "no operand": (lambda: nn.Sequential(lambda x: x + "a").to_graph({"x": (1, 2)}), "a str is no tensor"),
    "itself": (lambda: Itself().to_graph({"x": (1, 2)}), "module 'me' .* contains itself"),
    "weights layer": (lambda: small().set_weights({"7.bias": [1]}), "'7.bias', but Sequential has no layer '7'"),
    "weights numbers": (lambda: small().set_weights({"0.bias": ["a"]}), "'0.bias' cannot be read"),
    "weights name": (
        lambda: with_weights({"0.wait": [1]}, strict=False),
        "hold '0.wait', but Conv2D has no parameter 'wait'",
    ),
    "weights shape": (
        lambda: with_weights({"0.bias": [1, 2]}, strict=False),
        r"parameter '0.bias' has shape \[3\], but the weights set for it have \[2\]",
    ),
    "weights missing": (
        lambda: with_weights({"0.bias": [1, 2, 3]}),
        r"lack parameter '0.weight' \(float32\[3, 2, 3, 3\]\)",
    ),
    "weights suffix": (lambda: small().load("weights.pt"), r"\*.npz or \*.safetensors"),
    "weights file": (lambda: small().load("missing.npz"), "cannot read 'missing.npz'"),
    "weights folder": (lambda: small().save("missing/w.npz", SHAPES), "cannot write 'missing/w.npz'"),
}


def with_weights(weights: Mapping[str, object], strict: bool = True) -> None:
    net = small()
    net.set_weights(weights, strict)
    net.to_graph(SHAPES)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_wrong(name: str) -> None:
    cause, message = ERRORS[name]
    with pytest.raises(convc.ConvcError, match=f"(?s){message}"):
        cause()
