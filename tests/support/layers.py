"""A small network of layers, and the shape of its input."""

from __future__ import annotations

from convc import nn

SHAPES = {"x": (1, 2, 5, 5)}


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2D(3, 3), nn.BatchNorm(), nn.Flatten(), nn.Dense(4))
