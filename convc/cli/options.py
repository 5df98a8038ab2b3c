"""What the commands share: argument types, the MODEL argument, progress."""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from convc.ir.errors import ConvcError, InputError, ModelFileError
from convc.ir.graph import Graph
from convc.ir.limits import Limits
from convc.ir.shapes import StatedSize
from convc.runtime.artifact import is_artifact

from .usage import UsageError

MODEL_HELP = (
    "an ONNX file (.onnx), a graph in text form (.txt), or FILE.py:NAME or PACKAGE.MODULE:NAME for a model made in "
    "Python (an nn module, a Graph, or a function without arguments that returns one)"
)
ONE_SHAPE = (
    "the shape of one input, in which names are open sizes; once an input (--shape x=1,3,224,224, --shape x=n,3,h,w)"
)


def add_model(parser: argparse.ArgumentParser, what: str = MODEL_HELP, shape_help: str = ONE_SHAPE) -> None:
    """Add the argument MODEL and the options --shape, --value, --outputs, --batch and --limit."""
    parser.add_argument("model", metavar="MODEL", type=file_name, help=what)
    parser.add_argument(
        "--shape",
        metavar="NAME=N,C,H,W",
        type=shape,
        action="append",
        default=[],
        help=shape_help,
    )
    add_choices(parser)
    add_limits(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add the options --value, --outputs and --batch, which ``choices`` reads."""
    parser.add_argument(
        "--value",
        metavar="NAME=V,V",
        type=value,
        action="append",
        default=[],
        help="make a constant of one input: numbers, or an .npy file; once an input (--value sr=16000)",
    )
    parser.add_argument(
        "--outputs",
        metavar="NAME,NAME",
        type=names,
        help="cut the model at these of its values, which become the outputs",
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        type=batch,
        help="the number of images at a time, or its name, such as n, which leaves it open, where the model fixed it",
    )


def choices(args: argparse.Namespace) -> dict[str, Any]:
    """The options --value, --outputs and --batch, as ``convc.compile`` takes them.

    Raises ``UsageError`` when an input is given two values, and ``InputError`` for a file that cannot be read.
    """
    values = once("--value", args.value, "two values for input")
    found = {name: v() if callable(v) else v for name, v in values.items()}
    return {"values": found, "outputs": args.outputs, "batch": args.batch}


def once(option: str, pairs: Sequence[tuple[str, Any]], twice: str) -> dict[str, Any]:
    """The values of an option by name. Raises ``UsageError``, which begins with ``twice``, for two of one name."""
    found: dict[str, Any] = {}
    for name, given in pairs:
        if name in found:
            raise UsageError(f"argument {option}: {twice} '{name}'")
        found[name] = given
    return found


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the option --limit, which ``main`` puts into effect."""
    parser.add_argument(
        "--limit",
        metavar="NAME=N",
        type=limit,
        action="append",
        default=[],
        help=f"raise a limit on what the model may ask for: {', '.join(f.name for f in fields(Limits))}",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads a run uses (default: as many as the process may run on)"
    )


def file_name(text: str) -> str:
    """The name of a file, as it is. Pipes are neither read nor written."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a file; what goes through a pipe needs one too")
    return text


def names(text: str) -> list[str]:
    """Parse names that are separated by commas."""
    found = text.split(",")
    if "" in found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of different names such as a,b")
    return found


def batch(text: str) -> str | int:
    """Parse a number of images, or the name of an open one."""
    if re.fullmatch(r"\d{1,9}", text) and int(text):
        return int(text)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is neither a number of images nor a name such as n")


def shape(text: str) -> tuple[str, tuple[StatedSize, ...]]:
    """Parse ``x=1,3,224,224`` or ``x=n,3,h,w`` into a name and sizes, some of which may be names of open ones."""
    name, _, sizes = text.rpartition("=")
    if not name or not re.fullmatch(rf"{_SIZE}(,{_SIZE})*", sizes):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=1,3,224,224, or NAME=n,3,h,w")
    return name, tuple(int(s) if s.isdecimal() else s for s in sizes.split(","))


_SIZE = r"(?:\d{1,18}|[A-Za-z_][A-Za-z0-9_]*)"


def value(text: str) -> tuple[str, Any]:
    """Parse ``sr=16000``, ``sizes=1,3,8,8`` or ``w=w.npy`` into a name and a value, or a function that reads it."""
    name, _, given = text.rpartition("=")
    if name and given.endswith(".npy"):
        return name, lambda: read_array(given)
    words = given.split(",")
    try:
        found = [_WORDS[w] if w in _WORDS else int(w) if re.fullmatch(r"[+-]?\d{1,20}", w) else float(w) for w in words]
    except ValueError:
        found = []
    if any(isinstance(v, int) and not -(1 << 63) <= v < 1 << 64 for v in found):
        raise argparse.ArgumentTypeError(f"'{text}' holds an integer of more than 64 bits")
    if not name or not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=16000, NAME=1,3,8,8 or NAME=FILE.npy")
    return name, found if len(found) > 1 else found[0]


_WORDS = {"true": True, "false": False}


def read_array(file: str) -> np.ndarray:
    """The array in an .npy file. Raises ``InputError`` when it cannot be read."""
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else "not a .npy file of numbers, or truncated"
        raise InputError(f"cannot read '{file}': {why}") from None


def shapes(args: argparse.Namespace) -> dict[str, tuple[StatedSize, ...]]:
    """The --shape options by input name. Raises ``UsageError`` when an input is given two shapes."""
    found: dict[str, tuple[StatedSize, ...]] = {}
    for name, sizes in args.shape:
        if found.setdefault(name, sizes) != sizes:
            raise UsageError(f"argument --shape: two shapes for input '{name}'")
    return found


def shape_sets(args: argparse.Namespace) -> list[dict[str, tuple[StatedSize, ...]]]:
    """The --shape options as one or several sets of shapes by input name.

    The first shapes of all inputs form the first set, the second ones the second set, and so on. An input that is given
    one shape has it in all sets. Raises ``UsageError`` when the numbers of shapes do not match.
    """
    given: dict[str, list[tuple[StatedSize, ...]]] = {}
    for name, sizes in args.shape:
        given.setdefault(name, []).append(sizes)
    count = max(map(len, given.values()), default=1)
    for name, found in given.items():
        if len(found) not in (1, count):
            raise UsageError(f"argument --shape: {len(found)} shapes for input '{name}', and {count} for another one")
    sets = [{name: s[i % len(s)] for name, s in given.items()} for i in range(count)]
    return [s for i, s in enumerate(sets) if s not in sets[:i]]


def limit(text: str) -> tuple[str, int]:
    """Parse ``nodes=100000`` into a name and a number."""
    name, equals, number = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=N, as in nodes=100000")
    if name not in {f.name for f in fields(Limits)}:
        known = ", ".join(f.name for f in fields(Limits))
        raise argparse.ArgumentTypeError(f"there is no limit '{name}'; known: {known}")
    return name, positive(number)


def seed(text: str) -> int:
    """Parse an integer of 64 bits, from 0 on."""
    if not re.fullmatch(r"\d{1,20}", text) or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer from 0 to 2**64 - 1")
    return int(text)


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer of at least 1")
    return int(text)


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def numbers(text: str) -> tuple[float, ...]:
    """Parse finite numbers that are separated by commas."""
    try:
        values = tuple(float(v) for v in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers such as 0.485,0.456,0.406")
    return values


def divisors(text: str) -> tuple[float, ...]:
    """Parse finite numbers other than 0 that are separated by commas."""
    values = numbers(text)
    if not all(values):
        raise argparse.ArgumentTypeError(f"'{text}' holds 0, by which nothing can be divided")
    return values


def progress(stage: str) -> None:
    """Print the name of a stage to stderr when it is a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"convc: {stage}", file=sys.stderr)


