"""Integers that the code computes, and that are sizes from there on (``data_sizes.py``)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ShapeError
from ..onnx_io import ExportNode, exports
from ..op import READ, Op
from ..sizes import Named, Size, Sizes
from ..types import TensorType


@dataclass(frozen=True)
class ReadSizes(Op):
    """Defines a named size for each element of an int64 tensor, in row-major order. The result is the tensor.

    No code computes it: the runtime reads the numbers, and refuses those out of the bounds of their names.
    """

    name = READ
    rounds = False
    on_gpu = False
    between_segments = True
    sizes: Sizes = ()

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.dtype != "i64" or not x.is_static or x.numel != len(self.sizes) or not self.sizes:
            raise ShapeError(f"takes an int64 tensor with an element for each of {list(self.sizes)}, not {x}")
        atoms = [size.atom if isinstance(size, Size) else None for size in self.sizes]
        if not all(isinstance(a, Named) for a in atoms) or len(set(atoms)) < len(atoms):
            raise ShapeError(f"defines sizes by their names, each once, not {list(self.sizes)}")
        return x

    def defines(self) -> Sizes:
        return self.sizes


@exports(ReadSizes)
def _export_read_sizes(op: ReadSizes, n: ExportNode) -> None:
    n.node("Identity", n.inputs, n.outputs)
