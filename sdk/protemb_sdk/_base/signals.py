"""Delay Ctrl-C and SIGTERM while a file is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def signals_wait() -> Iterator[None]:
    """Delay signals that stop a run until the end of the block.

    An exception out of a signal handler can come between any two steps; within a library's callback (HDF5's,
    after a long call) it is printed and lost. Only the main thread receives signals; in other threads nothing
    is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waits = True
    came: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if waits:
            came.append((number, frame))
        else:
            handlers[number](number, frame)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):  # a default or ignored signal raises nothing
                handlers[number] = handler
                signal.signal(number, note)
        yield
    finally:
        waits = False  # should restoring be interrupted, `note` only passes on
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        for kind, frame in came:
            handlers[kind](kind, frame)