def check_writable(path: str) -> None:
    """Raise an error when a file cannot be written, so that the command does not fail after its work.

    It is a ``ConvcError`` with the system's reason.
    """
    try:
        target = Path(os.path.realpath(path))
        folder = target.parent
        if not folder.is_dir():
            reason = "its folder does not exist" if not folder.exists() else f"'{folder}' is not a folder"
        elif target.is_dir():
            reason = os.strerror(errno.EISDIR)
        else:
            place = target if target.exists() and not target.is_file() else folder  # a file is replaced, not written to
            reason = "" if os.access(place, os.W_OK) else os.strerror(errno.EACCES)
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
    if reason:
        raise ConvcError(f"cannot write '{path}': {reason}")


_KINDS = {
    **dict.fromkeys((".convc", ".so"), "an artifact"),
    **dict.fromkeys((".npy", ".npz"), "arrays"),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), "a picture"),
    ".onnx": "an ONNX model",
    ".txt": "a graph in text form",
    ".py": "Python",
    ".json": "JSON",
}
"""What a file is taken for by its name."""


def check_kind(path: str, what: str, usual: str) -> None:
    """Raise ``UsageError`` when the name of a file to be written says that it is of another kind than ``what``.

    ``usual`` is how its name usually ends.
    """
    named = _KINDS.get(Path(path).suffix.lower(), what)
    if named != what:
        raise UsageError(f"'{path}' is the name of {named}, and {what} is written: give a name that ends in {usual}")


