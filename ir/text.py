"""The text form of graphs: ``parse_graph(print_graph(g)) == g``.

The grammar; blanks separate tokens, and so do ``// comments``, which begin a line or follow a blank:

    graph   := "graph" "@" ident "(" [input ("," input)*] ")" "{" assume* stmt* return "}"
    input   := value | string (("least" | "most" | "typical") integer)*    what is known of a named size,
                                                                           of inputs or decided by data
    value   := "%" ident ":" type
    type    := dtype "[" [size ("," size)*] "]" ["{" layout "}"]
    size    := product (("+" | "-") product)*          an expression over named sizes (``sizes.py``)
    product := factor (("*" | "//") factor)*
    factor  := integer | string | "-" factor | "(" size ")" | ("min" | "max") "(" size ("," size)* ")"
    assume  := "assume" size ("==" | ">=" | "!=") size ["for" string]
    stmt    := value "=" "const" data
             | value ("," value)* "=" op "(" ["%" ident ("," "%" ident)*] ")" ["{" named ("," named)* "}"]
    named   := name "=" attr
    data    := "[" [number ("," number)*] "]"          the elements in row-major order, for small constants
             | "sha=" hex                              data given by ``constants=``, else absent
             | ident "(" number "," number ")"         an initializer not yet made: kind, amount, seed
    attr    := number | "true" | "false" | "none" | string | size | "[" [attr ("," attr)*] "]" | graph
    return  := "return" [result ("," result)*]
    result  := [string "="] "%" ident                  the string is the output's name where it differs
    ident   := letters, digits, "_", ".", "-", "/", ":" ; anything else as a JSON string

Attributes equal to their default are not printed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from . import ops  # noqa: F401  registers every op
from .assumptions import Assumption, Assumptions
from .dtypes import DTYPES, numpy_dtype
from .errors import ConvcError, LimitError, ParseError, ShapeError
from .graph import Constant, Graph, Initializer, Node, Value
from .layout import Layout
from .limits import check, check_type, current, guarded
from .op import REGISTRY, Op
from .sizes import MOST, RELATIONS, Dim, Named, Size, largest, least, named, spelt, statement
from .types import TensorType

INLINE_LIMIT = 8
"""Constants of at most this many elements are printed in full."""

_IDENT = re.compile(r"[A-Za-z0-9_.\-/:]*[A-Za-z0-9_.\-/]")
_TOKEN = re.compile(
    r"""(?P<skip>\s+|(?<!\S)//[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<number>[-+]?(?:inf|nan|\d+\.?\d*(?:[eE][-+]?\d+)?)(?![A-Za-z0-9_]))
    |(?P<value>%(?:"(?:[^"\\\n]|\\.)*"|[A-Za-z0-9_.\-/:]*[A-Za-z0-9_.\-/]))
    |(?P<sha>sha=[0-9a-f]+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<punct>//|[=!>]=|[@(){}\[\],:=+*-])""",
    re.VERBOSE,
)


def _ident(name: str) -> str:
    return name if _IDENT.fullmatch(name) else json.dumps(name)


# -- printing ----------------------------------------------------------------------------------------------------------


def print_graph(graph: Graph, indent: str = "") -> str:
    """The text form of a graph."""
    known = [] if indent else [text for n in graph.named_sizes.values() if (text := _known(n))]
    lines = [f"graph @{_ident(graph.name)}({', '.join([*known, *map(_typed, graph.inputs)])}) {{"]
    lines += [f"{indent}  {_assumed(a, about)}" for a, about in graph.assumptions.items()]
    lines += [f"{indent}  {_typed(Value(name, c.type))} = const {_data(c)}" for name, c in graph.constants.items()]
    lines += [f"{indent}  {print_node(n, indent + '  ')}" for n in graph.nodes]
    results = [
        f"%{_ident(v.name)}" if v.name == name else f"{json.dumps(name)}=%{_ident(v.name)}"
        for v, name in zip(graph.outputs, graph.output_names, strict=True)
    ]
    lines.append(f"{indent}  return {', '.join(results)}".rstrip())
    return "\n".join([*lines, indent + "}"])


def print_node(node: Node, indent: str = "") -> str:
    """The text form of one node."""
    changed = {f.name: getattr(node.op, f.name) for f in dataclasses.fields(node.op) if not _is_default(node.op, f)}
    attrs = ", ".join(f"{k}={print_attr(v, indent)}" for k, v in changed.items())
    operands = ", ".join(f"%{_ident(v.name)}" for v in node.inputs)
    return f"{', '.join(_typed(v) for v in node.outputs)} = {node.op.name}({operands})" + (
        f" {{{attrs}}}" if attrs else ""
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return isinstance(value, Size) or _is_whole(value)


def _are_whole(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_whole, value))


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "int": ("an integer", _is_whole),
    "float": ("a number", lambda v: _is_whole(v) or isinstance(v, float)),
    "float | None": ("a number or none", lambda v: v is None or _is_whole(v) or isinstance(v, float)),
    "str": ("a string", lambda v: isinstance(v, str)),
    "Ints": ("a list of integers", _are_whole),
    "Ints | None": ("a list of integers or none", lambda v: v is None or _are_whole(v)),
    "Sizes": ("a list of sizes", lambda v: isinstance(v, tuple) and all(map(_is_size, v))),
    "Pads": ("a list of pairs of integers", lambda v: isinstance(v, tuple) and all(_are_whole(p) for p in v)),
    "Dim": ("a size", _is_size),
    "PairsOfSizes": ("a list of pairs of sizes", lambda v: isinstance(v, tuple) and all(map(_KINDS["Sizes"][1], v))),
}
"""For each annotation of a field of an op, its meaning in words, and a test whether a value has that type."""
_FACTS = ("least", "most", "typical")
"""What may be known of a named size."""
_OF_SIZES = ("Dim", "Sizes", "PairsOfSizes")
"""The annotations of attributes that may hold open sizes."""


