"""The sizes of a call: what they are by the shapes of its inputs, and whether the model takes them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convc.ir.errors import InputError, LimitError, SizeError
from convc.ir.shapes import Bound, StatedSize, mismatch

from ..description import Port
from ..expressions import LARGEST, Count, compiled, spelt_out
from ..offsets import MAX_ELEMENTS
from .plan import NAME, Assumed, Block, Call, Plan, Shape, names_in

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of several tensors."""
Made = dict[int, tuple[int, ...]]
"""The shapes of outputs, by their numbers."""
SHOWN = 8
"""The number of sizes that an error shows which is about none of them."""
_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {"==": operator.eq, ">=": operator.ge, "!=": operator.ne}


class Values:
    """The values of the numbers and expressions of a plan in one call."""

    def __init__(self, plan: Plan, sizes: Sequence[int] = ()) -> None:
        """``sizes`` are the values of the plan's named sizes, as far as they are known. Those of expressions are added
        (``add``).
        """
        self._plan, self._sizes = plan, sizes
        self._found: dict[str, int] = {}

    def add(self, expressions: Sequence[str], evaluate: Callable[..., tuple[int, ...]]) -> None:
        """Add the values of expressions. Raises ``SizeError`` for those that no 64-bit integer holds."""
        try:
            self._found |= zip(expressions, evaluate(*self._sizes), strict=True)
        except ZeroDivisionError:
            raise SizeError(f"a size of the model is divided by 0{self.given()}") from None
        for text, value in self._found.items():
            if abs(value) > LARGEST:
                raise SizeError(f"size {self.spelt(text)} is too large{self.given(text)}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The values of the named sizes."""
        return tuple(self._sizes)

    def __getitem__(self, count: Count) -> int:
        return count if isinstance(count, int) else self._found[count]

    def spelt(self, count: Count) -> str:
        """A number or expression as people read it."""
        return spelt_out(count, self._plan.names)

    def given(self, *about: Count) -> str:
        """The sizes in these expressions, or all, as the end of a sentence about them."""
        used = {int(i) for text in about for i in NAME.findall(str(text))}
        pairs = enumerate(zip(self._plan.names, self._sizes, strict=False))
        shown = [f"{name} = {size}" for i, (name, size) in pairs if i in used or (not about and i < SHOWN)]
        return f" for {', '.join(shown)}" if shown else ""

    def tensor(self, elements: Count, itemsize: int, name: str) -> int:
        """The elements of a tensor. Raises ``SizeError`` or ``LimitError`` for a number that cannot be."""
        number, most = self[elements], self._plan.tensor_bytes
        if number < 0:
            raise SizeError(f"'{name}' would have {number} elements{self.given()}")
        if number > MAX_ELEMENTS:
            raise SizeError(f"'{name}' has {number} elements{self.given()}; a tensor holds at most {MAX_ELEMENTS}")
        if number * itemsize > most:
            raise LimitError(f"'{name}' has {number * itemsize} bytes{self.given()}; {_limited('tensor_bytes', most)}")
        return number

    def workspace(self, nbytes: int) -> None:
        """Raise ``LimitError`` when a call would need too much memory, and ``SizeError`` when it would be negative."""
        most = self._plan.workspace_bytes
        if nbytes < 0:
            raise SizeError(f"{nbytes} bytes of workspace would be needed{self.given()}")
        if nbytes > most:
            needed = f"{nbytes} bytes of workspace are needed{self.given()}"
            raise LimitError(f"{needed}; {_limited('workspace_bytes', most)}")

    def shape(self, shape: Shape, name: str) -> tuple[int, ...]:
        """The shape of an output. Raises ``SizeError`` for a negative size."""
        made = tuple(self[size] for size in shape)
        for axis, (size, stated) in enumerate(zip(made, shape, strict=True)):
            if size < 0:
                raise SizeError(f"axis {axis} of output '{name}' would have size {size}{self.given(stated)}")
        return made

    def check(self, assumed: Assumed) -> None:
        """Raise ``SizeError`` when what was assumed does not hold."""
        if not _RELATIONS[assumed.relation](self[assumed.size], 0):
            about = f"{assumed.about}: " if assumed.about else ""
            given = names_in((assumed.size,)) <= self._plan.known[0]
            other = "; where the network takes these sizes, compile it for them with shapes={...} (--shape)"
            raise SizeError(
                f"{about}the code is for {assumed.statement}, which is not so{self.given(assumed.size)}"
                f"{other if given else ''}",
                is_assumed=given,
            )


def _limited(name: str, most: int) -> str:
    return f"the limit is {most}: raise it when you compile, with limits=convc.Limits({name}=...) (--limit {name}=...)"


@dataclass(frozen=True)
class _Stage:
    """What a segment needs of the sizes that are known when it runs: what is checked first, and the rest.

    ``used`` are the numbers of the named sizes in it, and ``outputs`` those of the outputs whose shapes are known from
    here on.
    """

    assumptions: tuple[Assumed, ...]
    parts: tuple[tuple[list[str], Callable[..., tuple[int, ...]]], ...]
    used: tuple[int, ...]
    outputs: tuple[int, ...]

    @staticmethod
    def of(plan: Plan, index: int) -> _Stage:
        """The stage of a segment. Raises ``ValueError`` for an expression of sizes that are not known yet."""
        known, before = plan.known[index], plan.known[index - 1] if index else -1

        def newly(*sizes: Count) -> bool:
            return before < names_in(sizes) <= known

        assumptions = tuple(a for a in plan.assumptions if newly(a.size))
        outputs = tuple(i for i, shape in enumerate(plan.outputs) if newly(*shape))
        stated = [size for shape in plan.inputs for size in shape] if not index else []
        checked = texts([*stated, *(a.size for a in assumptions)])
        shapes = [size for shape in plan.outputs if names_in(shape) <= known for size in shape]
        blocks = plan.blocks
        kept = [blocks[segment].tensors[at].elements for segment, at in plan.kept if segment <= index]
        more = [t for t in texts([*counts(blocks[index]), *shapes, *kept]) if t not in set(checked)]
        names = [f"s{i}" for i in range(known)]
        used = {int(i) for text in (*checked, *more) for i in NAME.findall(text)}
        parts = tuple((part, compiled(part, names)) for part in (checked, more))
        return _Stage(assumptions, parts, tuple(sorted(used)), outputs)


class Sizer:
    """Finds the values of a plan's numbers for the shapes of inputs, and for sizes that data decides."""

    def __init__(self, plan: Plan, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """``outputs`` are all that the code writes.

        Raises ``ValueError`` for a plan that does not go with the ports, or is damaged.
        """
        self._plan, self._inputs, self._outputs = plan, inputs, outputs
        _check_ports(inputs, plan.inputs)
        _check_ports(outputs, plan.outputs)
        names = [f"s{i}" for i in range(plan.known[0])]
        if not {size for shape in plan.inputs for size in shape}.issuperset(names):
            raise ValueError("a named size follows from no input")
        if any(a.relation not in _RELATIONS for a in plan.assumptions):
            raise ValueError("an assumption relates nothing")
        self._stages = [_Stage.of(plan, i) for i in range(len(plan.blocks))]

    def used(self, segment: int) -> tuple[int, ...]:
        """The numbers of the named sizes on which the plan of a segment depends."""
        return self._stages[segment].used

    def at(self, shapes: Shapes) -> tuple[Values, Made]:
        """The values for inputs of these shapes, and the shapes of the outputs, as far as they are known.

        Raises ``InputError``, naming the input, the axis and the sizes, for shapes that the model does not take,
        ``SizeError`` for those that the code does not take, and ``LimitError`` for tensors of too many bytes.
        """
        stage = self._stages[0]
        values = Values(self._plan, self._bound(shapes))
        values.add(*stage.parts[0])
        for port, stated, given in zip(self._inputs, self._plan.inputs, shapes, strict=True):
            for axis, (size, found) in enumerate(zip(stated, given, strict=True)):
                if values[size] != found:
                    raise InputError(
                        f"axis {axis} of input '{port.name}' has size {found}; the model takes "
                        f"{values.spelt(size)} there, which is {values[size]}{values.given(size)}"
                    )
        for port, shape in zip(self._inputs, shapes, strict=True):
            values.tensor(math.prod(shape), np.dtype(port.dtype).itemsize, port.name)
        return values, self._rest(stage, values)

    def after(self, segment: int, sizes: Sequence[int]) -> tuple[Values, Made]:
        """The values for a later segment, and the shapes of the outputs that are known from there on.

        ``sizes`` are the values of all named sizes that are known. Raises ``SizeError`` for sizes that the code does
        not take, and ``LimitError`` for tensors of too many bytes.
        """
        stage, values = self._stages[segment], Values(self._plan, sizes)
        values.add(*stage.parts[0])
        return values, self._rest(stage, values)

    def _rest(self, stage: _Stage, values: Values) -> Made:
        """Check what was assumed, and add the other values. Returns the shapes of the outputs that are known now."""
        for assumed in stage.assumptions:
            values.check(assumed)
        values.add(*stage.parts[1])
        made: Made = {}
        for i in stage.outputs:
            port = self._outputs[i]
            made[i] = values.shape(self._plan.outputs[i], port.name)
            values.tensor(math.prod(made[i]), np.dtype(port.dtype).itemsize, port.name)
        return made

    def _bound(self, shapes: Shapes) -> list[int]:
        """The values of the named sizes. Raises ``InputError`` for a shape that does not fit."""
        bound: Bound = {}
        for port, stated, given in zip(self._inputs, self._plan.inputs, shapes, strict=True):
            wrong = mismatch(f"input '{port.name}'", self._takes(port, stated, given), given, bound)
            if wrong:
                raise InputError(wrong)
        return [int(bound[name][0]) for name in self._plan.names[: self._plan.known[0]]]

    def _takes(self, port: Port, stated: Shape, given: Sequence[int]) -> Sequence[StatedSize]:
        """The shape that an input must have, where a size that follows from others is whatever is given."""
        if len(stated) != len(given):
            return port.shape
        names = {f"s{i}": name for i, name in enumerate(self._plan.names[: self._plan.known[0]])}
        return [s if isinstance(s, int) else names.get(s, g) for s, g in zip(stated, given, strict=True)]


def _check_ports(ports: Sequence[Port], shapes: Sequence[Shape]) -> None:
    """Raise ``ValueError`` when shapes are not those of the ports."""
    for port, shape in zip(ports, shapes, strict=True):
        fixed = [[None if isinstance(size, str) else size for size in stated] for stated in (shape, port.shape)]
        if fixed[0] != fixed[1]:
            raise ValueError(f"'{port.name}' has shape {shape}, and is {port}")


def counts(block: Block) -> Iterator[Count]:
    """All numbers and expressions in a block that may depend on the sizes of a call."""
    for t in block.tensors:
        yield t.elements
    for call in block.calls:
        if isinstance(call, Call):
            yield from call.extents
            yield from (offset for _, offset in call.arguments)
        else:
            yield from (call.steps, call.states)
            for v in call.bases:
                yield from (v.first[1], v.even[1], v.odd[1], v.stride)
            yield from counts(call.block)


def texts(found: Iterable[Count]) -> list[str]:
    """The expressions among numbers and expressions, each once."""
    return list(dict.fromkeys(c for c in found if isinstance(c, str)))
