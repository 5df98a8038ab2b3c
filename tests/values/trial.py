"""One case compiled, and run on values in watched memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from support.compiling import compiled
from support.tolerances import assert_close

from convc.backends.cpu.abi import CONTEXT
from convc.backends.cpu.backend import compile_graph
from convc.backends.cpu.pipeline import pipeline
from convc.backends.cpu.target import parse_target
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import Op
from convc.ir.types import TensorType
from convc.runtime.cpu.host import family_of
from convc.runtime.cpu.model import CpuModel
from convc.runtime.cpu.plan import Base

from .guard import POISON, Guarded

PARTS = CONTEXT.index("parts")
SMALL = 1 << 16
"""Working memory of at most this many bytes is filled with poison before every run."""


def graph_of(op: Op, types: Sequence[TensorType]) -> Graph:
    """A graph of one op, all of whose operands are inputs."""
    b = Builder("values")
    made = b.emit(op, *(b.input(f"x{i}", t) for i, t in enumerate(types)))
    return b.finish(made if isinstance(made, tuple) else (made,))


@dataclass(frozen=True)
class _Place:
    """The memory of one run: operands, results, working memory, and the addresses that the code takes."""

    inputs: list[Guarded]
    outputs: list[Guarded]
    workspace: Guarded
    addresses: tuple[int, int]
    kept: object


class Trial:
    """Machine code of one op, and memory for two runs with different surroundings.

    In the first run arrays end where memory ends, in the second they begin where it begins.
    """

    def __init__(self, graph: Graph) -> None:
        target = parse_target("cpu", 1)
        self.model: CpuModel = compile_graph(graph, target, pipeline(target.machine), 1)
        self._program = self.model.program
        self._places = [self._place(at_end, poison) for at_end, poison in zip((True, False), POISON, strict=True)]

    def _place(self, at_end: bool, poison: int) -> _Place:
        made = self.model.outputs
        inputs, outputs = ([Guarded(p.nbytes, at_end, poison) for p in ports] for ports in (self.model.inputs, made))
        space = self._program._new_space()
        calls = space.ready.sized.calls
        workspace = Guarded(calls.workspace + calls.part, at_end, poison)
        for i, g in enumerate((*inputs, *outputs), Base.PORTS):
            space.bases[i] = g.address
        space.bases[Base.WORKSPACE] = workspace.address
        context = (ctypes.c_int64 * len(space.ready.context))(*space.ready.context)
        context[PARTS] = workspace.address + calls.workspace
        addresses = (ctypes.addressof(space.ready.arguments), ctypes.addressof(context))
        return _Place(inputs, outputs, workspace, addresses, (space, context))

    def __call__(self, arrays: Sequence[np.ndarray], number: int = 0) -> list[np.ndarray]:
        """The results on these arrays. Raises ``AssertionError`` when they depend on what lies around the arrays."""
        found = []
        for place in self._places:
            for g, array in zip(place.inputs, arrays, strict=True):
                g.bytes[:] = array.reshape(-1).view(np.uint8)
            for g in place.outputs:
                g.fill()
            if place.workspace.bytes.size <= SMALL or number % 64 == 0:
                place.workspace.fill()
            self._program._run_calls(*place.addresses)
            assert all(g.intact() for g in (*place.inputs, *place.outputs, place.workspace)), (
                "it writes beyond its arrays"
            )
            for g, array in zip(place.inputs, arrays, strict=True):
                assert (g.bytes == array.reshape(-1).view(np.uint8)).all(), "it changes an operand"
            found.append([g.bytes.tobytes() for g in place.outputs])
        assert found[0] == found[1], "the result depends on what lies around the operands"
        made = self.model.outputs
        return [np.frombuffer(b, p.dtype).reshape(p.sizes) for b, p in zip(found[0], made, strict=True)]


def other(graph: Graph) -> CpuModel:
    """The graph compiled for an older processor of the family and two threads, which shares out even little work."""
    family = family_of(parse_target("cpu").triple.partition("-")[0])
    return compiled(graph, {"x86_64": "x86-64-v2"}.get(family, "cpu"), threads=2)


def agree(op: Op, got: Sequence[np.ndarray], want: Sequence[np.ndarray], ordinary: bool) -> None:
    """Assert that two configurations agree: to the bit where the op does not round, NaN being NaN."""
    for g, w in zip(got, want, strict=True):
        if not op.rounds:
            np.testing.assert_array_equal(_numbers(g), _numbers(w), err_msg="two processors disagree")
        elif ordinary:
            assert_close(g, w, "two processors disagree")


def _numbers(x: np.ndarray) -> np.ndarray:
    """The array in a dtype of numpy's own, whose NaN it knows."""
    return x if x.dtype.isbuiltin == 1 else x.astype(np.float64)
