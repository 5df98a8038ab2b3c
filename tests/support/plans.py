"""Hand-made plans of open sizes, whose kernels are functions of Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from convc.ir.builder import Builder
from convc.ir.op import f32
from convc.ir.ops.unary import Relu
from convc.runtime.cpu.code import Code, Function
from convc.runtime.cpu.plan import Base, Block, Call, Plan, Tensor, Variant, tensor
from convc.runtime.cpu.program import Program
from convc.runtime.description import Port

from .compiling import compiled

Kernel = Callable[[Sequence[int]], None]
_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_int64), ctypes.c_int64)


@cache
def _code() -> Code:
    b = Builder("relu")
    return compiled(b.finish([b.emit(Relu(), b.input("x", f32[2]))], ["y"])).machine_code


class Kernels:
    """Code whose kernels are functions of Python, given their arguments; ``convc_run`` is convc's own."""

    def __init__(self, kernels: Mapping[str, Kernel]) -> None:
        def called(kernel: Kernel) -> Any:
            def call(arguments: Any, context: int) -> int:
                kernel(arguments)
                return 0

            return _SIGNATURE(call)

        self._made = {name: called(kernel) for name, kernel in kernels.items()}

    def function(self, name: str) -> Function:
        return _code().function(name)

    def address(self, name: str) -> int:
        return int(ctypes.cast(self._made[name], ctypes.c_void_p).value or 0)


def floats(address: int, count: int) -> np.ndarray:
    """The float32 numbers at an address."""
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32) if count else np.empty(0)


def doubled(arguments: Sequence[int]) -> None:
    """Twice the operand: ``(x, y, scratch, n)``. It spoils its scratch memory of ``4*n`` bytes."""
    x, y, scratch, n = arguments[:4]
    floats(scratch, n)[:] = np.nan
    floats(y, n)[:] = 2 * floats(x, n)


def increased(arguments: Sequence[int]) -> None:
    """The operand plus 1: ``(x, y, scratch, n)``."""
    x, y, _, n = arguments[:4]
    floats(y, n)[:] = floats(x, n) + 1


CODE = {"double": doubled, "increase": increased}
INPUT, OUTPUT = Port("x", ("n", "width"), "float32"), Port("y", ("n", "width"), "float32")


def chain(layers: int = 4, **changes: Any) -> Plan:
    """A plan of ``y = (... 2*(2*x) ...) + 1``, each layer of which writes a tensor of its own."""
    calls, places = [], [(int(Base.PORTS), 0), *map(tensor, range(layers)), (Base.PORTS + 1, 0)]
    for i in range(layers + 1):
        calls.append(Call(int(i == layers), (places[i], places[i + 1]), 1, ("s0*s1",), f"node {i}"))
    tensors = tuple(Tensor("s0*s1", 4, i, i + 1, f"t{i}") for i in range(layers))
    kernels = ((Variant("double", "4*e0"),), (Variant("increase"),))
    given: dict[str, Any] = {"inputs": (("s0", "s1"),), "outputs": (("s0", "s1"),), "names": ("n", "width")}
    return Plan(kernels, Block(tuple(calls), tensors), Block(), (), (), 0, False, **(given | changes))


def program(plan: Plan, inputs: Sequence[Port] = (INPUT,), outputs: Sequence[Port] = (OUTPUT,)) -> Program:
    """A program that runs a plan by the kernels of ``CODE``."""
    return Program(Kernels(CODE), plan, {}, inputs, outputs, 1)
