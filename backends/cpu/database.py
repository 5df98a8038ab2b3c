"""The database that ``convc tune`` writes and ``convc.compile`` reads: what was measured to be best, one JSON file a processor.

It lies in ``$CONVC_CACHE``, by default ``~/.cache/convc``; with ``CONVC_CACHE`` set to nothing there is none.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from convc.ir.errors import CompileError
from convc.runtime.files import cache_folder, write_aside

from .choices import Choices

FORMAT = "convc-tuning-1"


def database(cpu: str) -> Path | None:
    """The file for a processor, by LLVM's name for it."""
    folder = cache_folder()
    return folder / f"tuning-{cpu}.json" if folder else None


def read(path: str | os.PathLike[str], cpu: str) -> Choices:
    """The choices in a file; raises ``CompileError`` when it cannot be read, is damaged, or is for another processor."""
    try:
        raw = json.loads(Path(path).read_bytes())
        algorithms = raw["algorithms"]
        if raw["format"] != FORMAT or not all(isinstance(v, str) for v in algorithms.values()):
            raise ValueError(f"its format is not {FORMAT}")
    except OSError as e:
        raise CompileError(f"cannot read the tuning database '{path}': {e.strerror or e}") from None
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise CompileError(
            f"'{path}' is not a tuning database, or is damaged ({e}); delete it and tune again"
        ) from None
    if raw.get("cpu") != cpu:
        raise CompileError(f"the tuning database '{path}' is for the processor {raw.get('cpu')!r}, not {cpu!r}")
    return Choices(algorithms)


def write(path: str | os.PathLike[str], cpu: str, choices: Choices) -> None:
    """Write choices to a file, whole or not at all, its folder made where missing; raises ``CompileError``."""
    content = {"format": FORMAT, "cpu": cpu, "algorithms": dict(choices.algorithms)}
    try:
        Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    except (OSError, ValueError) as e:
        raise CompileError(f"cannot write the tuning database '{path}': {getattr(e, 'strerror', None) or e}") from None


def choices_for(tuning: bool | str | os.PathLike[str] | None, cpu: str) -> Choices:
    """What ``convc.compile(tuning=...)`` stands for; a database that was not asked for is ignored when it is damaged."""
    if tuning is None or tuning is False:
        return Choices()
    if tuning is not True:
        return read(tuning, cpu)
    path = database(cpu)
    if path is None or not path.exists():
        return Choices()
    try:
        return read(path, cpu)
    except CompileError as e:
        warnings.warn(f"convc compiles without its tuning database: {e}", stacklevel=3)
        return Choices()
