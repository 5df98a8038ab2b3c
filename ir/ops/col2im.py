"""Images from their overlapping blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError, plural
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import divides, same
from ..types import TensorType
from ._accumulate import accumulator, rounded
from ._transposed import Axis
from ._window import Ints, Pads, flat_pads, full, full_pads, out_size


@dataclass(frozen=True)
class Col2Im(Op):
    """The sum of overlapping windows, ``y[n, c, s*i + d*k - pad] += x[n, (c, k), i]``; ONNX Col2Im-18, PyTorch
    ``fold``.

    Data ``N C*prod(kernel) windows``, both last axes row-major; result ``N C image``.
    """

    name = "col2im"
    image: Ints
    kernel: Ints
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()

    def geometry(self) -> tuple[Ints, Pads, Ints]:
        """Strides, pads and dilations, one per spatial axis."""
        rank = len(self.image)
        return full(self.strides, rank), full_pads(self.pads, rank), full(self.dilations, rank)

    def windows(self) -> Ints:
        """The number of windows along each axis."""
        sizes = zip(self.image, self.kernel, *self._by_axis(), strict=True)
        return tuple(int(out_size(size, kernel, s, d, p)) for size, kernel, s, p, d in sizes)

    def _by_axis(self) -> tuple[Ints, Pads, Ints]:
        if len(self.kernel) != len(self.image) or not self.image:
            raise ShapeError(
                f"a kernel {list(self.kernel)} does not fit an image of {plural(len(self.image), 'axis', 'axes')}"
            )
        return self.geometry()

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.is_float or x.rank != 3:
            raise ShapeError("takes floats of rank 3")
        count, windows = math.prod(self.kernel), self.windows()
        if not divides(count, x.shape[1]) or not same(x.shape[2], math.prod(windows)):
            raise ShapeError(f"{x} does not hold blocks of {list(self.kernel)} for {list(windows)} windows")
        return x.with_shape((x.shape[0], x.shape[1] // count, *self.image))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,), acc, windows = xs, accumulator(outs[0]), self.windows()
        axes = [
            Axis(size, kernel, s, d, pad[0])
            for size, kernel, s, pad, d in zip(windows, self.kernel, *self.geometry(), strict=True)
        ]
        taps = [k.reduce_axis(axis.taps, "tap") for axis in axes]

        def element(n: Any, c: Any, *i: Any) -> Any:
            met = [axis.meet(j, t) for axis, j, t in zip(axes, i, taps, strict=True)]
            row: Any = c
            column: Any = 0
            for (source, tap, _), size, kernel in zip(met, windows, self.kernel, strict=True):
                row, column = row * kernel + tap, column * size + source
            inside = k.tirx.all(*(test for _, _, tests in met for test in tests))
            return k.te.sum(
                k.guarded(inside, x(n, row, column).astype(acc.tvm_dtype), k.const(0, acc.tvm_dtype)), axis=taps
            )

        return rounded(k, k.operand(k.compute(acc, element, self.name), acc), outs[0])

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].numel

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((5, 6), (2, 3)), f32[2, 18, 16])
        yield sample(cls((6, 5), (3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)), f32[1, 12, 15])
        yield sample(cls((4, 4, 5), (2, 2, 2), (2, 2, 1)), f32[1, 8, 16])
        yield sample(cls((9,), (3,), (3,)), f64[1, 6, 3], oracle="reference", note="ONNX Runtime takes only float32")
        yield sample(cls((4, 4), (3, 3)), f16[1, 9, 4], oracle="reference", note="ONNX Runtime takes only float32")


@imports("Col2Im")
def _import_col2_im(n: ImportNode) -> Any:
    image, kernel = n.ints(1, "image_shape") or (), n.ints(2, "block_shape") or ()
    flat = n.attr("pads") or (0,) * (2 * len(image))
    pads = tuple(zip(flat[: len(image)], flat[len(image) :], strict=True))
    return n.emit(Col2Im(image, kernel, n.attr("strides", ()), pads, n.attr("dilations", ())), n.input(0))


@exports(Col2Im)
def _export_col2_im(op: Col2Im, n: ExportNode) -> None:
    strides, pads, dilations = op.geometry()
    sizes = [n.ints(v, hint) for v, hint in ((op.image, "image"), (op.kernel, "block"))]
    n.node(
        "Col2Im", [n.inputs[0], *sizes], n.outputs, strides=strides, pads=flat_pads(pads), dilations=dilations
    )  # fmt: skip
