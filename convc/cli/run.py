"""Run a model on arrays (.npy, .npz) or pictures.

A picture becomes numbers from 0 to 1, or from 0 to 255 for a model that takes uint8. Many models were trained on other
numbers, and give nonsense without --mean and --std: those of the last example are ImageNet's. A model of several inputs
takes --input left=a.npy --input right=b.npy.

examples, in a clone of convc:
  convc run examples/lenet.onnx --input examples/digits/*.png --top 1
  convc run examples/networks.py:blur --input examples/cat.jpg examples/page.png     # each at its own size
  convc run examples/networks.py:blur --input examples/cat.jpg --output blurred.npy
  convc run examples/networks.py:blur --input blurred.npy
  convc run examples/networks.py:resnet18 --shape x=1,3,224,224 --input examples/cat.jpg --top 5 \\
      --resize 256 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
"""

from __future__ import annotations

import argparse
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

import convc

from .. import InputError
from ..reader import reader
from ..runtime.artifact import is_artifact
from ..runtime.description import Port
from ..runtime.files import write_aside
from .images import FITS, read_picture
from .options import (
    MODEL_HELP,
    add_model,
    add_threads,
    check_writable,
    choices,
    divisors,
    file_name,
    numbers,
    positive,
    progress,
    read_array,
    refuse_for_artifact,
    shapes,
    source,
)
from .usage import UsageError

if TYPE_CHECKING:
    from .. import Model

