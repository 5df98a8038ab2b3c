"""What was assumed of named sizes while shapes were inferred, to be checked when the sizes are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import ShapeError
from .sizes import RELATIONS, Dim, Size, at, bounds, decider, names, statement


@dataclass(frozen=True)
class Assumption:
    """That ``size >= 0``, ``size == 0`` or ``size != 0``; ``relation`` is the operator in it."""

    size: Size
    relation: str

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ValueError(f"{self.relation!r} relates no sizes")

    def __str__(self) -> str:
        return statement(self.size, self.relation)

    def at(self, values: Mapping[str, Dim]) -> Assumption | bool:
        """The assumption about other sizes, or whether it holds, where that is known."""
        size = at(self.size, values)
        return Assumption(size, self.relation) if isinstance(size, Size) else RELATIONS[self.relation](size, 0)


class Assumptions:
    """What was assumed, in order, each with what it was assumed for."""

    def __init__(self, made: Mapping[Assumption, str] | None = None) -> None:
        self.made: dict[Assumption, str] = dict(made or {})
        self.about = ""
        """What is being looked at, in words, such as a node."""
        self._closed = False

    def known(self, size: Size, relation: str) -> bool:
        """Whether what was assumed says that ``size >= 0``, or ``== 0``, or ``!= 0``."""
        if Assumption(size, relation) in self.made:
            return True
        if relation == "==":
            return Assumption(_negative(size), relation) in self.made
        if relation == "!=":
            return Assumption(_negative(size), relation) in self.made or self.known_beyond(size)
        return any(
            bounds(size - a.size)[0] >= 0 or (a.relation == "==" and bounds(size + a.size)[0] >= 0)
            for a in self.made
            if a.relation != "!=" and _share_names(a.size, size)
        )

    def known_beyond(self, size: Size) -> bool:
        """Whether what was assumed says that a size lies above or below 0."""
        return any(isinstance(s, Size) and self.known(s, ">=") for s in (size - 1, -size - 1))

    def assume(self, size: Size, relation: str) -> None:
        if self._closed:
            raise ShapeError(f"whether {statement(size, relation)} is not known here")
        self.made.setdefault(Assumption(size, relation), self.about)

    @contextmanager
    def noted(self, about: str) -> Iterator[None]:
        """Keep what is assumed in the block here, as assumed for ``about``, unless an outer block says what for.

        Outside of such a block nothing may be assumed.
        """
        before, token = self.about, decider.set(self)
        self.about = before or about
        try:
            yield
        finally:
            self.about = before
            decider.reset(token)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Assume nothing in the block: what is not known raises ``ShapeError``."""
        before, self._closed = self._closed, True
        try:
            yield
        finally:
            self._closed = before


class CodeAssumptions(Assumptions):
    """What code assumes. That a size is not 0 is taken for granted, since code for a tensor without elements runs no
    iteration.
    """

    def known(self, size: Size, relation: str) -> bool:
        granted = relation != "==" and bounds(size + (relation == ">="))[0] >= 0
        return granted or super().known(size, relation)


def check_assumptions(made: Mapping[Assumption, str], values: Mapping[str, Dim]) -> None:
    """Raise ``ShapeError``, naming the sizes, for values of which something that was assumed does not hold."""
    for assumption, about in made.items():
        if assumption.at(values) is False:
            given = dict.fromkeys(f"{n.name} = {values.get(n.name, n.name)}" for n in names(assumption.size))
            raise ShapeError(f"{about + ': ' if about else ''}it was inferred for {assumption}, but {', '.join(given)}")


def _negative(size: Size) -> Size:
    negative = -size
    assert isinstance(negative, Size)
    return negative


def _share_names(a: Size, b: Size) -> bool:
    return not {n.name for n in names(a)}.isdisjoint(n.name for n in names(b))
