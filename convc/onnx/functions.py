"""The functions that a model defines, by the name under which nodes call them: domain, name and overload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import onnx

from convc.ir.errors import ModelFileError
from convc.ir.onnx_io import ImportNode

Key = tuple[str, str, str]


class Functions:
    """The functions of a model. An overload tells functions of one name apart (IR version 10).

    Raises ``ModelFileError`` when two different functions have one name and one overload.
    """

    def __init__(self, functions: Iterable[onnx.FunctionProto]) -> None:
        self._known: dict[Key, onnx.FunctionProto] = {}
        self._running: list[Key] = []
        for f in functions:
            if self._known.setdefault(_key(f), f) != f:
                raise ModelFileError(f"the model defines function {_text(_key(f))} twice, in different ways")

    def called_by(self, n: ImportNode) -> onnx.FunctionProto | None:
        """The function that a node calls, or ``None`` when the model defines none of this name.

        Raises ``ModelFileError`` when it has the name but not the overload, or when the node names an overload and
        there is no such function.
        """
        key = (plain_domain(n.proto.domain), n.op_type, n.proto.overload)
        if (found := self._known.get(key)) is not None:
            return found
        others = sorted(overload for *name, overload in self._known if tuple(name) == key[:2])
        if not others and not key[2]:
            return None
        has = "overloads " + ", ".join(map(repr, others)) if others else "no function of this name"
        raise n.error(f"it calls function {_text(key)}, which the model does not define; it has {has}")

    @contextmanager
    def running(self, n: ImportNode, f: onnx.FunctionProto) -> Iterator[None]:
        """Stand around the import of a function's body. Raises ``ModelFileError`` when the function calls itself."""
        key = _key(f)
        if key in self._running:
            way = " -> ".join(map(_text, (*self._running[self._running.index(key) :], key)))
            raise n.error(f"the function calls itself, which ONNX does not allow: {way}")
        self._running.append(key)
        try:
            yield
        finally:
            self._running.pop()


def expanded(n: ImportNode) -> onnx.NodeProto:
    """The node to import by the function body of its ONNX schema: the node itself, unless its body misreads it.

    Attention's body reshapes operands of rank 4 by numbers of heads that the node names; they are left out, since the
    shapes have them. Raises ``ModelFileError`` when these disagree.
    """
    query, key = (n.optional(i) for i in (0, 1))
    if n.op_type != "Attention" or not query or not key or query.type.rank != 4 or key.type.rank != 4:
        return n.proto
    plain = onnx.NodeProto()
    plain.CopyFrom(n.proto)
    del plain.attribute[:]
    for a in n.proto.attribute:
        operand = {"q_num_heads": query, "kv_num_heads": key}.get(a.name)
        if operand is None:
            plain.attribute.append(a)
        elif a.i != operand.type.sizes[1]:
            raise n.error(f"attribute '{a.name}' is {a.i}, but '{operand.name}' has {operand.type.sizes[1]} heads")
    return plain


def plain_domain(domain: str) -> str:
    """The domain of an operator; ONNX's own has two names, of which this is the empty one."""
    return "" if domain == "ai.onnx" else domain


def _key(f: onnx.FunctionProto) -> Key:
    return plain_domain(f.domain), f.name, f.overload


def _text(key: Key) -> str:
    domain, name, overload = key
    return f"'{domain or 'ai.onnx'}::{name}'" + (f" of overload '{overload}'" if overload else "")
