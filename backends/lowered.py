"""Lowering of a group to tensor expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, te, tirx, topi

from convc.ir.assumptions import Assumption, CodeAssumptions
from convc.ir.dtypes import SMALL
from convc.ir.errors import CompileError, ConvcError, ShapeError, plural
from convc.ir.graph import Constant, Node, Value
from convc.ir.lowering import WIDE, Operand, TensorExpressions
from convc.ir.op import from_outside
from convc.ir.sizes import Dim, Size
from convc.ir.types import TensorType

from .extents import Variables
from .group import Group
from .guards import keep_nans
from .intrinsics import opaque
from .schedule import Schedule

NEEDS = "convc.needs"
"""The attribute of a function that lists the expressions of its extents that must be at least 0."""
Computes = Mapping[str, Callable[[TensorExpressions, Sequence[Operand], Sequence[TensorType]], Any]]
"""By the name of a node's output: the function that lowers it, instead of its op's own ``compute``."""


def lowered(group: Group, computes: Computes | None = None) -> Lowered:
    """Lower a group to tensor expressions; ``computes`` overrides how some of its nodes are lowered.

    Raises ``CompileError`` when a node is lowered to another shape or dtype than its type says.
    """
    variables = Variables(tirx)
    extents = [variables.add(size) for size in group.extents]
    assumed = group.body.assumptions
    asked = CodeAssumptions(assumed)
    with variables.used(), asked.noted(group.name):
        made = _lowered(group, computes)
    more = [a for a in asked.made if a not in assumed]
    needs = [variables.of(size) for assumption in more for size in _at_least_zero(assumption)]
    return replace(made, extents=extents, needs=needs)


def _at_least_zero(assumption: Assumption) -> list[Dim]:
    """The sizes that must be at least 0 for an assumption to hold. Raises ``ShapeError`` where no sizes say so."""
    size = assumption.size
    if assumption.relation == "!=":
        raise ShapeError(f"whether {assumption} is open here; fix the sizes with shapes={{...}} (--shape)")
    return [size] if assumption.relation == ">=" else [size, -size]


def _lowered(group: Group, computes: Computes | None) -> Lowered:
    k = TensorExpressions(te, tirx, topi, tvm.sym.Analyzer(), tvm.ir.Range.from_min_extent, keep_nans)
    operands: dict[str, Operand] = {}
    args = []
    for i, v in enumerate(group.body.inputs):
        tensor = te.placeholder(v.type.extents, v.type.tvm_dtype, f"a{i}")
        operands[v.name] = k.operand(tensor, v.type)
        args.append(tensor)
    for name, constant in group.body.constants.items():
        operands[name] = Immediate(k, None, constant.type, _number(constant))
    for node in group.body.nodes:
        compute = (computes or {}).get(node.output.name, node.op.compute)
        xs, types = [operands[v.name] for v in node.inputs], [v.type for v in node.outputs]
        for value, tensor in zip(node.outputs, _computed(node, partial(compute, k, xs, types)), strict=True):
            _check(node, value, tensor)
            operands[value.name] = k.operand(tensor, value.type)
    outputs = [operands[v.name].tensor for v in group.body.outputs]
    return Lowered(args, outputs, operands)


@dataclass(frozen=True)
class Immediate(Operand):
    """A constant of one element, which becomes an immediate in the code."""

    value: float | int | bool = 0

    def __call__(self, *index: Any) -> Any:
        number = tirx.const(self.value, self.type.tvm_dtype)
        return opaque(number) if self.type.tvm_dtype in WIDE else number


def _number(constant: Constant) -> float | int | bool:
    """The only element of a constant; for the small dtypes, its bits."""
    array = constant.array.reshape(-1)
    number: float | int | bool = (array.view(np.uint8) if constant.type.dtype in SMALL else array)[0].item()
    return number


@dataclass(frozen=True)
class Lowered:
    """A group as tensor expressions: arguments, outputs, the operand of every value, and variables for the extents.

    The expressions ``needs``, over these variables, must be at least 0: what was computed is right for such sizes.
    """

    args: list[Any]
    outputs: list[Any]
    operands: dict[str, Operand]
    extents: Sequence[Any] = ()
    needs: Sequence[Any] = ()

    def schedule(self) -> Any:
        """A fresh TIR schedule of the group, whose only function is called ``main``."""
        func = te.create_prim_func([*self.extents, *self.args, *self.outputs])
        # TVM adds no root block around a single block without loops, such as a sort
        if func.body.block.name_hint != "root":
            root = s_tir.SBlock([], [], [], "root", func.body)
            func = func.with_body(s_tir.SBlockRealize([], True, root))
        if self.needs:
            func = func.with_attr(NEEDS, list(self.needs))
        return Schedule(func)


def _computed(node: Node, compute: Callable[[], Any]) -> list[Any]:
    """The tensors that ``compute`` gives, one for each result of the node.

    Raises ``CompileError`` when it gives anything else, and names the error of an op that is not convc's own.
    """
    op = type(node.op)
    try:
        made = compute()
    except ConvcError:
        raise
    except Exception as e:
        if from_outside(op):
            raise CompileError(f"compute of class {op.__qualname__} raised {type(e).__name__}: {e}") from e
        raise
    made = list(made) if isinstance(made, list | tuple) or type(made).__name__ == "Array" else [made]
    if len(made) != len(node.outputs) or not all(isinstance(t, te.Tensor) for t in made):
        given = ", ".join(type(t).__name__ for t in made)
        raise CompileError(
            f"compute of class {op.__qualname__} must return {plural(len(node.outputs), 'tensor')} of k.compute, not "
            f"{given or 'nothing'}"
        )
    return made


def _check(node: Node, value: Value, tensor: Any) -> None:
    """Raise ``CompileError`` when a tensor's shape or dtype is not that of the value it was lowered from."""
    shape, stated = list(tensor.shape), value.type.extents
    fits = len(shape) == len(stated) and all(
        isinstance(d, Size) or int(s) == d for s, d in zip(shape, stated, strict=True)
    )
    if not fits or str(tensor.dtype) != value.type.tvm_dtype:
        raise CompileError(f"{node.describe()} was lowered to {tensor.dtype}{shape}, not {value.type}")
