"""Resampling of regions of images to one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import Dim, same_shape
from ..types import TensorType
from ._accumulate import accumulator
from ._axes import check_index, data_index
from ._math import maximum

MODES = ("avg", "max")
MOST_SAMPLES = 4096
"""The most samples along a side of a bin, which bounds the time for regions of any size."""
_START, _BIN, _LOW, _WEIGHT, _COUNT = range(5)
"""What is kept for each region and axis: where it begins, the size of a bin, a sample's element and its distance from
that, and the samples of a bin."""


@dataclass(frozen=True)
class RoiAlign(Op):
    """``y[r, c, i, j]`` is the mean or maximum of the samples in bin (i, j) of region r; ONNX RoiAlign-22, torchvision
    ``roi_align``.

    The operands are data ``N C H W``, regions ``R 4`` (x1, y1, x2, y2, which are multiplied by ``scale``), and the
    number of the image of each region, ``R``. A bin has ``sampling`` samples along each side, or as many as it has
    elements if ``sampling`` is 0. A sample is interpolated linearly; it is 0 if it lies more than one element outside.
    ``half_pixel`` shifts coordinates by half an element. In mode ``max`` the value of a sample is the largest of its
    four weighted elements, as in ONNX Runtime and onnx's reference.
    """

    on_gpu = False
    name = "roi_align"
    height: int = 1
    width: int = 1
    sampling: int = 0
    scale: float = 1.0
    half_pixel: bool = True
    mode: str = "avg"

    def infer(self, *types: TensorType) -> TensorType:
        x, rois, images = types
        check_index(images)
        if self.mode not in MODES or min(self.height, self.width) < 1 or self.sampling < 0:
            raise ShapeError(
                f"mode {self.mode!r}, size {self.height}x{self.width} or sampling {self.sampling} is wrong"
            )
        if x.rank != 4 or not x.is_float or 0 in x.shape or rois.dtype != x.dtype:
            raise ShapeError(f"takes data of rank 4 and regions of one float dtype, not {x} and {rois}")
        if rois.rank != 2 or images.rank != 1 or not same_shape(rois.shape, (images.shape[0], 4)):
            raise ShapeError(f"takes regions [R,4] and for each the number of its image [R], not {rois} and {images}")
        return x.with_shape((rois.shape[0], x.shape[1], self.height, self.width))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        out, wide = outs[0], accumulator(outs[0])
        regions, channels = out.shape[:2]
        kept = wide.with_shape((regions, 2, 5))

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            x, rois, images = ins
            y, state = results
            bins = self.height, self.width
            sizes = xs[0].shape[2:]

            def region(r: Any) -> Any:
                image = data_index(k, images(r), xs[0].shape[0])
                start = [self.begin(k, rois, state, r, axis, bins[axis]) for axis in (0, 1)]
                count = [state(r, axis, _COUNT).astype("int32") for axis in (0, 1)]
                total = k.tirx.max(count[0] * count[1], 1).astype(wide.tvm_dtype)

                def one_bin(i: Any, j: Any) -> Any:
                    def one_sample(s: Any, t: Any) -> Any:
                        at = [self.place(k, state, r, axis, (i, j)[axis], (s, t)[axis], sizes[axis]) for axis in (0, 1)]

                        def channel(c: Any) -> Any:
                            at_bin = (r, c, i, j)
                            return y.store(self.add(k, x, y, state, at_bin, image, sizes, s + t), *at_bin)

                        return block(k, *at, loop(k, channels, channel))

                    clear = loop(k, channels, lambda c: y.store(k.const(0, wide.tvm_dtype), r, c, i, j))
                    samples = loop(k, count[0], lambda s: loop(k, count[1], lambda t: one_sample(s, t)))
                    if self.mode == "max":
                        return block(k, clear, samples)
                    return block(
                        k, clear, samples, loop(k, channels, lambda c: y.store(y(r, c, i, j) / total, r, c, i, j))
                    )

                return block(k, *start, loop(k, bins[0], lambda i: loop(k, bins[1], lambda j: one_bin(i, j))))

            return loop(k, regions, region, parallel=regions != 1)

        made = loop_nest(k, [wide, kept], xs, body, self.name)[0]
        return made.tensor if wide == out else k.compute(out, lambda *i: made(*i).astype(out.tvm_dtype))

    def begin(self, k: TensorExpressions, rois: Memory, state: Memory, r: Any, axis: int, bins: int) -> Any:
        """The begin of a region along an axis, the size of its bins, and the number of their samples."""
        offset = 0.5 if self.half_pixel else 0.0
        low, high = (
            rois(r, 1 - axis + end).astype(str(state.buffer.dtype)) for end in (0, 2)
        )  # the regions have x before y
        low, high = (v * k.like(self.scale, v) - k.like(offset, v) for v in (low, high))
        size = high - low if self.half_pixel else k.tirx.max(high - low, k.like(1, low))
        width = size / k.like(bins, size)
        wanted = k.like(self.sampling, size) if self.sampling else k.tirx.ceil(width)
        count = k.select(wanted > k.like(0, size), k.tirx.min(wanted, k.like(MOST_SAMPLES, size)), k.like(0, size))
        return block(
            k, state.store(low, r, axis, _START), state.store(width, r, axis, _BIN), state.store(count, r, axis, _COUNT)
        )

    def place(self, k: TensorExpressions, state: Memory, r: Any, axis: int, i: Any, s: Any, size: Dim) -> Any:
        """The element before sample s of bin i, or -1 if the sample is outside, and the distance between them."""
        number = state(r, axis, _COUNT)
        begin, width = state(r, axis, _START), state(r, axis, _BIN)
        i, s = (v.astype(k.dtype(number)) for v in (i, s))
        p = begin + i * width + (s + k.like(0.5, number)) * width / number
        inside = k.tirx.all(p >= k.like(-1, p), p <= k.like(size, p))
        near = k.tirx.max(k.tirx.min(p, k.like(size - 1, p)), k.like(0, p))
        low = k.select(inside, k.tirx.floor(near), k.like(-1, p))
        kept = state(r, axis, _LOW)
        return block(
            k,
            state.store(low, r, axis, _LOW),
            state.store(k.select(inside, near - kept, k.like(0, p)), r, axis, _WEIGHT),
        )

    def add(
        self, k: TensorExpressions, x: Memory, y: Memory, state: Memory, at: Sequence[Any], image: Any,
        sizes: Sequence[Dim], number: Any,
    ) -> Any:  # fmt: skip
        """A result with one more sample added. ``number`` is 0 for the first sample."""
        r, c, *_ = at
        lows = [state(r, axis, _LOW).astype("int32") for axis in (0, 1)]
        far = [state(r, axis, _WEIGHT) for axis in (0, 1)]
        inside = k.tirx.all(*(low >= 0 for low in lows))
        terms = []
        for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row, column = (
                k.tirx.max(k.tirx.min(low + d, size - 1), 0) for low, d, size in zip(lows, (di, dj), sizes, strict=True)
            )
            weights = [w if d else k.like(1, w) - w for w, d in zip(far, (di, dj), strict=True)]
            value = x(image, c, row, column).astype(k.dtype(far[0])) * (weights[0] * weights[1])
            terms.append(k.select(inside, value, k.like(0, value)))
        if self.mode == "avg":
            return y(*at) + (terms[0] + terms[1] + (terms[2] + terms[3]))
        largest = maximum(k, maximum(k, terms[0], terms[1]), maximum(k, terms[2], terms[3]))
        return k.select(number == 0, largest, maximum(k, y(*at), largest))

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].numel * 8 * max(self.sampling, 2) ** 2

    @classmethod
    def cases(cls) -> Iterator[Case]:
        rois = np.array([[1, 1, 14, 18], [0.5, 2.25, 6, 5], [-9, -2, 40, 9], [7, 7, 7.5, 7.25]], np.float32)
        images = np.array([0, 1, 1, 0])
        for mode in MODES:
            for half in (True, False):
                yield sample(cls(3, 4, 2, 0.5, half, mode), f32[2, 3, 9, 8], rois, images)
        yield sample(cls(2, 2, 0, 0.5), f32[2, 3, 9, 8], rois, images)
        yield sample(cls(2, 3, 0, 1.0, False), f32[2, 2, 20, 16], rois, images)
        yield sample(cls(2, 2, 1), f64[1, 2, 6, 6], rois.astype(np.float64), images * 0)
        narrow = {"oracle": "reference", "note": "ONNX Runtime has no RoiAlign in float16"}
        yield sample(cls(2, 2, 2), f16[1, 2, 6, 6], np.array([[1, 1, 4, 4]], np.float16), np.array([0]), **narrow)


@imports("RoiAlign")
def _import_roi_align(n: ImportNode) -> Any:
    half = n.attr("coordinate_transformation_mode", "half_pixel" if n.opset >= 16 else "output_half_pixel")
    op = RoiAlign(
        n.attr("output_height", 1), n.attr("output_width", 1), n.attr("sampling_ratio", 0),
        n.attr("spatial_scale", 1.0), half == "half_pixel", n.attr("mode", "avg"),
    )  # fmt: skip
    return n.emit(op, *n.present_inputs())


@exports(RoiAlign)
def _export_roi_align(op: RoiAlign, n: ExportNode) -> None:
    n.node(
        "RoiAlign", n.inputs, n.outputs, output_height=op.height, output_width=op.width,
        sampling_ratio=op.sampling, spatial_scale=op.scale, mode=op.mode,
        coordinate_transformation_mode="half_pixel" if op.half_pixel else "output_half_pixel",
    )  # fmt: skip
