"""Interrupts (Ctrl-C) and SIGTERM while code that is not Python runs, which may take half a minute in one call."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from .files import remove_temporary

Handler = Callable[[int, FrameType | None], Any]
"""A function that Python calls for a signal."""
GRACE = 1.0
"""The seconds that Python code has to end a process by itself, after a signal that asks for it."""


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise what the handler of an interrupt (Ctrl-C) or of SIGTERM raised, for an error that follows it.

    TVM may turn the ``KeyboardInterrupt`` of a callback into a ``RuntimeError`` without a text. Handlers that raise
    nothing change nothing. In threads, which get no signals, nothing is done.
    """
    raised: list[BaseException] = []

    def noting(handler: Handler) -> Handler:
        def note(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as e:
                raised.append(e)
                raise

        return note

    ours: dict[signal.Signals, tuple[Handler, Handler]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                ours[number] = handler, noting(handler)
                signal.signal(number, ours[number][1])
    try:
        yield
    except Exception:
        if raised:
            raise raised[0] from None
        raise
    finally:
        for number, (handler, note) in ours.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)


@contextlib.contextmanager
def ending_soon(codes: Mapping[int, int]) -> Iterator[None]:
    """End the process soon after a signal, also while the main thread is in a long call that is not Python.

    ``codes`` gives the exit code for each signal. The signal's handler, which Python runs once the call returns, has
    ``GRACE`` seconds to end the ``with`` block. After these a thread removes convc's temporary files and ends the
    process. It is for a program of our own: where another one waits for signals already, or outside the main thread,
    nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    ended = threading.Event()

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in codes and not ended.wait(GRACE):
                remove_temporary()
                os._exit(codes[number[0]])
        os.close(reader)

    if before == -1:
        threading.Thread(target=watch, name="convc-signals", daemon=True).start()
    try:
        if before != -1:
            signal.set_wakeup_fd(before)
        yield
    finally:
        ended.set()
        if before == -1:
            signal.set_wakeup_fd(before)
        else:
            os.close(reader)
        os.close(writer)
