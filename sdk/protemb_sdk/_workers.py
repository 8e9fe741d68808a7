"""Worker processes: they leave Ctrl-C to their parent, and end with it, whatever ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection


def start_worker() -> None:
    """Call it first in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def when_told(stop: Connection, act: Callable[[], None]) -> None:
    """Do something, in another thread of this worker, when something comes through a pipe.

    Ending the process would be simpler, but pools wait for ever for what came half through a pipe.
    """

    def wait() -> None:
        with suppress(OSError):
            stop.poll(None)  # nobody takes it out: every worker sees it
            act()

    threading.Thread(target=wait, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed; by itself it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
