"""Ctrl-C and SIGTERM wait until what is being written stands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_wait() -> Iterator[None]:
    """Hear signals that end a run only behind the block.

    An exception out of a signal handler can come between any two steps; within a library's callback (HDF5's,
    after a long call) it is printed and lost. Only the main thread hears signals; elsewhere nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))

    # A default or ignored signal raises nothing.
    handlers = {
        int(number): handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number))
    }
    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in came[:1]:
        handlers[number](number, frame)
