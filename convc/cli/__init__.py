"""The command line.

The exit codes are 0 when the work is done; 1 when it failed, as with a file that is missing or a model that is refused;
2 for wrong usage, that is a word of the command line that is missing, unknown or malformed, or that does not go with
the others or with this kind of model; 130 after an interrupt (Ctrl-C), 141 when the reader of the output has left, and
143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from convc.ir.errors import ConvcError
from convc.runtime.interrupts import ending_soon, interrupts_kept
from convc.version import __version__

from .usage import UsageError

COMMANDS = ("build", "run", "inspect", "export", "bench", "tune")
"""The names of the commands. Each is a module of this package, which is imported when it is needed."""
DONE, FAILED, INTERRUPTED, PIPE_CLOSED, TERMINATED = 0, 1, 130, 141, 143
"""The exit codes that ``main`` returns. For wrong usage argparse exits with 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raises ``SystemExit(2)`` for wrong usage, as argparse does."""
    with contextlib.suppress(AttributeError):  # names in a model may not be printable in the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    _end_cleanly()
    try:
        with ending_soon({signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}):
            return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except BrokenPipeError:
        _drop_stdout()
        return PIPE_CLOSED


class Terminated(BaseException):
    """The process was asked to end by SIGTERM. No model in Python, whose ``SystemExit`` is an error, may catch it."""


def _end_cleanly() -> None:
    """Make SIGTERM end the process as an exception does, so that temporary folders are deleted."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)


def _run(words: Sequence[str]) -> int:
    """Run the command that the words of the command line name; only its module is imported."""
    chosen = next((word for word in words if word in COMMANDS), None)
    version = "--version" in words and chosen is None
    with interrupts_kept():  # loading numpy or onnx may turn an interrupt into another error too
        if not version:
            import_module("numpy")  # before an extension imports it, which would print the traceback of an interrupt
        parser = make_parser(() if version else COMMANDS if chosen is None else (chosen,))
        args, unknown = parser.parse_known_args(words)
    if unknown:
        args.parser.error(printable(f"unrecognized arguments: {' '.join(unknown)}"))
    debug: bool = getattr(args, "debug", False)  # before or after the command's name
    from convc.ir.limits import Limits, using  # it loads numpy, which takes longer than to print the version

    from .options import once

    try:
        limits = once("--limit", getattr(args, "limit", []), "two values for limit")
        with interrupts_kept(), using(Limits(**limits)):
            args.command(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as e:
        args.parser.error(printable(str(e)))
    except BrokenPipeError:
        raise
    except (ConvcError, MemoryError, OSError) as e:
        return _fail(_message(e), debug)
    except Exception as e:
        what = f"internal error: {type(e).__name__}: {' '.join(str(e).split())[:300]}"
        return _fail(f"{what} (please report this; run with --debug for the traceback)", debug)
    return DONE


def make_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """A parser for these commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors")
    parser = argparse.ArgumentParser(
        prog="convc",
        description="A deep-learning compiler for convolutional networks.\n\n"
        "exit codes: 0 done, 1 failed (a file is missing, a model is refused), 2 wrong usage, 130 interrupted (Ctrl-C)",
        epilog="example, in a clone of convc:\n"
        "  convc build examples/lenet.onnx && convc run lenet.convc --input examples/digits/*.png --top 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"convc {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in names:
        module = import_module(f".{name}", __name__)
        summary, _, rest = (module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=rest,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(command=module.main, parser=command)
    return parser


def printable(text: str) -> str:
    """The text with control characters escaped, since names in an untrusted model must not control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _message(e: Exception) -> str:
    if isinstance(e, MemoryError):
        return f"out of memory ({e})" if str(e) else "out of memory"
    if isinstance(e, OSError) and e.strerror:
        return f"{e.strerror}: '{e.filename}'" if e.filename else e.strerror
    return str(e)


def _fail(message: str, debug: bool) -> int:
    """Print an error to stderr and return ``FAILED``.

    When stdout is broken, it is replaced, so that Python does not report an error at exit.
    """
    if debug:
        traceback.print_exc()
    if sys.stderr is not None:
        print(f"convc: error: {printable(message)}", file=sys.stderr)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_stdout()
    return FAILED


def _drop_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