SMALL = 16
"""Outputs of at most this many elements are printed in full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "an artifact that convc build wrote, or " + MODEL_HELP)
    parser.add_argument(
        "--input",
        metavar="[NAME=]FILE",
        type=input_file,
        action="extend",
        nargs="+",
        default=[],
        help="one or more .npy files or pictures; for a model of several inputs NAME=FILE for each, or an .npz file "
        "that holds them by name; for one of one input, each in turn",
    )
    parser.add_argument(
        "--fit",
        choices=FITS,
        default=FITS[0],
        help="how a picture of other proportions than the model's is fitted: crop (default) keeps the middle, pad adds "
        "black borders, stretch distorts it",
    )
    parser.add_argument(
        "--resize",
        metavar="N",
        type=positive,
        help="scale a picture until its shorter side has N pixels, before the middle is cut out; classifiers of "
        "ImageNet for 224x224 want --resize 256 (default: the model's own size)",
    )
    parser.add_argument(
        "--mean",
        metavar="M",
        type=numbers,
        help="what to subtract from pictures scaled to [0,1]: one number, or one per channel",
    )
    parser.add_argument(
        "--std",
        metavar="S",
        type=divisors,
        help="what to divide pictures by, after --mean: one number, or one per channel",
    )
    parser.add_argument("--top", metavar="K", type=positive, help="print the K most likely classes of the first output")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=file_name,
        help="with --top: a file with the names of the classes, one per line",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=file_name,
        help="write the outputs to a file: .npy for one output, .npz for several by name",
    )
    add_threads(parser)
    parser.add_argument(
        "--device",
        metavar="N",
        type=device,
        help="for an artifact that runs on a GPU: the number of the GPU (default: 0)",
    )


def main(args: argparse.Namespace) -> None:
    if args.labels and not args.top:
        raise UsageError("--labels needs --top")
    if args.resize and args.fit != "crop":
        raise UsageError("--resize goes with --fit crop")
    names = _labels(args.labels) if args.labels else []
    if args.output is not None:
        check_writable(args.output)
        if not args.output.endswith((".npy", ".npz")):
            raise UsageError(f"--output writes .npy, or .npz for several outputs: '{args.output}' ends in neither")
    runs, model = _prepare(args)
    if args.output and len(runs) > 1:
        raise UsageError(f"--output keeps one run, and {len(runs)} inputs were given")
    if args.output and len(model.outputs) > 1 and not args.output.endswith(".npz"):
        raise UsageError(f"the model has {len(model.outputs)} outputs: give --output a name ending in .npz")
    for files in runs:
        results = model.run({p.name: _read(files[p.name], p, args, len(model.inputs) == 1) for p in model.inputs})
        if len(runs) > 1:
            print(f"{next(iter(files.values()))}:")
        if args.output:
            _write(args.output, results)
        lines = _top(results, args.top, names) if args.top else [_described(n, y) for n, y in results.items()]
        print("\n".join(lines))


def _exists(runs: Sequence[Mapping[str, str]]) -> None:
    """Raise ``InputError`` for a file that does not exist."""
    for file in (f for run in runs for f in run.values()):
        if not Path(file).exists():
            raise InputError(f"cannot read '{file}': no such file")


def _prepare(args: argparse.Namespace) -> tuple[list[dict[str, str]], Model]:
    """The model, and the files of each run by input name. Errors in the arguments are raised before compiling."""
    if is_artifact(args.model) or Path(args.model).suffix in (".convc", ".so"):
        refuse_for_artifact(args, args.model, "--shape", "--value", "--outputs", "--batch", "--limit")
        try:
            model = convc.load(args.model, args.threads, device=args.device)
        except InputError as e:  # threads of a GPU, or the device of a processor
            raise UsageError(str(e)) from None
        runs = assign(args.input, [p.name for p in model.inputs])
        _exists(runs)
        return runs, model
    if args.device is not None:
        raise UsageError("--device is for artifacts that run on a GPU: build one with convc build --target cuda")
    progress("reading the model")
    found = reader(source(args.model), shapes(args), **choices(args))
    runs = assign(args.input, [p.name for p in found.inputs])
    _exists(runs)
    progress("compiling")
    return runs, convc.compile(found, threads=args.threads, cache=True)


def input_file(text: str) -> str:
    """A word of --input, as it is."""
    if text in ("", "-") or text.endswith(("=", "=-")):
        raise argparse.ArgumentTypeError(f"'{text}' names no file; what comes from a pipe must be written to one first")
    return text


def device(text: str) -> int:
    """Parse the number of a GPU."""
    if not re.fullmatch(r"\d{1,3}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not the number of a GPU")
    return int(text)


def assign(given: Sequence[str], inputs: Sequence[str]) -> list[dict[str, str]]:
    """The file of each input by its name, for each run that the ``[NAME=]FILE`` arguments ask for.

    Raises ``UsageError`` when the files do not match the inputs.
    """
    pairs = [_pair(text, inputs) for text in given]
    if not inputs and pairs:
        raise UsageError(f"the model takes no input, and '{given[0]}' is given")
    named = [name for name, _ in pairs if name is not None]
    for twice in (name for name in named if named.count(name) > 1):
        raise UsageError(f"input '{twice}' is given twice; files without a name, for a model of one input, are runs")
    if len(inputs) == 1:
        if not pairs:
            raise UsageError(f"an input is missing: give --input FILE (the model takes '{inputs[0]}')")
        return [{inputs[0]: file} for _, file in pairs]
    files: dict[str, str] = {}
    archives = [file for name, file in pairs if name is None and file.endswith(".npz")]
    for name, file in pairs:
        if name is None and file in archives:
            continue
        if name is None:
            raise UsageError(
                f"the model takes {len(inputs)} inputs ({', '.join(inputs)}): "
                f"say which one '{file}' is, --input NAME={file}"
            )
        files[name] = file
    missing = [name for name in inputs if name not in files]
    if len(archives) > 1:
        raise UsageError(f"one .npz file holds the inputs, and {len(archives)} were given without a name")
    if archives:
        return [files | dict.fromkeys(missing, archives[0])]
    if missing:
        raise UsageError(f"input '{missing[0]}' is missing: give --input {missing[0]}=FILE")
    return [files]


def _pair(text: str, inputs: Sequence[str]) -> tuple[str | None, str]:
    for name in sorted(inputs, key=len, reverse=True):
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    name, equals, _ = text.partition("=")
    if equals and not Path(text).exists():
        raise InputError(f"the model has no input '{name}'; its inputs are {', '.join(inputs) or 'none'}")
    return None, text


def _read(file: str, port: Port, args: argparse.Namespace, only: bool) -> np.ndarray:
    """The array in a file for an input. ``only`` says that the model has no other input."""
    suffix = Path(file).suffix
    if suffix not in (".npy", ".npz"):
        return read_picture(file, port, args.mean or (), args.std or (), args.fit, args.resize)
    given = [f"--{o}" for o in ("mean", "std", "resize") if getattr(args, o)]
    if given or args.fit != FITS[0]:
        raise UsageError(f"{given[0] if given else '--fit'} is for pictures, and '{file}' is an array")
    try:
        array = _load(file, port, only) if suffix == ".npz" else read_array(file)
    except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError, RuntimeError, zlib.error) as e:
        reason = getattr(e, "strerror", None) or "not a .npz file of numbers, or truncated"
        raise InputError(f"cannot read '{file}': {reason}") from e
    if array.dtype.type is np.void and array.dtype.itemsize == np.dtype(port.dtype).itemsize:
        array = array.view(port.dtype)  # .npy files hold bfloat16 and smaller floats as void
    return array


def _load(file: str, port: Port, only: bool) -> np.ndarray:
    """The array of an .npz file for an input: the one of its name, or the only one for the only input."""
    with np.load(file, allow_pickle=False) as archive:
        names = archive.files
        name = port.name if port.name in names or len(names) != 1 or not only else names[0]
        if name not in names:
            raise InputError(f"'{file}' holds no array '{port.name}'; it holds {', '.join(names) or 'none'}")
        return np.asarray(archive[name])


def _write(path: str, results: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    if path.endswith(".npz"):
        arrays: dict[str, Any] = results
        np.savez(buffer, **arrays)
    else:
        np.save(buffer, next(iter(results.values())))
    try:
        write_aside(path, buffer.getbuffer())
    except OSError as e:
        raise InputError(f"cannot write '{path}': {e.strerror or e}") from None


# -- printing ----------------------------------------------------------------------------------------------------------


def _described(name: str, y: np.ndarray) -> str:
    head = f"{name}: {y.dtype}{list(y.shape)}"
    if y.size <= SMALL:
        return f"{head} = {np.array2string(y, separator=', ', max_line_width=10**6)}"
    values = y.astype(np.float64)
    return f"{head}  min {values.min():.6g}  max {values.max():.6g}  mean {values.mean():.6g}"


def _labels(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as e:
        raise InputError(f"cannot read labels '{path}': {getattr(e, 'strerror', None) or e}") from None


def _top(results: dict[str, np.ndarray], count: int, names: Sequence[str]) -> list[str]:
    """The ``count`` most likely classes of the first output, as lines of text, for each row of its batch."""
    name, y = next(iter(results.items()))
    if y.ndim < 1 or not y.size or y.dtype.kind in "biu":
        raise InputError(f"--top needs class scores, and output '{name}' is {y.dtype}{list(y.shape)}")
    rows = y.astype(np.float64).reshape(y.shape[0] if y.ndim > 1 else 1, -1)
    lines = []
    for i, row in enumerate(rows):
        if len(rows) > 1:
            lines.append(f"row {i}")
        p = probabilities(row)
        lines += [
            f"{k:6d}  {p[k]:.4f}  {names[k] if k < len(names) else ''}".rstrip()
            for k in np.argsort(-p, kind="stable")[:count]
        ]
    return lines


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The softmax of scores, or the scores themselves when they are probabilities already."""
    if scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3:
        return scores
    e = np.exp(scores - scores.max())
    return np.asarray(e / e.sum())
