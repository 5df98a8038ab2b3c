"""Making a failing mutant smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

TRIES = 150
"""The number of attempts to shrink one mutant, each of which takes a process."""


def smaller(kind: str, data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A smaller input that fails in the same way. Parts are left out as long as it does."""
    tries, found = 0, True
    while found:
        found = False
        for candidate in _candidates(kind, data):
            tries += 1
            if tries > TRIES:
                return data
            if len(candidate) < len(data) and fails(candidate):
                data, found = candidate, True
                break
    return data


def _candidates(kind: str, data: bytes) -> Iterator[bytes]:
    if kind == "proto":
        yield from _without_parts(data)
    elif kind != "artifact":  # the footer of an artifact holds its length
        yield from _without_chunks(data)


def _without_chunks(data: bytes) -> Iterator[bytes]:
    size = len(data) // 2
    while size >= 1 and size >= len(data) // 64:
        for at in range(0, len(data), size):
            yield data[:at] + data[at + size :]
        size //= 2


def _without_parts(data: bytes) -> Iterator[bytes]:
    """The model without one node, initializer, input, output, attribute or function, for each of them."""
    model = onnx.ModelProto.FromString(data)
    for name in ("node", "initializer", "input", "output"):
        for i in range(len(getattr(model.graph, name))):
            less = onnx.ModelProto.FromString(data)
            del getattr(less.graph, name)[i]
            yield less.SerializeToString()
    for n, node in enumerate(model.graph.node):
        for i in range(len(node.attribute)):
            less = onnx.ModelProto.FromString(data)
            del less.graph.node[n].attribute[i]
            yield less.SerializeToString()
    for i in range(len(model.functions)):
        less = onnx.ModelProto.FromString(data)
        del less.functions[i]
        yield less.SerializeToString()