def print_attr(value: Any, indent: str = "") -> str:
    """The text form of one attribute."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Size):
        return spelt(value, json.dumps)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ",".join(print_attr(v, indent) for v in value) + "]"
    if isinstance(value, Graph):
        return print_graph(value, indent)
    raise TypeError(f"attribute of type {type(value).__name__} has no text form")


def _is_default(op: Op, f: dataclasses.Field[Any]) -> bool:
    value = getattr(op, f.name)
    if f.default is dataclasses.MISSING:
        return False
    return type(value) is type(f.default) and value == f.default


def _known(size: Named) -> str:
    """What is known of a named size, in words; nothing where nothing is."""
    usual = Named(size.name)
    facts = [f"{fact} {n}" for fact in _FACTS if (n := getattr(size, fact)) != getattr(usual, fact)]
    return " ".join([json.dumps(size.name), *facts]) if facts else ""


def _typed(v: Value) -> str:
    return f"%{_ident(v.name)}: {_type(v.type)}"


def _type(t: TensorType) -> str:
    dims = ",".join(spelt(d, json.dumps) for d in t.shape)
    return f"{t.dtype}[{dims}]" + (f"{{{t.layout}}}" if t.layout else "")


def _assumed(a: Assumption, about: str) -> str:
    why = f" for {json.dumps(about)}" if about else ""
    return f"assume {statement(a.size, a.relation, json.dumps)}{why}"


def _data(c: Constant) -> str:
    if c.initializer is not None:
        return str(c.initializer)
    if c.has_data and c.type.numel <= INLINE_LIMIT:
        array = c.array.reshape(-1)
        if array.dtype == np.bool_ or array.dtype.kind in "iu":
            return "[" + ",".join(str(int(v)) for v in array) + "]"
        if np.all(np.isfinite(array.astype(np.float64))):
            return "[" + ",".join(repr(float(v)) for v in array) + "]"
    return f"sha={c.sha}"


# -- parsing -----------------------------------------------------------------------------------------------------------


def parse_graph(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph that a text describes. ``constants`` gives the data of large constants by their sha.

    Raises ``ParseError`` with the line and what was expected in it.
    """
    with guarded():
        check("text_bytes", len(text), "the text")
        parser = _Parser(text, constants or {})
        with Assumptions().noted("the text"):  # what a quotient assumes of its denominator
            graph = parser.graph(0)
        if parser.kind != "end":
            parser.fail("the end of the text")
        return graph


