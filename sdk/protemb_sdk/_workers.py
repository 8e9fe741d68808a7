"""Worker processes: they leave Ctrl-C to their parent, and end with it, whatever ends it."""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_WAITS_FOR_THE_DEAD = sys.version_info < (3, 11, 5) and os.name == "posix"


class WorkerPool(ProcessPoolExecutor):
    """Spawned processes (a session does not survive a fork), and an end that never hangs.

    Before Python 3.11.5 `shutdown` waits for ever for an input that was half in the pipe when a worker
    died (https://github.com/python/cpython/issues/94777).
    """

    def __init__(self, workers: int, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        spawn = multiprocessing.get_context("spawn")
        super().__init__(workers, mp_context=spawn, initializer=start, initargs=arguments)
        if _WAITS_FOR_THE_DEAD:  # a copy of our own: the pool closes its end in a thread of its own
            inputs = self._call_queue._reader.fileno()  # type: ignore[attr-defined]
            self._inputs = io.FileIO(os.dup(inputs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        manager: Any = self._executor_manager_thread  # None, where nothing was submitted
        # When the interpreter ends, it has ended, and no thread can be started any more.
        waiting = wait and manager is not None and manager.is_alive()
        if _WAITS_FOR_THE_DEAD and waiting:
            draining = threading.Thread(target=self._drain, args=(manager,), daemon=True)
            draining.start()
            super().shutdown(wait, cancel_futures=cancel_futures)
            draining.join()
        else:
            super().shutdown(wait, cancel_futures=cancel_futures)
        if _WAITS_FOR_THE_DEAD:
            self._inputs.close()

    def _drain(self, manager: threading.Thread) -> None:
        """Take what dead workers do not, until the pool has ended."""
        while manager.is_alive():
            manager.join(0.05)
            while self._broken and select.select([self._inputs], [], [], 0)[0]:
                if not self._inputs.read(1 << 20):
                    return


def start_worker() -> None:
    """Call it first in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def before_exit(act: Callable[[], None]) -> None:
    """Call something when the interpreter ends, before it waits for pools; `atexit` comes after."""
    getattr(threading, "_register_atexit", atexit.register)(act)


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
