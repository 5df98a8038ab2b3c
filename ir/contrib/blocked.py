"""Operators on channels in blocks (domain ``com.microsoft.nchwc``), as ONNX Runtime writes them for a processor.

Such a file holds weights that are already in the order in which MLAS, ONNX Runtime's library of kernels, reads them.
Inside a stretch of these operators a tensor has the shape ``N C H W`` with C filled up with zeros to whole blocks. The
import keeps this shape, in plain order: ``ReorderInput`` fills the channels up, ``ReorderOutput`` drops those that were
added, and the weights are put back in order. The order is that of ``MlasReorderFilterOIHWBiBo`` and
``MlasReorderFilterOIHWBo`` (onnxruntime, core/mlas/lib/reorder.cpp).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops.pad import Pad
from ..ops.slice import Slice
from ._operator import POOL, WINDOW, given, operator, positive
from .activations import with_activation
from .convolutions import FUSED, channels_first, channels_last, convolved

if TYPE_CHECKING:
    import onnx

DOMAIN = "com.microsoft.nchwc::"
BLOCKS = (16, 8)
"""The numbers of channels in a block: 16 where MLAS uses AVX-512 or NEON, 8 on other processors."""


def block_of(graph: onnx.GraphProto) -> int:
    """The number of channels in a block that a model's weights were made for.

    No attribute says so, but numbers of channels that only one of ``BLOCKS`` explains do. Where both explain all of
    them, the number is that of the processor that runs this code, as it is for ONNX Runtime when it loads the file.
    """
    possible = set(BLOCKS)
    for explained in _explained(graph):
        possible &= explained or possible
    return possible.pop() if len(possible) == 1 else host_block()


def host_block() -> int:
    """The number of channels in a block that MLAS uses on the processor that runs this code."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return 16
    extensions: Any = np.show_config(mode="dicts")
    names = {str(e).upper() for part in extensions.get("SIMD Extensions", {}).values() for e in part}
    return 16 if any(e.startswith("AVX512") or e == "X86_V4" for e in names) else 8


