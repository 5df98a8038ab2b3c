"""Selection of the best of overlapping boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, sample
from ..sizes import Dim, largest, least, same, typical
from ..types import TensorType
from ._heap import COUNT, SLOTS, TAKEN, Heap
from .reshape import Reshape

_PICKED, _FOUND, _CLEAR = range(SLOTS, SLOTS + 3)
"""Additional columns of the heap's state, for each class of an image.

``_PICKED`` is the number of picked boxes, and ``_FOUND`` the number of boxes in the heap at first. ``_CLEAR`` is 1
while the current box overlaps no picked box so far.
"""


@dataclass(frozen=True)
class NonMaxSuppression(Op):
    """Indices (image, class, box) of the boxes picked for each class by falling score; ONNX NonMaxSuppression-11.

    Operands: boxes ``N B 4``, scores ``N C B``, the largest share of their union (IoU) that two picked boxes may have
    in common, and the score that a box must exceed. A box is two opposite corners (y, x, y, x), or with ``center`` its
    centre and size (x, y, width, height). At most ``most`` boxes of a class are picked. Of boxes with equal scores the
    one with the lower index comes first.

    The results are int64 of shape ``N*C*min(most, B) 3``, and the number of its rows in use. The other rows are 0.
    """

    on_gpu = False
    name = "non_max_suppression"
    counted = 0
    most: Dim = 0
    center: bool = False

    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        boxes, scores, *limits = types
        if len(limits) != 2 or any(t.dtype != "f32" for t in types) or any(t.shape != (1,) for t in limits):
            raise ShapeError("takes boxes, scores and two thresholds of shape [1], all of float32")
        if boxes.rank != 3 or scores.rank != 3 or not same(boxes.shape[2], 4):
            raise ShapeError(f"takes boxes [N,B,4] and scores [N,C,B], not {boxes} and {scores}")
        if not same(boxes.shape[0], scores.shape[0]) or not same(boxes.shape[1], scores.shape[2]):
            raise ShapeError(f"boxes {boxes} and scores {scores} differ in images or boxes")
        if self.most < 0:
            raise ShapeError(f"cannot pick {self.most} boxes")
        images, classes, count = scores.shape
        return TensorType("i64", (images * classes * least(self.most, count), 3)), TensorType("i64", (1,))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        images, classes, count = xs[1].shape
        groups, most = images * classes, least(self.most, count)
        if groups * most == 0:
            return [k.compute(t, lambda *_: k.const(0, "int64")) for t in outs]
        work = [TensorType("i32", (groups, size)) for size in (most, count, SLOTS + 3)]

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            rows, total, picked, _, state = results

            def row(g: Any, i: Any) -> Any:
                at = total(0).astype("int32") + i
                values = (g // classes, g % classes, picked(g, i))
                return block(k, *(rows.store(v.astype("int64"), at, a) for a, v in enumerate(values)))

            def gather(g: Any) -> Any:
                found = state(g, _PICKED)
                return block(k, loop(k, found, lambda i: row(g, i)), total.store(total(0) + found.astype("int64"), 0))

            zero = k.const(0, "int64")
            clear = loop(k, groups * most, lambda i: block(k, *(rows.store(zero, i, a) for a in range(3))))
            pick = loop(
                k, groups, lambda g: self.pick(k, ins, results, g, (classes, count, most)), parallel=groups != 1
            )
            return block(k, pick, clear, total.store(zero, 0), loop(k, groups, gather))

        return [r.tensor for r in loop_nest(k, [*outs, *work], xs, body, self.name)[:2]]

    def pick(
        self, k: TensorExpressions, ins: Sequence[Memory], results: Sequence[Memory], g: Any, sizes: Sequence[Dim]
    ) -> Any:
        """The loop over the boxes of one class of one image, where ``sizes`` are the numbers of classes, of boxes, and
        of boxes to pick: candidates come from a heap, the best first, and are
        compared with the boxes picked before.
        """
        boxes, scores, share, lowest = ins
        _, _, picked, left, state = results
        classes, count, most = sizes
        image, kind = g // classes, g % classes
        zero, one = k.const(0, "int32"), k.const(1, "int32")

        def better(a: Any, b: Any) -> Any:
            x, y = scores(image, kind, a), scores(image, kind, b)
            return k.tirx.any(x > y, k.tirx.all(x == y, a < b))

        heap = Heap(k, left, state, g, better, count)

        def compare(i: Any) -> Any:
            close = self.overlap(k, boxes, image, picked(g, i), state(g, TAKEN)) > share(0)
            return when(k, k.tirx.all(state(g, _CLEAR) > 0, close), state.store(zero, g, _CLEAR))

        def candidate(_: Any) -> Any:
            n = state(g, _PICKED)
            keep = block(k, picked.store(state(g, TAKEN), g, n), state.store(n + one, g, _PICKED))
            trial = block(
                k, heap.pop(), state.store(one, g, _CLEAR), loop(k, n, compare), when(k, state(g, _CLEAR) > 0, keep)
            )
            return when(k, n < most, trial)

        def add(i: Any) -> Any:
            n = state(g, COUNT)
            able = scores(image, kind, i) > lowest(0)
            return when(k, able, block(k, left.store(i, g, n), state.store(n + one, g, COUNT)))

        start = [state.store(zero, g, slot) for slot in (COUNT, _PICKED)]
        candidates = [state.store(state(g, COUNT), g, _FOUND), loop(k, state(g, _FOUND), candidate)]
        return block(k, *start, loop(k, count, add), heap.build(), *candidates)

    def overlap(self, k: TensorExpressions, boxes: Memory, image: Any, a: Any, b: Any) -> Any:
        """The intersection of two boxes over their union; 0 where a box has no area.

        It is rounded as in ONNX Runtime.
        """
        sides = [self.sides(k, [boxes(image, box, i) for i in range(4)]) for box in (a, b)]
        inner = [
            k.tirx.min(high, top) - k.tirx.max(low, bottom) for (low, high), (bottom, top) in zip(*sides, strict=True)
        ]
        zero = k.const(0, "float32")
        shared = inner[0] * inner[1]
        areas = [(high - low) * (top - bottom) for (low, high), (bottom, top) in sides]
        union = areas[0] + areas[1] - shared
        meet = k.tirx.all(*(v > zero for v in (*inner, *areas, union)))
        return k.select(meet, shared / k.select(meet, union, k.const(1, "float32")), zero)

    def sides(self, k: TensorExpressions, box: Sequence[Any]) -> list[tuple[Any, Any]]:
        """The begin and the end of a box along each axis."""
        if self.center:
            half = [size / k.const(2, "float32") for size in box[2:]]
            return [(middle - h, middle + h) for middle, h in zip(box[:2], half, strict=True)]
        return [(k.tirx.min(v, w), k.tirx.max(v, w)) for v, w in zip(box[:2], box[2:], strict=True)]

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[1].numel * max(1, min(typical(self.most), inputs[1].sizes[2]).bit_length())

    @classmethod
    def cases(cls) -> Iterator[Case]:
        rng = np.random.default_rng(7)
        corners = rng.uniform(0, 1, (2, 40, 4)).astype(np.float32)
        scores = rng.uniform(0, 1, (2, 3, 40)).astype(np.float32)
        half, low = np.array([0.5], np.float32), np.array([0.3], np.float32)
        yield sample(cls(10), corners, scores, half, low)
        yield sample(cls(100), corners, scores, low, half)
        yield sample(cls(5, True), corners, scores, low, low)
        yield sample(cls(7), corners, np.round(scores, 1), half, low)
        yield sample(cls(3), corners, scores, half, np.array([2.0], np.float32))
        yield sample(cls(0), corners, scores, half, low)


@imports("NonMaxSuppression")
def _import_non_max_suppression(n: ImportNode) -> Any:
    most = n.sizes(2, "max_output_boxes_per_class") or (0,)
    limits = []
    for i, missing in ((3, 0.0), (4, -np.inf)):
        given = n.optional(i)
        if given is None:
            given = n.constant(np.array([missing], np.float32))
        limits.append(given if given.type.shape == (1,) else n.emit(Reshape((1,)), given))
    op = NonMaxSuppression(largest(0, most[0]), bool(n.attr("center_point_box", 0)))
    return n.emit(op, n.input(0), n.input(1), *limits)


@exports(NonMaxSuppression)
def _export_non_max_suppression(op: NonMaxSuppression, n: ExportNode) -> None:
    most = n.ints([op.most], "most")
    inputs = [*n.inputs[:2], most, *n.inputs[2:]]
    n.node("NonMaxSuppression", inputs, n.outputs[:1], center_point_box=int(op.center))
    n.node("Shape", n.outputs[:1], n.outputs[1:], start=0, end=1)