def _fits(number: float, dtype: str) -> bool:
    try:
        np.array(number, numpy_dtype(dtype))
    except (OverflowError, ValueError):
        return False
    return True


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, np.ndarray]) -> None:
        self.text = text
        self.data = constants
        self.pos = 0
        self.kind = ""
        self.token = ""
        self.sizes_known: dict[str, Size] = {}
        """The named sizes of which something is known, by name."""
        self.advance()

    def advance(self) -> str:
        """Move to the next token, and return the current one."""
        before = self.token
        while True:
            m = _TOKEN.match(self.text, self.pos)
            if m is None:
                self.kind, self.token = ("end", "") if self.pos >= len(self.text) else ("bad", self.text[self.pos])
                return before
            self.pos = m.end()
            if m.lastgroup != "skip":
                self.kind, self.token = str(m.lastgroup), m.group(0)
                return before

    def fail(self, expected: str) -> NoReturn:
        found = repr(self.token) if self.token else "the end"
        self.error(f"expected {expected}, found {found}")

    def error(self, message: object) -> NoReturn:
        raise ParseError(f"line {self.line()}: {message}") from None

    def line(self) -> int:
        return self.text.count("\n", 0, self.pos - len(self.token)) + 1

    def expect(self, token: str) -> None:
        if self.token != token or self.kind == "string":
            self.fail(repr(token))
        self.advance()

    def accept(self, token: str) -> bool:
        if self.token == token and self.kind != "string":
            self.advance()
            return True
        return False

    def listed(self, end: str, item: Callable[[], Any]) -> list[Any]:
        """The items of a list with commas between them, up to the token ``end``, which is consumed too."""
        out: list[Any] = []
        while not self.accept(end):
            if out:
                self.expect(",")
            out.append(item())
        return out

    def string(self) -> str:
        try:
            return str(json.loads(self.token))
        except ValueError:
            self.fail("a well-formed string")
        finally:
            self.advance()

    def ident(self) -> str:
        if self.kind == "string":
            return self.string()
        start = self.pos - len(self.token)
        m = _IDENT.match(self.text, start)
        if m is None or self.kind in ("end", "bad"):
            self.fail("a name")
        self.pos = m.end()
        name = m.group(0)
        self.advance()
        return name

    def value_name(self) -> str:
        if self.kind != "value":
            self.fail("a value such as %x")
        name = self.quoted(self.token[1:])
        self.advance()
        return name

    def quoted(self, name: str) -> str:
        """An identifier, without quotes."""
        try:
            return str(json.loads(name)) if name.startswith('"') else name
        except ValueError:
            self.fail("a well-formed string")

    def number(self) -> int | float:
        if self.kind != "number":
            self.fail("a number")
        if re.fullmatch(r"[-+]?\d+", self.token):
            return self.integer()
        return float(self.advance())

    def integer(self) -> int:
        if self.kind != "number" or not re.fullmatch(r"[-+]?\d{1,30}", self.token):
            self.fail("an integer")
        return int(self.advance())

    def size(self, depth: int = 0) -> Dim:
        self.check_depth(depth)
        try:
            total = self.product(depth)
            while self.token in ("+", "-") or (self.kind == "number" and self.token[0] in "+-"):  # "h"-1
                sign = -1 if self.kind == "punct" and self.advance() == "-" else 1
                total += sign * self.product(depth)
        except ShapeError as e:
            self.error(e)
        return total

    def product(self, depth: int) -> Dim:
        total = self.factor(depth)
        while self.token in ("*", "//"):
            total = total * self.factor(depth) if self.advance() == "*" else total // self.factor(depth)
        return total

    def factor(self, depth: int) -> Dim:
        if self.kind == "string":
            name = self.string()
            return self.sizes_known.get(name) or named(name)
        if self.kind == "number":
            return self.integer()
        if self.accept("-"):
            self.check_depth(depth)
            return -self.factor(depth + 1)
        if self.accept("("):
            size = self.size(depth + 1)
            self.expect(")")
            return size
        for word, pick in (("min", least), ("max", largest)):
            if self.accept(word):
                self.expect("(")
                sizes = self.listed(")", lambda: self.size(depth + 1))
                return pick(*sizes) if sizes else self.fail("a size")
        self.fail("a size: an integer, a name in quotes, or an expression of them")

    def assumption(self) -> tuple[Assumption, str]:
        left = self.size()
        if self.token not in RELATIONS:
            self.fail("one of " + ", ".join(RELATIONS))
        relation = self.advance()
        size = left - self.size()
        if not isinstance(size, Size):
            self.fail("a named size in what is assumed")
        return Assumption(size, relation), self.string() if self.accept("for") and self.kind == "string" else ""

    def type(self) -> TensorType:
        if self.token not in DTYPES:
            self.fail("a dtype: " + ", ".join(DTYPES))
        dtype = self.advance()
        self.expect("[")
        shape = tuple(self.listed("]", self.size))
        layout = None
        try:
            if self.accept("{"):
                layout = Layout(self.ident())
                self.expect("}")
            type = TensorType(dtype, shape, layout)
            check_type(type, "a value")
            return type
        except LimitError as e:
            e.within(f"line {self.line()}")
            raise
        except (ValueError, ConvcError) as e:
            self.error(e)

    def typed(self) -> Value:
        name = self.value_name()
        self.expect(":")
        return Value(name, self.type())

    def input(self) -> Value | None:
        """An input, or ``None`` after what is known of a named size."""
        if self.kind != "string":
            return self.typed()
        name = self.string()
        known: dict[str, int] = {}
        while self.token in _FACTS:
            fact = self.advance()
            known[fact] = self.integer()
        size = Named(name, **known)
        if not 0 <= size.least <= size.typical <= size.most <= MOST:
            self.error(f"size '{name}' is at least {size.least}, typically {size.typical} and at most {size.most}")
        self.sizes_known[name] = Size.of(size)
        return None

    def check_depth(self, depth: int) -> None:
        if depth > current().depth:  # counting lines takes as long as the text is
            check("depth", depth, f"line {self.line()}: the text")

    def graph(self, depth: int) -> Graph:
        self.check_depth(depth)
        self.expect("graph")
        self.expect("@")
        name = self.ident()
        self.expect("(")
        inputs = [v for v in self.listed(")", self.input) if v is not None]
        self.expect("{")
        assumed: dict[Assumption, str] = {}
        while self.accept("assume"):
            assumption, about = self.assumption()
            assumed[assumption] = about
        scope = {v.name: v for v in inputs}
        nodes: list[Node] = []
        constants: dict[str, Constant] = {}
        while not self.accept("return"):
            results = [self.typed()]
            while self.accept(","):
                results.append(self.typed())
            self.expect("=")
            if self.accept("const"):
                constants[results[0].name] = self.constant(results[0].type)
            else:
                nodes.append(self.node(tuple(results), scope, depth))
            for v in results:
                if v.name in scope:
                    self.fail(f"a name other than %{v.name}, which is taken")
                scope[v.name] = v
        returned = self.listed("}", lambda: self.result(scope))
        outputs, names = tuple(v for _, v in returned), tuple(n for n, _ in returned)
        return Graph(name, tuple(inputs), tuple(nodes), outputs, constants, names, assumed)

    def result(self, scope: Mapping[str, Value]) -> tuple[str, Value]:
        name = None
        if self.kind == "string":
            name = self.string()
            self.expect("=")
        value = self.use(scope)
        return (value.name if name is None else name), value

    def use(self, scope: Mapping[str, Value]) -> Value:
        if self.kind == "value":
            name = self.quoted(self.token[1:])
            if name in scope:
                self.advance()
                return scope[name]
        self.fail("a value defined above")

    def node(self, results: tuple[Value, ...], scope: Mapping[str, Value], depth: int) -> Node:
        if self.token not in REGISTRY:
            self.fail("the name of an op")
        cls = REGISTRY[self.advance()]
        self.expect("(")
        operands = tuple(self.listed(")", lambda: self.use(scope)))
        attrs = dict(self.listed("}", lambda: self.named_attr(cls.name, depth))) if self.accept("{") else {}
        required = [
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing := [name for name in required if name not in attrs]:
            self.error(f"attribute {missing[0]} of {cls.name} is missing")
        try:
            return Node(cls(**attrs), operands, results)
        except ConvcError as e:
            self.error(f"{cls.name}: {e}")
        except (TypeError, ValueError):
            self.error(f"the attributes of {cls.name} do not fit each other")

    def named_attr(self, op: str, depth: int) -> tuple[str, Any]:
        known = {f.name: str(f.type) for f in dataclasses.fields(REGISTRY[op])}
        if self.token not in known:
            self.fail(f"an attribute of {op} ({', '.join(known) or 'it has none'})")
        name = self.advance()
        self.expect("=")
        value = self.sizes(depth + 1) if known[name] in _OF_SIZES else self.attr(depth + 1)
        what, fits = _KINDS.get(known[name], ("", lambda _: True))
        if not fits(value):
            self.error(f"attribute {name} of {op} must be {what}")
        return name, value

    def sizes(self, depth: int) -> Any:
        """A size, a list of sizes, or a list of such lists."""
        self.check_depth(depth)
        if self.accept("["):
            return tuple(self.listed("]", lambda: self.sizes(depth + 1)))
        return self.size(depth)

    def attr(self, depth: int) -> Any:
        self.check_depth(depth)
        if self.kind == "string":
            return self.string()
        if self.kind == "number":
            return self.number()
        if self.token == "graph":
            return self.graph(depth)
        if self.accept("["):
            return tuple(self.listed("]", lambda: self.attr(depth + 1)))
        for word, value in (("true", True), ("false", False), ("none", None)):
            if self.accept(word):
                return value
        self.fail("an attribute's value")

    def constant(self, type: TensorType) -> Constant:
        if self.kind == "sha":
            sha = self.advance()[4:]
            data = self.data.get(sha)
            if data is not None and data.dtype.kind == "V":  # an .npz file holds bfloat16 in this form
                data = data.view(numpy_dtype(type.dtype))
            return Constant(type, data, sha)
        if self.accept("["):
            numbers = self.listed("]", self.number)
            if not type.is_static or len(numbers) != type.numel:
                self.fail(f"as many numbers as {type} has elements, not {len(numbers)}")
            try:
                return Constant(type, np.array(numbers, numpy_dtype(type.dtype)).reshape(type.sizes))
            except (OverflowError, ValueError):
                self.error(f"{next((v for v in numbers if not _fits(v, type.dtype)), numbers)} does not fit {type}")
        if self.token not in Initializer.KINDS:
            self.fail("constant data: [...], sha=..., or an initializer, " + ", ".join(Initializer.KINDS))
        kind = self.advance()
        self.expect("(")
        amount = float(self.number())
        self.expect(",")
        seed = self.integer()
        self.expect(")")
        return Constant(type, Initializer(kind, amount, seed))