def _explained(graph: onnx.GraphProto) -> Iterator[set[int]]:
    """For each number of channels in a graph, the sizes of blocks that explain it."""
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    channels: dict[str, int] = {}
    """The padded numbers of channels of what nodes on blocks make, where they are known, else 0."""
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                yield from _explained(a.g)
        if node.domain != DOMAIN.rstrip(":") or not node.input or not node.output:
            continue
        numbers = {a.name: a.i for a in node.attribute}
        weight = shapes.get(node.input[1], []) if len(node.input) > 1 else []
        if node.op_type == "Conv" and len(weight) == 4:
            outputs, inputs = weight[:2]
            yield {b for b in BLOCKS if outputs % b == 0}
            if numbers.get("group", 1) == 1:
                in_blocks = node.input[0] in channels
                yield {b for b in BLOCKS if (inputs % b == 0 if in_blocks else inputs < b)}
            channels[node.output[0]] = outputs
        elif node.op_type == "ReorderOutput":
            padded, kept = channels.get(node.input[0], 0), numbers.get("channels", 0)
            yield {b for b in BLOCKS if not padded or -(-kept // b) * b == padded}
        else:
            channels[node.output[0]] = channels.get(node.input[0], 0)


def _block(n: ImportNode) -> int:
    return n.whole.ask(block_of) if n.whole is not None else BLOCKS[0]


@operator("Conv", "X W B? Sum?", domain=DOMAIN, **WINDOW, **FUSED)
def _import_conv(n: ImportNode) -> Any:
    """Import ``activation(conv(x, w) + b + sum)``, with the weight put back in order."""
    x, blocked, group = n.input(0), n.const(1, "weight"), n.attr("group", 1)
    assert blocked is not None
    w = n.constant(in_order(n, blocked, group, _block(n)), "weight")
    channels = x.type.shape[1] if x.type.rank == 4 else None
    if channels != w.type.sizes[1] * group:
        raise n.error(
            f"its data {list(x.type.shape)} does not have the {w.type.sizes[1] * group} channels of its weight"
        )
    return with_activation(n, convolved(n, x, w, n.optional(2), n.optional(3)))


def in_order(n: ImportNode, blocked: np.ndarray, group: int, block: int) -> np.ndarray:
    """The weight ``O I H W`` of one that has blocks of outputs, and of inputs too where these fill blocks.

    The weight of a depthwise convolution, and that of a convolution of fewer channels than a block, which reads plain
    data, has blocks of outputs only.
    """
    if blocked.ndim != 4 or blocked.shape[0] % block:
        raise n.unsupported(
            f"its weight {list(blocked.shape)} does not consist of blocks of {block} output channels; save the model "
            "again with less optimisation (ORT_ENABLE_EXTENDED), which does not depend on the processor"
        )
    outputs, inputs, height, width = blocked.shape
    if inputs % block == 0:
        parts = blocked.reshape(outputs // block, inputs // block, height, width, block, block)
        return np.ascontiguousarray(parts.transpose(0, 5, 1, 4, 2, 3)).reshape(blocked.shape)
    if group != 1 and (inputs != 1 or group != outputs):
        raise n.unsupported(f"its weight {list(blocked.shape)} does not fit blocks of {block} channels")
    parts = blocked.reshape(outputs // block, inputs, height, width, block)
    return np.ascontiguousarray(parts.transpose(0, 4, 1, 2, 3)).reshape(blocked.shape)


@operator("ReorderInput", "X", domain=DOMAIN, channels_last="int")
def _import_reorder_input(n: ImportNode) -> Any:
    """Import the filling of channels to whole blocks; with ``channels_last`` they come from the last axis."""
    x = channels_first(n, n.input(0)) if n.attr("channels_last", 0) else n.input(0)
    if x.type.rank != 4:
        raise n.error(f"takes data of rank 4, not {list(x.type.shape)}")
    added = -x.type.sizes[1] % _block(n)
    return n.emit(Pad(((0, 0), (0, added), (0, 0), (0, 0))), x) if added else _moved(n, x)


@operator("ReorderOutput", "X", domain=DOMAIN, channels="int", channels_last="int")
def _import_reorder_output(n: ImportNode) -> Any:
    """Import the first ``channels`` channels; with ``channels_last`` these become the last axis."""
    x, channels = n.input(0), positive(n, "channels")
    if x.type.rank != 4 or x.type.sizes[1] < channels:
        raise n.error(f"data {list(x.type.shape)} does not have {channels} channels")
    if x.type.sizes[1] > channels:
        x = n.emit(Slice((1,), (0,), (channels,)), x)
    return channels_last(n, x) if n.attr("channels_last", 0) else _moved(n, x)


def _moved(n: ImportNode, x: Value) -> Value:
    made: Value = n.call("Identity", x)
    return made


@operator("MaxPool", "X", domain=DOMAIN, **POOL, dilations="ints", storage_order="int")
def _import_max_pool(n: ImportNode) -> Any:
    return n.call("MaxPool", n.input(0), **given(n, *POOL, "dilations"))


@operator("AveragePool", "X", domain=DOMAIN, **POOL, dilations="ints", count_include_pad="int")
def _import_average_pool(n: ImportNode) -> Any:
    return n.call("AveragePool", n.input(0), **given(n, *POOL, "dilations", "count_include_pad"))


@operator("GlobalAveragePool", "X", domain=DOMAIN)
def _import_global_average_pool(n: ImportNode) -> Any:
    return n.call("GlobalAveragePool", n.input(0))


@operator("GlobalMaxPool", "X", domain=DOMAIN)
def _import_global_max_pool(n: ImportNode) -> Any:
    return n.call("GlobalMaxPool", n.input(0))


@operator("Upsample", "X", domain=DOMAIN, scales="ints", mode="string", coordinate_transformation_mode="string")
def _import_upsample(n: ImportNode) -> Any:
    """Import a resizing by whole factors, ``nearest`` or ``linear``."""
    scales = n.constant(np.array(n.attr("scales", ()), np.float32), "scales")
    mode = n.attr("mode", "nearest")
    place = n.attr("coordinate_transformation_mode", "asymmetric")
    rounding = "floor" if mode == "nearest" else None
    return n.call(
        "Resize", n.input(0), None, scales, opset=19, mode=mode, coordinate_transformation_mode=place,
        nearest_mode=rounding,
    )  # fmt: skip
