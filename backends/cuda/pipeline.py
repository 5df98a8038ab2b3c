"""The pipeline of passes for GPUs."""

from __future__ import annotations

from convc.ir.passes.assign_layouts import assign_layouts
from convc.ir.passes.pack_dense import pack_dense
from convc.ir.pipeline import GROUP, SIMPLIFY, Pass, Pipeline, enter_loops

from .layouts import ChannelsLast
from .passes.convert_precision import convert_precision


def pipeline(precision: str = "fp32") -> Pipeline:
    """The pipeline for a precision.

    With ``precision="fp16"``, what is float32 in the graph is computed in float16; inputs and outputs keep their
    dtypes.
    """
    layouts = ChannelsLast()
    return Pipeline(
        (
            *enter_loops(None),
            *SIMPLIFY,
            *([Pass("convert_precision", convert_precision)] if precision == "fp16" else []),
            Pass("assign_layouts", lambda g: assign_layouts(g, layouts)),
            Pass("pack_dense", lambda g: pack_dense(g, layouts)),
            *GROUP,
        )
    )
