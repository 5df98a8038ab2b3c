"""The tuning database, which ``convc tune`` writes and ``convc.compile`` reads.

It is one JSON file for each type of processor, in ``$CONVC_CACHE``, by default ``~/.cache/convc``. When ``CONVC_CACHE``
is ``off``, there is no database.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from convc.ir.errors import CompileError, warn
from convc.runtime.files import cache_folder, write_aside

from .choices import Choices

FORMAT = "convc-tuning-1"


def database(cpu: str) -> Path | None:
    """The path of the database for a processor, by LLVM's name; ``None`` when there is no cache folder."""
    folder = cache_folder()
    return folder / f"tuning-{cpu}.json" if folder else None


def stored(path: str | os.PathLike[str]) -> tuple[str, Choices]:
    """The processor that a database is for, by LLVM's name, and the choices in it.

    Raises ``CompileError`` when it cannot be read or is damaged.
    """
    try:
        raw = json.loads(Path(path).read_bytes())
        algorithms = raw["algorithms"]
        if raw["format"] != FORMAT or not all(isinstance(v, str) for v in algorithms.values()):
            raise ValueError(f"its format is not {FORMAT}")
        return str(raw.get("cpu")), Choices(algorithms)
    except OSError as e:
        raise CompileError(f"cannot read the tuning database '{path}': {e.strerror or e}") from None
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise CompileError(
            f"'{path}' is not a tuning database, or is damaged ({e}); delete it and tune again"
        ) from None


def read(path: str | os.PathLike[str], *cpus: str) -> Choices:
    """Read the choices from a database for one of these processors.

    Raises ``CompileError`` when it cannot be read, is damaged, or is for another processor.
    """
    cpu, choices = stored(path)
    if cpu not in cpus:
        known = " or ".join(map(repr, cpus))
        raise CompileError(f"the tuning database '{path}' is for the processor {cpu!r}, not {known}")
    return choices


def write(path: str | os.PathLike[str], cpu: str, choices: Choices) -> None:
    """Write choices to a database atomically, and make its folder if it is missing.

    Raises ``CompileError`` when that fails.
    """
    content = {"format": FORMAT, "cpu": cpu, "algorithms": dict(choices.algorithms)}
    try:
        Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    except (OSError, ValueError) as e:
        raise CompileError(f"cannot write the tuning database '{path}': {getattr(e, 'strerror', None) or e}") from None


def choices_for(tuning: bool | str | os.PathLike[str] | None, cpu: str) -> Choices:
    """The choices for a processor by the argument ``tuning`` of ``convc.compile``.

    A damaged database in the cache folder is ignored with a warning. One at a path that is for another processor holds
    none. Raises ``CompileError`` for a damaged one at a path.
    """
    if tuning is None or tuning is False:
        return Choices()
    if tuning is not True:
        made_for, choices = stored(tuning)
        return choices if made_for == cpu else Choices()
    path = database(cpu)
    if path is None or not path.exists():
        return Choices()
    try:
        return read(path, cpu)
    except CompileError as e:
        warn(f"convc compiles without its tuning database: {e}")
        return Choices()
