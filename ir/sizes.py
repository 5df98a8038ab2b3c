"""Sizes of tensors that are known when a model is called: expressions over named sizes.

A size is an integer or a ``Size``, a polynomial with integer coefficients in atoms: named sizes, floor quotients, and
the least or the largest of several sizes. Equal sizes have equal forms as far as rules of arithmetic show it: sums and
products are expanded, quotients are brought to lowest terms. A comparison that no rule decides is assumed to come out
as it does for the typical values of the named sizes, and what was assumed is kept (``Assumptions``).

This is how PyTorch's symbolic shapes work (J. Ansel and others, PyTorch 2, ASPLOS 2024, section 4.6).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce, wraps
from typing import Any, ClassVar, Protocol, TypeVar, Union

from .errors import ShapeError

LARGEST = 200
"""The number of names and operations up to which an expression may grow."""
_TOO_LONG = "a size is too long an expression; fix the sizes of inputs with shapes={...} (--shape)"
MOST = (1 << 31) - 1
"""No size of an axis is larger than this."""
TYPICAL = 224
"""The typical value of a named size of which nothing is said."""
FIRST_AXIS = 1
"""The typical value of a named size on the first of several axes: most often, one image at a time is computed."""
ON_AXES = {4: 224, 5: 64}
"""The typical value of a named size on another axis of a tensor of this rank: an image, or a volume or clip."""
ON_AXIS = 128
"""The typical value of a named size on any other axis, such as the length of a sequence."""


@dataclass(frozen=True)
class Named:
    """A named size. It lies between ``least`` and ``most``, and cost models take it to be ``typical``.

    A graph has one of each name (``Builder.input``).
    """

    name: str
    least: int = 0
    most: int = MOST
    typical: int = TYPICAL

    weight: ClassVar[int] = 1

    def __hash__(self) -> int:
        return hash(self.name)

    def spell(self, name: Spelling) -> str:
        return name(self.name)

    def at(self, values: Mapping[str, Dim]) -> Dim:
        return values.get(self.name, Size.of(self))

    def bounds(self) -> tuple[int, int]:
        return self.least, self.most

    def names(self) -> Iterator[Named]:
        yield self


@dataclass(frozen=True)
class Quotient:
    """``numerator // denominator``, rounded down. The denominator is at least 1."""

    numerator: Size
    denominator: Dim

    @cached_property
    def _hash(self) -> int:
        return hash((self.numerator, self.denominator))

    def __hash__(self) -> int:
        return self._hash

    @property
    def weight(self) -> int:
        return 1 + weight(self.numerator) + weight(self.denominator)

    def spell(self, name: Spelling) -> str:
        return f"{_factor(self.numerator, name)}//{_factor(self.denominator, name)}"

    def at(self, values: Mapping[str, Dim]) -> Dim:
        return self.numerator.at(values) // at(self.denominator, values)

    def bounds(self) -> tuple[int, int]:
        (low, high), (small, large) = bounds(self.numerator), bounds(self.denominator)
        ends = [n // d for n in (low, high) for d in (max(small, 1), max(large, 1))]
        return min(ends), max(ends)

    def names(self) -> Iterator[Named]:
        yield from names(self.numerator)
        yield from names(self.denominator)


@dataclass(frozen=True)
class Extreme:
    """The largest of several sizes, or the least of them."""

    largest: bool
    sizes: tuple[Dim, ...]

    @property
    def weight(self) -> int:
        return 1 + sum(map(weight, self.sizes))

    def spell(self, name: Spelling) -> str:
        return f"{'max' if self.largest else 'min'}({', '.join(spelt(size, name) for size in self.sizes)})"

    def at(self, values: Mapping[str, Dim]) -> Dim:
        return _extreme(self.largest, [at(size, values) for size in self.sizes])

    def bounds(self) -> tuple[int, int]:
        pick = max if self.largest else min
        low, high = zip(*map(bounds, self.sizes), strict=True)
        return pick(low), pick(high)

    def names(self) -> Iterator[Named]:
        for size in self.sizes:
            yield from names(size)


Spelling = Callable[[str], str]
"""How the names of sizes are written."""

expressions: ContextVar[Callable[[Size, str], Any] | None] = ContextVar("expressions", default=None)
"""What makes an expression of TVM of a size and a dtype, while kernels are lowered (``backends/extents.py``)."""


def expression(size: Size, dtype: str = "int32") -> Any:
    """An expression of a dtype of TVM for a size, while kernels are lowered."""
    make = expressions.get()
    if make is None:
        raise TypeError(f"size {size} is open here, where no kernel is lowered")
    return make(size, dtype)


Operation = TypeVar("Operation", bound=Callable[..., Any])


def _with_expressions(operation: Operation) -> Operation:
    """An operator of two sizes that also takes an expression of TVM as its right operand."""
    plain = getattr(operator, operation.__name__.replace("__r", "__"))
    reflected = operation.__name__.startswith("__r")

    @wraps(operation)
    def combined(self: Size, other: Any) -> Any:
        if isinstance(other, Dims):
            return operation(self, other)
        if expressions.get() is None:
            return NotImplemented
        return plain(other, expression(self)) if reflected else plain(expression(self), other)

    return combined  # type: ignore[return-value]


Atom = Named | Quotient | Extreme
Monomial = tuple[Atom, ...]
"""A product of atoms, in the order of their text. An atom that is there twice is squared."""


@dataclass(frozen=True, eq=False)
class Size:
    """A size that is not a plain integer. Arithmetic with integers and other sizes gives an integer or a ``Size``.

    ``==`` says whether two sizes have the same form; ``same`` asks whether they may be equal, and assumes so. ``<`` and
    its like decide by the bounds of the named sizes, and assume the typical answer where these do not.
    """

    terms: tuple[tuple[Monomial, int], ...]
    """The coefficient of each monomial, none of them 0, in the order of their text. The empty monomial is 1."""

    def __post_init__(self) -> None:
        if self.weight > LARGEST:
            raise ShapeError(_TOO_LONG)

    @cached_property
    def bounds(self) -> tuple[int, int]:
        least_, most = _interval(self)
        if all(isinstance(atom, Named) for monomial, _ in self.terms for atom in monomial):
            return least_, most
        return max(least_, _least(self)), min(most, -_least(-self))

    @cached_property
    def weight(self) -> int:
        """The number of names and operations in it."""
        return sum(1 + sum(atom.weight for atom in monomial) for monomial, _ in self.terms)

    @staticmethod
    def of(atom: Atom) -> Size:
        return Size((((atom,), 1),))

    @property
    def atom(self) -> Atom | None:
        """The only atom of which the size consists, or ``None``."""
        (monomial, c), *more = self.terms
        return monomial[0] if not more and c == 1 and len(monomial) == 1 else None

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _text(self) -> str:
        return _text(self.terms)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dims):
            return isinstance(other, Size) and self.terms == other.terms
        return NotImplemented

    def __tvm_ffi_value__(self) -> Any:
        """The size as an expression of TVM, which asks for it wherever it takes a size."""
        return expression(self)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return str(self)

    def __index__(self) -> int:
        raise ShapeError(f"size {self} is open here; fix it with shapes={{...}} (--shape on the command line)")

    __int__ = __index__

    def __bool__(self) -> bool:
        return at_least(self, 1) if self.bounds[0] >= 0 else not equal(self, 0)

    def __neg__(self) -> Dim:
        return self * -1

    @_with_expressions
    def __add__(self, other: Dim) -> Dim:
        return _plus(self, other)

    @_with_expressions
    def __radd__(self, other: Dim) -> Dim:
        return _plus(self, other)

    @_with_expressions
    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    @_with_expressions
    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    @_with_expressions
    def __mul__(self, other: Dim) -> Dim:
        return _times(self, other)

    @_with_expressions
    def __rmul__(self, other: Dim) -> Dim:
        return self * other

    @_with_expressions
    def __floordiv__(self, other: Dim) -> Dim:
        return _over(self, other) if isinstance(other, int) and other > 0 else _quotient(self, other)

    @_with_expressions
    def __rfloordiv__(self, other: Dim) -> Dim:
        return _quotient(other, self)

    @_with_expressions
    def __mod__(self, other: Dim) -> Dim:
        return self - other * (self // other)

    @_with_expressions
    def __rmod__(self, other: Dim) -> Dim:
        return other - self * (other // self)

    @_with_expressions
    def __lt__(self, other: Dim) -> bool:
        return not at_least(self, other)

    @_with_expressions
    def __le__(self, other: Dim) -> bool:
        return at_least(other, self)

    @_with_expressions
    def __gt__(self, other: Dim) -> bool:
        return not at_least(other, self)

    @_with_expressions
    def __ge__(self, other: Dim) -> bool:
        return at_least(self, other)

    def at(self, values: Mapping[str, Dim]) -> Dim:
        """The size with names replaced by other sizes."""
        total: Dim = 0
        for monomial, c in self.terms:
            total = total + math.prod([atom.at(values) for atom in monomial], start=c)
        return total


Dim = Union[int, Size]  # noqa: UP007  isinstance takes Dims
Dims = (int, Size)
Sizes = tuple[Dim, ...]
"""Several sizes, such as a shape."""


def named(name: str, least: int = 0, most: int = MOST, typical: int = TYPICAL) -> Size:
    """A named size."""
    return Size.of(Named(name, least, most, typical))


def on_axis(name: str, axis: int, rank: int) -> Size:
    """A named size of an axis of an input, with a typical value for such an axis."""
    return named(name, typical=FIRST_AXIS if axis == 0 and rank > 1 else ON_AXES.get(rank, ON_AXIS))


def at(size: Dim, values: Mapping[str, Dim]) -> Dim:
    """A size with names replaced by other sizes."""
    return size.at(values) if isinstance(size, Size) else size


def typical(size: Dim) -> int:
    """The value of a size for the typical values of its names."""
    found = at(size, {n.name: n.typical for n in names(size)})
    assert isinstance(found, int)
    return found


def _expected(size: Dim) -> int:
    """The value of a size by which questions are answered: the typical one, with many in place of a typical 1.

    What is inferred for one image must hold for several.
    """
    found = at(size, {n.name: TYPICAL if n.typical == 1 else n.typical for n in names(size)})
    assert isinstance(found, int)
    return found


def names(size: Dim) -> Iterator[Named]:
    """The named sizes in a size, in order. A name may come several times."""
    if isinstance(size, Size):
        for monomial, _ in size.terms:
            for atom in monomial:
                yield from atom.names()


def weight(size: Dim) -> int:
    """The number of names and operations in a size."""
    return size.weight if isinstance(size, Size) else 0


def largest(*sizes: Dim) -> Dim:
    """The largest of several sizes."""
    return _extreme(True, sizes)


def product(sizes: Iterable[Dim]) -> Dim:
    """The product of several sizes."""
    return math.prod(sizes)


def least(*sizes: Dim) -> Dim:
    """The least of several sizes."""
    return _extreme(False, sizes)


# -- canonical forms ---------------------------------------------------------------------------------------------------


def _terms(size: Dim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(size, Size):
        return size.terms
    return (((), int(size)),) if size else ()


def _key(item: Atom | Dim) -> str:
    return item.spell(str) if isinstance(item, Named | Quotient | Extreme) else str(item)


def _sorted(monomial: Iterable[Atom]) -> Monomial:
    return tuple(sorted(monomial, key=_key))


def _sum(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    found: dict[Monomial, int] = {}
    for monomial, c in terms:
        found[monomial] = found.get(monomial, 0) + c
    kept = {m: c for m, c in found.items() if c}
    if not kept or set(kept) == {()}:
        return kept.get((), 0)
    return Size(tuple(sorted(kept.items(), key=lambda t: [_key(a) for a in t[0]])))


# Networks ask for few results, and for each many times. None of these asks what only a ``Decider`` knows.
_remembered = lru_cache(1 << 13)


@_remembered
def _plus(a: Size, b: Dim) -> Dim:
    return _sum([*a.terms, *_terms(b)])


@_remembered
def _times(a: Size, b: Dim) -> Dim:
    return _sum((_sorted((*m, *n)), c * d) for m, c in a.terms for n, d in _terms(b))


@_remembered
def _over(a: Size, b: int) -> Dim:
    return _quotient(a, b)


def spelt(size: Dim, name: Spelling) -> str:
    """A size as text, with its names as ``name`` writes them."""
    return _text(size.terms, name) if isinstance(size, Size) and name is not str else str(size)


def _text(terms: Iterable[tuple[Monomial, int]], name: Spelling = str) -> str:
    """The sum of terms as text: what is added, a constant last, and then what is subtracted."""
    text = ""
    for monomial, c in sorted(terms, key=lambda t: (t[1] < 0, not t[0])):
        sign = ("-" if c < 0 else "") if not text else " - " if c < 0 else " + "
        factors = [str(abs(c))] if abs(c) != 1 or not monomial else []
        alone = len(monomial) == 1 and (c == 1 or (c == -1 and text))  # -h//2 would be (-h)//2
        factors += [f"({a.spell(name)})" if isinstance(a, Quotient) and not alone else a.spell(name) for a in monomial]
        text += sign + "*".join(factors)
    return text or "0"


def _factor(size: Dim, name: Spelling) -> str:
    """A size as text that stands in a quotient."""
    text = spelt(size, name)
    return f"({text})" if isinstance(size, Size) and not (size.atom and not isinstance(size.atom, Quotient)) else text


def _quotient(a: Dim, b: Dim) -> Dim:
    """``a // b``. Raises ``ShapeError`` when b may not be at least 1, unless b is a factor of a, whatever it is."""
    if b != 0 and (exact := divided(a, b)) is not None and (isinstance(b, Size) or b > 0):
        return exact
    if not at_least(b, 1):
        raise ShapeError(f"{a} is divided by {b}")
    if not isinstance(b, int):
        whole: Dim = 0
        rest = a
        for term in _terms(a):  # what b divides comes out
            if (part := divided(_sum([term]), b)) is not None:
                whole, rest = whole + part, rest - _sum([term])
        return whole + _reduced(rest, b)
    leading = next(c for m, c in _terms(a) if m)
    if leading < 0:  # floor(-x / b) = -ceil(x / b)
        return -_quotient(b - 1 - a, b)
    return _sum((m, c // b) for m, c in _terms(a)) + _reduced(_sum((m, c % b) for m, c in _terms(a)), b)


def _reduced(a: Dim, b: Dim) -> Dim:
    """``a // b``, where no multiple of b can be taken out of a, in lowest terms."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(a, int) and a >= 0 and bounds(b)[0] > a:
        return 0
    if isinstance(b, int):
        constant = sum(c for m, c in _terms(a) if not m)
        common = math.gcd(b, *(c for m, c in _terms(a) if m))
        if common > 1:  # floor((g*x + c) / (g*b)) = floor((x + floor(c / g)) / b)
            return _quotient(_sum((m, c // common) for m, c in _terms(a)), b // common)
        inner = rest.atom if isinstance(rest := a - constant, Size) else None
        if isinstance(inner, Quotient) and isinstance(d := inner.denominator, int):
            # floor((floor(x / d) + c) / b) = floor((x + c*d) / (d*b))
            return _quotient(inner.numerator + constant * d, d * b)
    low, high = bounds(a)
    if isinstance(b, int) and low // b == high // b:
        return low // b
    assert isinstance(a, Size) or isinstance(b, Size)
    return Size.of(Quotient(a if isinstance(a, Size) else Size((((), a),)), b))


def divided(a: Dim, b: Dim) -> Dim | None:
    """The size whose product with b is a, by long division of polynomials, or ``None`` when there is none."""
    divisor = _terms(b)
    lead, factor = divisor[-1]
    whole: Dim = 0
    for _ in range(len(_terms(a)) + len(divisor)):
        if not isinstance(a, Size) and not isinstance(b, Size):
            return whole + a // b if a % b == 0 else None
        if a == 0:
            return whole
        part = next((p for m, c in reversed(_terms(a)) if (p := _ratio(m, c, lead, factor)) is not None), None)
        if part is None:
            return None
        whole, a = whole + part, a - part * b
    return whole if a == 0 else None


def _ratio(m: Monomial, c: int, lead: Monomial, factor: int) -> Dim | None:
    left = list(m)
    for atom in lead:
        if atom not in left:
            return None
        left.remove(atom)
    return None if c % factor else _sum([(tuple(left), c // factor)])


def _extreme(is_largest: bool, sizes: Iterable[Dim]) -> Dim:
    flat: list[Dim] = []
    for size in sizes:
        inner = size.atom if isinstance(size, Size) else None
        flat += inner.sizes if isinstance(inner, Extreme) and inner.largest == is_largest else [size]
    if len(flat) > LARGEST:
        raise ShapeError(_TOO_LONG)
    kept: list[Dim] = []
    for size in dict.fromkeys(flat):

        def beats(a: Dim, b: Dim) -> bool:
            return bounds(a - b)[0] >= 0 if is_largest else bounds(b - a)[0] >= 0

        if any(beats(k, size) for k in kept):
            continue
        kept = [*(k for k in kept if not beats(size, k)), size]
    return kept[0] if len(kept) == 1 else Size.of(Extreme(is_largest, tuple(sorted(kept, key=_key))))


# -- what is known of a size -------------------------------------------------------------------------------------------


def bounds(size: Dim) -> tuple[int, int]:
    """The least and the largest value that a size may have, as far as it is known."""
    return size.bounds if isinstance(size, Size) else (size, size)


def _interval(size: Size) -> tuple[int, int]:
    low = high = 0
    for monomial, c in size.terms:
        ends = reduce(lambda ends, atom: _product(ends, atom.bounds()), monomial, (c, c))
        low, high = low + ends[0], high + ends[1]
    return low, high


def _product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


def _least(size: Dim) -> int:
    """A lower bound, in which ``x // d`` is replaced by ``x / d`` or ``(x - d + 1) / d``, whichever is the worse."""
    if not isinstance(size, Size):
        return size
    for monomial, c in size.terms:
        if len(monomial) == 1 and isinstance(q := monomial[0], Quotient) and isinstance(d := q.denominator, int):
            rest = (size - c * Size.of(q)) * d + q.numerator * c - max(c, 0) * (d - 1)
            return -(-_least(rest) // d)
    return _interval(size)[0]


# -- questions ---------------------------------------------------------------------------------------------------------


class Decider(Protocol):
    """What answers questions that the bounds of named sizes leave open (``assumptions.py``).

    A question is whether ``size >= 0``, ``size == 0`` or ``size != 0``; ``relation`` is the operator in it.
    """

    def known(self, size: Size, relation: str) -> bool:
        """Whether it is known to be so."""

    def assume(self, size: Size, relation: str) -> None:
        """Take it to be so from now on."""


RELATIONS: dict[str, Callable[[int, int], bool]] = {"==": operator.eq, ">=": operator.ge, "!=": operator.ne}
"""What may be assumed of a size and 0."""

decider: ContextVar[Decider | None] = ContextVar("decider", default=None)
"""What answers open questions. Without it they raise ``ShapeError``."""


def at_least(a: Dim, b: Dim) -> bool:
    """Whether ``a >= b``, by what is known, else as it is for typical sizes, which is then assumed.

    A size that is typically 1 counts as many here (``_expected``), and in ``equal``.
    """
    return _at_least(a, b, None)


def _at_least(a: Dim, b: Dim, expected: bool | None) -> bool:
    """Whether ``a >= b``; where it is not known, ``expected``, or else as it is for typical sizes."""
    difference = _undivided(a - b)
    low, high = bounds(difference)
    if low >= 0 or high < 0 or not isinstance(difference, Size):
        return low >= 0
    as_expected = _expected(difference) >= 0 if expected is None else expected
    return _answer((difference, ">="), (_size(-difference - 1), ">="), as_expected)


def _undivided(size: Dim) -> Dim:
    """A size that is at least 0 where ``size`` is, without a common factor, and without a quotient that is its only
    term beside a constant.

    ``g*x + c >= 0`` means ``x + c//g >= 0``, ``x//d + c >= 0`` means ``x + c*d >= 0``, and ``c - x//d >= 0`` means
    ``c*d + d - 1 - x >= 0``.
    """
    if not isinstance(size, Size):
        return size
    common = math.gcd(*(c for m, c in size.terms if m))
    if common > 1:
        return _undivided(_sum((m, c // common) for m, c in size.terms))
    constant = sum(c for m, c in size.terms if not m)
    (monomial, sign), *more = [t for t in size.terms if t[0]]
    quotient = monomial[0]
    if more or len(monomial) > 1 or abs(sign) != 1 or not isinstance(quotient, Quotient):
        return size
    d = quotient.denominator
    if not isinstance(d, int):
        return size
    ahead = constant * d + (d - 1 if sign < 0 else 0)
    return _undivided(quotient.numerator * sign + ahead)


def equal(a: Dim, b: Dim) -> bool:
    """Whether ``a == b``, by what is known, else as it is for typical sizes, which is then assumed."""
    return _equal(a - b, _expected(a - b) == 0)


def same(a: Dim, b: Dim) -> bool:
    """Whether two sizes, which an op needs to be equal, may be so. It is assumed that they are."""
    return _equal(a - b, True)


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes, which an op needs to be equal, may be so. It is assumed that they are."""
    return len(a) == len(b) and all(map(same, a, b))


def no_less(a: Dim, b: Dim) -> bool:
    """Whether ``a >= b``, which an op needs, may be so. It is assumed that it is."""
    inner = b.atom if isinstance(b, Size) else None
    if isinstance(inner, Extreme) and not inner.largest and any(bounds(a - size)[0] >= 0 for size in inner.sizes):
        return True
    return _at_least(a, b, True)


def divides(part: int, size: Dim) -> bool:
    """Whether a size, which an op needs to be a multiple of ``part``, may be one. It is assumed that it is."""
    return same(size, size // part * part)


def _equal(difference: Dim, expected: bool) -> bool:
    low, high = bounds(difference)
    if low > 0 or high < 0 or not isinstance(difference, Size):
        return difference == 0
    common = math.gcd(*(c for m, c in difference.terms if m))
    if common > 1:  # g*x + c == 0 means x + c/g == 0
        return difference % common == 0 and _equal(difference // common, expected)
    return _answer((difference, "=="), (difference, "!="), expected)


def _answer(question: tuple[Size, str], opposite: tuple[Size, str], expected: bool) -> bool:
    found = decider.get()
    if found is None:
        raise ShapeError(f"{statement(*question)} is open here; fix the sizes with shapes={{...}} (--shape)")
    if found.known(*question):
        return True
    if not found.known(*opposite):
        found.assume(*(question if expected else opposite))
        return expected
    return False


def statement(size: Size, relation: str, name: Spelling = str) -> str:
    """``size >= 0`` and its like as text, with what is negative on the other side."""
    left, right = ([(m, abs(c)) for m, c in size.terms if (c > 0) == positive] for positive in (True, False))
    return f"{_text(left, name)} {relation} {_text(right, name)}"


def _size(size: Dim) -> Size:
    assert isinstance(size, Size)
    return size
