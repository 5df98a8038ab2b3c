"""The same elements in another shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, boolean, f32, i64, sample
from ..sizes import Dim, Size, Sizes, bounds, divided, equal, product, same, typical
from ..types import TensorType
from ._axes import axes_of, axis_of
from ._read_axes import is_read, shape_of, squeezed, unsqueezed


@dataclass(frozen=True)
class Reshape(Op):
    """The elements of the operand, in row-major order, in the shape ``shape``; ONNX Reshape-21.

    A size of -1 follows from the others; 0 copies the operand's size on that axis, or means zero with ``allowzero``.
    ONNX Flatten, Squeeze and Unsqueeze become this op.
    """

    name = "reshape"
    moves_elements = True
    rounds = False
    injective = True
    shape: Sizes = ()
    allowzero: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if any(d != -1 and not _is_size(d, x.shape) for d in self.shape) or self.shape.count(-1) > 1:
            raise ShapeError(f"shape {list(self.shape)} may hold -1 once, and no other negative size")
        if not self.allowzero and 0 in self.shape[x.rank :]:
            raise ShapeError(f"shape {list(self.shape)} copies an axis that the operand lacks")
        dims: list[Dim] = [x.shape[a] if self._copies(x.shape, a, d) else d for a, d in enumerate(self.shape)]
        if -1 in dims:
            at = dims.index(-1)
            dims[at] = _quotient(x.shape, dims[:at] + dims[at + 1 :])
        if not same(product(x.shape), product(dims)):
            raise ShapeError(f"{product(x.shape)} elements do not fit shape {list(dims)}")
        return TensorType(x.dtype, tuple(dims))

    def _copies(self, shape: Sizes, axis: int, d: Dim) -> bool:
        """Whether the axis is a copy of the operand's. An open size that is a factor of the operand's need not be: both
        are 0 together.
        """
        if self.allowzero or (isinstance(d, Size) and (axis >= len(shape) or divided(shape[axis], d) is not None)):
            return False
        return not d

    def at(self, values: Mapping[str, Dim]) -> Op:
        made = super().at(values)
        if made is self or not isinstance(made, Reshape) or any(made.named_sizes()):
            return made
        return replace(made, allowzero=made.allowzero and 0 in made.shape)  # one form of what means the same

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        if x.type.is_empty:
            return k.compute(outs[0], lambda *_: k.const(0, x.dtype))
        groups = _groups(x.shape, outs[0].shape)

        def element(*i: Any) -> Any:
            at: list[Any] = []
            for sources, targets in groups:
                position: Any = 0
                for axis in targets:
                    position = position * outs[0].shape[axis] + i[axis]
                parts: list[Any] = []
                for axis in reversed(sources):
                    outermost = axis == sources[0]
                    parts.append(k.simplify(position if outermost else position % x.shape[axis]))
                    position = 0 if outermost else position // x.shape[axis]
                at += reversed(parts)
            return x(*at)

        return k.compute(outs[0], element, "reshape")

    def reads_any_layout(self) -> bool:
        return True

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((2, 12)), f32[2, 3, 4])
        yield sample(cls((0, -1, 2)), f32[2, 3, 4])
        yield sample(cls((4, 3, 2)), i64[2, 3, 4])
        yield sample(cls(()), boolean[1, 1])
        yield sample(cls((1, -1)), f32[()])
        yield sample(cls((3, 5, 2, 2)), f32[6, 10])
        yield sample(cls((0, 5), allowzero=True), f32[3, 0])


@imports("Reshape", "Flatten", "Squeeze", "Unsqueeze", folds=True)
def _import_reshape(n: ImportNode) -> Any:
    x = n.input(0)
    if n.op_type in ("Squeeze", "Unsqueeze") and n.attr("axes") is None and is_read(n, 1):
        return (squeezed if n.op_type == "Squeeze" else unsqueezed)(n, 1)
    if n.op_type != "Reshape":
        return _reshape_to(n, _new_shape(n, x.type.shape))
    if n.attr("shape") is None and is_read(n, 1) and n.builder.known_sizes(n.input(1)) is None:
        return n.emit(Reshape(shape_of(n, 1, not n.attr("allowzero", 0)), True), x)
    shape = n.sizes_from("shape", 1)
    if shape is None:
        raise n.error("its shape is missing")
    return n.emit(Reshape(shape, bool(n.attr("allowzero", 0))), x)


@exports(Reshape)
def _export_reshape(op: Reshape, n: ExportNode) -> None:
    n.node("Reshape", [n.inputs[0], n.ints(op.shape)], n.outputs, allowzero=op.allowzero or None)


def _quotient(shape: Sequence[Dim], others: Sequence[Dim]) -> Dim:
    """The size that -1 stands for: the product of all sizes over that of the other ones."""
    number, divisor = product(shape), product(others)
    if divisor == 0 or not same(number, number // divisor * divisor):
        raise ShapeError(f"sizes {list(shape)} cannot be divided by {list(others)}: -1 has no value")
    return number // divisor


def _is_size(d: Dim, shape: Sequence[Dim]) -> bool:
    """Whether a size is not negative, as the product of some axes that follow each other is."""
    if bounds(d)[0] >= 0:
        return True
    products = (product(shape[i:j]) for i in range(len(shape)) for j in range(i + 1, len(shape) + 1))
    return d in products or d >= 0


def _groups(sources: Sizes, targets: Sizes) -> list[tuple[list[int], list[int]]]:
    """The axes of both shapes in the smallest groups of equal size: ``[2,3,4] -> [6,4]`` gives ``(0,1)->(0)``,
    ``(2)->(1)``.

    Open sizes are equal where their forms are. The last group holds the rest of the axes.
    """
    groups: list[tuple[list[int], list[int]]] = []
    s = t = 0
    while s < len(sources) or t < len(targets):
        mine, its = ([s], []) if s < len(sources) else ([], [t])
        s, t = s + len(mine), t + len(its)
        a, b = product(sources[i] for i in mine), product(targets[i] for i in its)
        while a != b and (s < len(sources) or t < len(targets)):
            if s == len(sources) or (t < len(targets) and typical(b) < typical(a)):
                b *= targets[t]
                its.append(t)
                t += 1
            else:
                a *= sources[s]
                mine.append(s)
                s += 1
        groups.append((mine, its))
    return groups


def _new_shape(n: ImportNode, shape: Sequence[Dim]) -> list[Dim]:
    """The shape of the result of a Flatten, Squeeze or Unsqueeze node."""
    if n.op_type == "Flatten":
        rank = len(shape)
        axis = n.attr("axis", 1)
        if not -rank <= axis <= rank:
            raise n.error(f"axis {axis} does not exist: the rank is {rank}")
        axis += rank if axis < 0 else 0
        return [product(shape[:axis]), product(shape[axis:])]
    axes = n.ints_from("axes", 1)
    if n.op_type == "Squeeze":
        gone = [a for a, d in enumerate(shape) if equal(d, 1)] if axes is None else axes_of(axes, len(shape))
        if not all(same(shape[a], 1) for a in gone):
            raise n.error(f"axes {list(gone)} of shape {list(shape)} are not all of size 1")
        return [d for a, d in enumerate(shape) if a not in gone]
    if axes is None:
        raise n.error("its axes are missing")
    rank = len(shape) + len(axes)
    added = axes_of(axes, rank)
    rest = iter(shape)
    return [1 if axis_of(a, rank) in added else next(rest) for a in range(rank)]


def _reshape_to(n: ImportNode, dims: Sequence[Dim]) -> Any:
    x = n.input(0)
    may_be_zero = any(bounds(d)[0] <= 0 for d in dims)
    return x if tuple(dims) == x.type.shape else n.emit(Reshape(tuple(dims), may_be_zero), x)
