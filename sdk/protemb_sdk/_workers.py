"""Worker processes: they leave Ctrl-C to their parent, and end with it, whatever ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

_step = threading.Lock()
_computing = _ended = False


def start_worker() -> None:
    """Call it first in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def computing() -> Iterator[None]:
    """Wrap what a task computes: there, and only there, `end_when` may end the worker."""
    global _computing
    with _step:
        if _ended:
            os._exit(1)
        _computing = True
    try:
        yield
    finally:
        with _step:
            _computing = False


def end_when(stop: Connection) -> None:
    """End this worker in the middle of a task when something comes through the pipe.

    Never while it takes a task or hands over a result: half a message in a pipe would be waited for for ever.
    """
    threading.Thread(target=_end_when, args=(stop,), daemon=True).start()


def _end_when(stop: Connection) -> None:
    global _ended
    try:
        stop.poll(None)  # nobody takes it out: every worker sees it
    except OSError:
        return
    with _step:
        if _computing:
            os._exit(1)
        _ended = True


def _end_with_parent() -> None:
    """End this worker when its parent is killed; by itself it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
