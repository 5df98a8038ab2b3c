"""The pipeline of passes for CPUs."""

from __future__ import annotations

from convc.ir.passes.assign_layouts import assign_layouts
from convc.ir.passes.pack_dense import pack_dense
from convc.ir.passes.quantized_moves import quantized_moves
from convc.ir.pipeline import GROUP, SIMPLIFY, Pass, Pipeline, enter_loops

from .choices import Choices
from .layouts import Blocks
from .machine import Machine
from .passes.choose_algorithms import choose_algorithms
from .passes.convert_precision import convert_precision
from .passes.integer_products import integer_products
from .passes.narrow_constants import narrow_constants
from .passes.quantized_convs import quantized_convs

FEW_STEPS = 4
"""A loop of at most this many steps is spelt out: its states need not be row-major between steps. Four steps of a 3x3
convolution of 32 channels on 28x28 pixels take 183 us in this way and 241 us as a loop.
"""


def pipeline(machine: Machine, precision: str = "default", choices: Choices | None = None) -> Pipeline:
    """The pipeline for a machine.

    With ``precision="strict"`` every convolution is computed directly. ``choices`` are algorithms that measurements
    chose.
    """
    layouts = Blocks.for_machine(machine)
    algorithms = Pass("choose_algorithms", lambda g: choose_algorithms(g, machine, choices))
    return Pipeline(
        (
            *enter_loops(FEW_STEPS),
            Pass("convert_precision", convert_precision),
            Pass("quantized_moves", quantized_moves),
            Pass("quantized_convs", lambda g: quantized_convs(g, machine)),
            *SIMPLIFY,
            Pass("integer_products", lambda g: integer_products(g, machine)),
            Pass("assign_layouts", lambda g: assign_layouts(g, layouts)),
            *([] if precision == "strict" else [algorithms]),
            Pass("pack_dense", lambda g: pack_dense(g, layouts)),
            Pass("narrow_constants", narrow_constants),
            *GROUP,
        )
    )