def refuse_for_artifact(args: argparse.Namespace, path: str, *options: str) -> None:
    """Raise ``UsageError`` for an option that was given with an artifact, and that only models take."""
    for option in options:
        name = option.lstrip("-")
        if getattr(args, name) != args.parser.get_default(name):
            raise UsageError(f"{option} is for models, and '{path}' is an artifact, which is compiled already")


def same_file(a: str, b: str) -> bool:
    """Whether two paths name the same existing file."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False


# -- MODEL -------------------------------------------------------------------------------------------------------------

_PYTHON = re.compile(r"(?P<where>.+):(?P<name>[A-Za-z_]\w*)")


def stem(model: str) -> str:
    """The name for files that are made from MODEL: ``lenet`` for both ``zoo/lenet.onnx`` and ``zoo.py:lenet``."""
    return python_name(model) or Path(model).stem


def python_name(model: str) -> str | None:
    """The NAME of ``FILE.py:NAME``, or ``None`` when MODEL is a path."""
    m = _PYTHON.fullmatch(model)
    return None if m is None or Path(model).exists() else m["name"]


def source(model: str) -> Any:
    """The model that MODEL names, as ``convc.compile`` takes it: a path, or an object made in Python.

    Raises ``ModelFileError`` when there is no such object, or when its module cannot be imported.
    """
    name = python_name(model)
    if name is None:
        if Path(model).suffix == ".py":
            raise ModelFileError(f"'{model}' is Python: say which model in it, as {model}:NAME")
        if is_artifact(model):
            raise ModelFileError(f"'{model}' is compiled already: give the model that it was built from")
        return model
    where = model[: -len(name) - 1]
    module = _user_code(f"cannot import '{where}'", lambda: _import(where))
    if not hasattr(module, name):
        raise ModelFileError(f"'{where}' has no '{name}'")
    made = getattr(module, name)
    if isinstance(made, Graph) or (hasattr(made, "to_graph") and not isinstance(made, type)) or not callable(made):
        return made
    needed = [p.name for p in signature(made).parameters.values() if p.default is p.empty and p.kind in _REQUIRED]
    if needed:
        raise ModelFileError(f"'{model}' takes arguments ({', '.join(needed)}): give a function that takes none")
    return _user_code(f"'{model}' failed", made)


_REQUIRED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _user_code(what: str, call: Callable[[], Any]) -> Any:
    """Run the user's Python code.

    Everything that it raises becomes a ``ModelFileError``, since it concerns the model, not convc.
    """
    try:
        return call()
    except (Exception, SystemExit) as e:
        raise ModelFileError(f"{what}: {type(e).__name__}: {e}") from e


def _import(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        return importlib.import_module(where)
    path = Path(where).resolve()
    sys.path.insert(0, str(path.parent))  # the module can import its neighbours, as a script can
    spec = importlib.util.spec_from_file_location(f"convc_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
