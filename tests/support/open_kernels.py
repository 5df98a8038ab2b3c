"""Kernels of open sizes, compiled alone and called at several sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np

from convc.backends.cpu.codegen import sequential
from convc.backends.cpu.lower import generate, lower
from convc.backends.cpu.machine_code import MachineCode, object_of
from convc.backends.cpu.rules import RULES, Rule
from convc.backends.cpu.target import Target, host_target
from convc.backends.group import Group, extents_given
from convc.backends.kernels import ask
from convc.ir.graph import Node
from convc.ir.sizes import at
from convc.ir.types import TensorType


class OpenKernel:
    """The kernel of a node, whose sizes may be open."""

    def __init__(self, node: Node, target: Target | None = None, rules: Sequence[Rule] = RULES) -> None:
        target = target or host_target()
        self.node, self.group = node, Group.of(node)
        func, self.rule = ask(rules, self.group, target)
        func = sequential(func)
        self.lowered = lower(func, "convc_kernel", target)
        self.module = generate(self.lowered, target)
        self._code = MachineCode([object_of(self.module)], target)

    def takes(self, values: Mapping[str, int]) -> bool:
        """Whether the kernel's code is right at values of the named sizes."""
        inside = self._inside(values)
        return all(int(at(size, inside)) >= least for size, least in self.lowered.needs)

    def _inside(self, values: Mapping[str, int]) -> dict[str, int]:
        """The values of the kernel's own names of sizes."""
        extents = [int(at(size, values)) for size in extents_given(self.node)]
        return dict(zip((str(e) for e in self.group.extents), extents, strict=True))

    def __call__(self, values: Mapping[str, int], operands: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The results at values of the named sizes, as arrays in the layouts of the node's outputs."""
        node = self.node
        given = dict(zip((v.name for v in node.inputs), operands, strict=True))
        arrays = [np.ascontiguousarray(a) for a in given.values()]
        results = [np.zeros(_at(v.type, values), v.type.numpy_dtype) for v in node.outputs]
        inside = self._inside(values)
        extents = list(inside.values())
        scratch = np.zeros(int(at(self.lowered.scratch, inside)) + 64, np.uint8)
        addresses = [a.ctypes.data for a in (*arrays, *results)]
        arguments = (ctypes.c_int64 * (len(addresses) + 1 + len(extents)))(
            *addresses, scratch.ctypes.data + -scratch.ctypes.data % 64, *extents
        )
        context = (ctypes.c_int64 * 5)(0, 0, 1, 0, 0)
        self._code.function("convc_kernel")(ctypes.addressof(arguments), ctypes.addressof(context))
        return results


def _at(t: TensorType, values: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(int(at(d, values)) for d in t.extents)
