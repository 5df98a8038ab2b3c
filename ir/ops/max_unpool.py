"""Import of the inverse of max pooling."""

from __future__ import annotations

import math
from typing import Any

from ..errors import plural
from ..onnx_io import ImportNode, imports
from ..sizes import same_shape
from .pad import Pad
from .reshape import Reshape
from .scatter import ScatterElements


@imports("MaxUnpool")
def _import_max_unpool(n: ImportNode) -> Any:
    """Import MaxUnpool-22: zeros, with the elements of x at the flat indices at which MaxPool found them.

    The op becomes a scatter. The indices refer to a result of the natural size. Elements of ``output_shape`` beyond it
    are zeros at the end, as in onnx's reference.
    """
    x, indices = n.input(0), n.input(1)
    kernel = n.attr("kernel_shape") or ()
    rank = len(kernel)
    if rank != x.type.rank - 2 or not same_shape(indices.type.shape, x.type.shape):
        raise n.error(f"a kernel of {plural(rank, 'axis', 'axes')} and indices {indices.type} do not fit data {x.type}")
    strides, pads = n.ints_attr("strides", rank, 1, least=1), n.ints_attr("pads", 2 * rank)
    sizes = zip(x.type.sizes[2:], strides, kernel, pads[:rank], pads[rank:], strict=True)
    natural = (*x.type.sizes[:2], *((size - 1) * s - begin - end + k for size, s, k, begin, end in sizes))
    wanted = n.ints(2, "output_shape") or natural
    if len(wanted) != len(natural) or any(w < d for w, d in zip(wanted, natural, strict=True)):
        raise n.unsupported(f"output_shape {list(wanted)} is smaller than the natural size {list(natural)}")
    zeros = n.filled((math.prod(natural),), 0, x.type.dtype, "zeros")
    flat = [n.emit(Reshape((-1,)), v) for v in (indices, x)]
    y = n.emit(Reshape(natural, True), n.emit(ScatterElements(), zeros, *flat))
    if wanted == natural:
        return y
    return n.emit(Pad(tuple((0, w - d) for w, d in zip(wanted, natural, strict=True))), y)
