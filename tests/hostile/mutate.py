"""Mutators, which take a random generator and return damaged input. A seed always gives the same mutant."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from math import prod
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, defs

from convc.ir.dtypes import DTYPES
from convc.ir.op import REGISTRY
from convc.runtime import artifact as artifact_file
from convc.runtime.hashing import tree_hash

from . import corpus

KINDS = ("bytes", "proto", "text", "artifact")
INTS = (
    0, 1, -1, 2, 3, 7, 16, 255, 1000, 65535, 65536, 10**6, 2**31 - 1, 2**31, -(2**31), 2**32, 10**12, 2**62, 2**63 - 1,
    -(2**63),
)  # fmt: skip
FLOATS = (0.0, -0.0, 1e-45, 1.0, -1.0, 1e9, 1e38, float("inf"), float("-inf"), float("nan"))
NAMES = ("", "x", "y", "w", "x0", "x1", "../x", "/etc/passwd", "a" * 5000, "\x00", "é", "-1", "?")
LOCATIONS = (
    "data.bin",
    "../data.bin",
    "/etc/passwd",
    "link",
    "linked/secret",
    "",
    ".",
    "a/../data.bin",
    "\x00",
    "pipe",
    "/dev/zero",
)
OPS = sorted({s.name for s in defs.get_all_schemas()})


def mutant(kind: str, seed: int) -> bytes:
    """The mutant of this kind and seed."""
    r = random.Random(f"{kind} {seed}")
    return {"bytes": _bytes, "proto": _proto, "text": _text, "artifact": _artifact}[kind](r)


# -- bytes -------------------------------------------------------------------------------------------------------------


def _damaged(r: random.Random, data: bytes, other: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 4, 16))):
        at, n = r.randrange(len(out) + 1), r.choice((1, 2, 4, 8, 64, 512))
        match r.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << r.randrange(8)
            case 1 if at < len(out):
                out[at] = r.choice((0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)))
            case 2:
                del out[at : at + n]
            case 3:
                out[at:at] = out[at : at + n]
            case 4:
                start = r.randrange(len(other))
                out[at : at + r.choice((0, n))] = other[start : start + n]
            case 5 if r.random() < 0.2:
                del out[at:]
            case _:
                out[at:at] = r.choice((b"\xff" * 9 + b"\x01", b"\x80" * 5, b"\x00" * 8, r.randbytes(4)))
    return bytes(out)


def _bytes(r: random.Random) -> bytes:
    if r.random() < 0.7:  # mutants that keep the length mostly get past the parser
        out = bytearray(r.choice(corpus.models()))
        for _ in range(r.choice((1, 1, 2, 3))):
            at = r.randrange(len(out))
            out[at] = r.choice((out[at] ^ 1 << r.randrange(8), (out[at] + 1) % 256, 0, 1, 0x7F, r.randrange(256)))
        return bytes(out)
    return _damaged(r, r.choice(corpus.models()), r.choice(corpus.models()))


# -- the structure of ONNX ---------------------------------------------------------------------------------------------


def _proto(r: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(r.choice(corpus.models()))
    for _ in range(r.choice((1, 1, 2, 3, 6))):
        r.choice(_STRUCTURAL)(r, model)
    return model.SerializeToString()


def _int(r: random.Random) -> int:
    return r.choice(INTS) if r.random() < 0.7 else r.randrange(-9, 99)


def _all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    return nodes + [n for m in nodes for a in m.attribute if a.HasField("g") for n in a.g.node]


def _all_tensors(model: onnx.ModelProto) -> list[TensorProto]:
    return [*model.graph.initializer, *(a.t for n in _all_nodes(model) for a in n.attribute if a.HasField("t"))]


def _some(r: random.Random, items: Any) -> Any:
    return r.choice(items) if len(items) else None


def _attribute(r: random.Random, model: onnx.ModelProto) -> None:
    node = _some(r, _all_nodes(model))
    if node is None:
        return
    known = list(defs.get_schema(node.op_type).attributes) if defs.has(node.op_type) else []
    if not node.attribute or r.random() < 0.3:
        a = node.attribute.add(name=r.choice([*known, *NAMES[:4]]), type=r.choice((1, 2, 3, 6, 7, 8)))
        a.i, a.f, a.s = _int(r), r.choice(FLOATS), b"s"
        a.ints.extend(_int(r) for _ in range(r.randrange(5)))
        return
    a = r.choice(node.attribute)
    match r.randrange(9):
        case 0 | 1 | 2:
            a.i, a.f = _int(r), r.choice(FLOATS)
            if a.ints:
                a.ints[r.randrange(len(a.ints))] = _int(r)
            if a.floats:
                a.floats[r.randrange(len(a.floats))] = r.choice(FLOATS)
        case 3:
            a.ints.extend(_int(r) for _ in range(r.choice((1, 2, 5, 100))))
        case 4:
            del a.ints[: r.randrange(1, 4)]
        case 5:
            a.s = r.choice((b"", b"\xff", b"SAME_UPPER", b"linear", b"VALID", b"...ij,jk->ik", b"x" * 999))
        case 6:
            a.type = r.choice((*AttributeProto.AttributeType.values(),))
        case 7:
            a.name = r.choice([*known, *NAMES])
        case 8:
            node.attribute.remove(a) if r.random() < 0.5 else node.attribute.append(a)


_WIDTHS = {TensorProto.FLOAT: 4, TensorProto.INT64: 8, TensorProto.DOUBLE: 8, TensorProto.BOOL: 1, TensorProto.INT32: 4}


def _tensor(r: random.Random, model: onnx.ModelProto) -> None:
    t = _some(r, _all_tensors(model))
    if t is None:
        return
    match r.randrange(9):
        case 0 | 1 if t.dims:
            t.dims[r.randrange(len(t.dims))] = _int(r)
            size = prod(t.dims)
            if 0 <= size < 1 << 16 and r.random() < 0.8 and t.data_type in _WIDTHS:  # still of the right size
                t.raw_data = (t.raw_data + bytes(size * 8))[: size * _WIDTHS[t.data_type]]
        case 2:
            t.dims.extend(r.choice(([1], [0], [_int(r)], [1] * r.choice((5, 20, 70)))))
        case 3:
            t.data_type = r.choice((*TensorProto.DataType.values(), 77))
        case 4:
            t.raw_data = r.choice((b"", t.raw_data[:-1], t.raw_data + b"abc", t.raw_data * 2))
        case 5 if len(t.raw_data) >= 8:
            at = r.randrange(len(t.raw_data) - 7)
            t.raw_data = t.raw_data[:at] + (_int(r) % 2**64).to_bytes(8, "little") + t.raw_data[at + 8 :]
        case 6:
            t.name = r.choice(NAMES)
        case 7:
            t.data_location = TensorProto.EXTERNAL
            del t.external_data[:]
            for key, value in (("location", r.choice(LOCATIONS)), ("offset", str(_int(r))), ("length", str(_int(r)))):
                if r.random() < 0.7:
                    t.external_data.add(key=key, value=value)
        case _:
            t.int64_data.extend(_int(r) for _ in range(3))
            t.ClearField("raw_data")


def _port(r: random.Random, model: onnx.ModelProto) -> None:
    info = _some(r, [*model.graph.input, *model.graph.output])
    if info is None:
        return
    shape = info.type.tensor_type.shape
    match r.randrange(7):
        case 0 | 1 | 2 if shape.dim:
            d = r.choice(shape.dim)
            d.dim_value = _int(r)
        case 3:
            d = shape.dim.add()
            d.dim_param = r.choice(NAMES)
        case 4:
            info.type.tensor_type.elem_type = r.choice((*TensorProto.DataType.values(), 77))
        case 5:
            info.name = r.choice(NAMES)
        case _:
            shape.dim.extend([shape.dim[0]] * r.choice((1, 9, 40)) if shape.dim else [])


def _node(r: random.Random, model: onnx.ModelProto) -> None:
    nodes = _all_nodes(model)
    n = _some(r, nodes)
    if n is None:
        return
    names = [*NAMES[:6], *(v for m in nodes for v in (*m.input, *m.output))]
    match r.randrange(8):
        case 0 | 1:
            n.op_type = r.choice(OPS)
        case 2 if n.input:
            n.input[r.randrange(len(n.input))] = r.choice(names)
        case 3:
            n.input.append(r.choice(names))
        case 4:
            del n.input[r.randrange(len(n.input) + 1) :]
        case 5 if n.output:
            n.output[r.randrange(len(n.output))] = r.choice(names)
        case 6:
            n.domain = r.choice(("", "ai.onnx", "d", "ai.onnx.ml", "com.microsoft"))
        case _:
            model.graph.node.add().CopyFrom(r.choice(nodes))


def _header(r: random.Random, model: onnx.ModelProto) -> None:
    match r.randrange(4):
        case 0 if model.opset_import:
            r.choice(model.opset_import).version = r.choice((*range(1, 26), _int(r)))
        case 1:
            _return(model, r.choice([o for n in model.graph.node for o in n.output] or ["y"]))
        case 2 if model.functions:
            f = r.choice(model.functions)
            f.node.add(op_type=r.choice(model.functions).name, domain="d", input=list(f.input), output=["again"])
        case _ if len(model.graph.node):
            del model.graph.node[r.randrange(len(model.graph.node))]


def _bomb(r: random.Random, model: onnx.ModelProto) -> None:
    """Add a node that makes something huge out of a small constant, before or after the existing nodes."""
    nodes = model.graph.node
    name = f"bomb{len(nodes)}"
    model.graph.initializer.add(name=f"{name}_n", data_type=TensorProto.INT64, dims=[2]).int64_data.extend(
        r.choice((10**3, 10**5, 10**6, 2**31, 2**40)) for _ in range(2)
    )
    source = _some(r, [o for n in nodes for o in n.output]) or "x"
    op = r.choice(
        ("ConstantOfShape", "Tile", "Expand", "Pad", "Reshape", "Resize", "OneHot", "Gather", "MatMul", "Add")
    )
    inputs = {"ConstantOfShape": [f"{name}_n"], "Resize": [source, "", "", f"{name}_n"]}.get(op, [source, f"{name}_n"])
    nodes.add(op_type=op, name=name, input=inputs, output=[name])
    if r.random() < 0.6:  # followed by more nodes of the same kind
        nodes.add(op_type=r.choice(("Tile", "Expand")), input=[name, f"{name}_n"], output=[f"{name}b"])
    _return(model, r.choice((name, nodes[-1].output[0])))


def _return(model: onnx.ModelProto, name: str) -> None:
    """Make a value an output, perhaps the only one."""
    del model.graph.output[:]
    model.graph.output.add().name = name


_STRUCTURAL: tuple[Callable[[random.Random, onnx.ModelProto], None], ...] = (
    _attribute, _attribute, _tensor, _tensor, _port, _node, _node, _header, _bomb,
)  # fmt: skip

# -- text --------------------------------------------------------------------------------------------------------------

_TOKENS = re.compile(r'\s+|"(?:[^"\\\n]|\\.)*"|[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?|%?[A-Za-z_][\w./:]*|.', re.DOTALL)
_WORDS = (
    "%x",
    "true",
    "none",
    "graph",
    "return",
    "const",
    "inf",
    "nan",
    "f32",
    "i64",
    "bf16",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ",",
    "=",
    '"q"',
)


def _alike(token: str) -> str | None:
    """The kind of a token. Tokens of one kind can replace each other."""
    if re.fullmatch(r"[-+]?\d+", token):
        return "integer"
    if token in DTYPES:
        return "dtype"
    if token in REGISTRY:
        return "op"
    if token.startswith("%"):
        return "value"
    if token.startswith('"'):
        return "string"
    return "word" if token in ("true", "false", "none") else None


def _text(r: random.Random) -> bytes:
    tokens = _TOKENS.findall(r.choice(corpus.texts()))
    other = _TOKENS.findall(r.choice(corpus.texts()))
    for _ in range(r.choice((1, 1, 2, 4))):
        at = r.randrange(len(tokens))
        if r.random() < 0.6:  # replace a token by one of its kind
            alike = _alike(tokens[at])
            while alike is None:
                at = r.randrange(len(tokens))
                alike = _alike(tokens[at])
            tokens[at] = (
                str(_int(r)) if alike == "integer" else r.choice([t for t in other + tokens if _alike(t) == alike])
            )
            continue
        numbers = [i for i, t in enumerate(tokens) if t[-1].isdigit() and t[0] not in '%"']
        match r.randrange(9):
            case 0 | 1 | 2 if numbers:
                tokens[r.choice(numbers)] = r.choice((str(_int(r)), str(r.choice(FLOATS)), "9" * r.choice((30, 5000))))
            case 3:
                del tokens[at : at + r.choice((1, 2, 10))]
            case 4:
                tokens[at:at] = tokens[at : at + r.choice((1, 2, 30))]
            case 5:
                start = r.randrange(len(other))
                tokens[at : at + r.choice((0, 5))] = other[start : start + r.choice((1, 5, 40))]
            case 6:
                tokens[at] = r.choice(_WORDS)
            case 7:
                tokens[at] = r.choice(("[", "graph @g(", "{a=", "((")) * r.choice((2, 40, 5000))
            case _:
                b = r.randrange(len(tokens))
                tokens[at], tokens[b] = tokens[b], tokens[at]
        if not tokens:
            break
    return "".join(tokens).encode("utf-8", "replace")


# -- artifacts ---------------------------------------------------------------------------------------------------------


def _artifact(r: random.Random) -> bytes:
    """An artifact with an edited description and a matching hash, or with damage to its last bytes."""
    data, footer = r.choice(corpus.artifacts()), artifact_file._FOOTER
    length, offset, digest, magic = footer.unpack(data[-footer.size :])
    if r.random() < 0.2:
        return data[:offset] + _damaged(r, data[offset:], data[offset:])
    if r.random() < 0.1:
        length, offset = (_int(r) % 2**64 if r.random() < 0.5 else v for v in (length, offset))
        return data[: -footer.size] + footer.pack(length, offset, digest, magic)
    description = json.loads(data[offset : offset + length])
    for _ in range(r.choice((1, 1, 2, 5))):
        _edit(r, description)
    text = json.dumps(description).encode()
    if r.random() < 0.1:
        text = _damaged(r, text, text)
    hashed = tree_hash([data[:offset], text, artifact_file._PLACE.pack(len(text), offset)])
    return data[:offset] + text + footer.pack(len(text), offset, hashed, magic)


def _edit(r: random.Random, value: Any) -> None:
    """Change something inside a JSON value."""
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = r.choice(list(keys))
        if not isinstance(value[key], dict | list) or not value[key] or r.random() < 0.2:
            match r.randrange(6):
                case 0:
                    del value[key]
                case 1 if isinstance(value, dict):
                    value["extra"] = value[key]
                case 2 if isinstance(value, list):
                    value.append(value[key])
                case _:
                    value[key] = r.choice(
                        (None, True, 1.5, float("nan"), "x", [], {}, [1], {"a": 1}, _int(r), _int(r), 2**70)
                    )
            return
        value = value[key]
