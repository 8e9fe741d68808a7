"""Worker processes that ignore Ctrl-C and end with their parent."""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import select
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_WAITS_FOR_THE_DEAD = sys.version_info < (3, 11, 5) and os.name == "posix"


class WorkerPool(ProcessPoolExecutor):
    """Spawned processes (a session does not survive a fork) whose shutdown does not hang.

    Before Python 3.11.5 `shutdown` waits for ever for an input that was half in the pipe when a worker
    died (https://github.com/python/cpython/issues/94777).

    Parameters
    ----------
    workers : int
        Processes.
    start : callable, optional
        What each calls first, with `arguments`.
    arguments : tuple
        Of `start`.
    when_told : callable, optional
        What each calls in another thread on `stop`, and when the interpreter ends: whatever was given out
        would be done first. Ending the process would be simpler, but pools wait for ever for what came half
        through a pipe.
    """

    def __init__(
        self,
        workers: int,
        start: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        *,
        when_told: Callable[[], None] | None = None,
    ) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._stop_signal, self._telling = multiprocessing.Pipe(duplex=False)
        begin = (self._stop_signal, when_told, start, arguments)
        super().__init__(workers, mp_context=spawn, initializer=_begin, initargs=begin)
        _open.add(self)
        if _WAITS_FOR_THE_DEAD:  # a copy of our own: the pool closes its end in a thread of its own
            inputs = self._call_queue._reader.fileno()  # type: ignore[attr-defined]
            self._inputs = io.FileIO(os.dup(inputs))

    def stop(self) -> None:
        """Tell the workers that their results are no longer needed."""
        with suppress(OSError):
            self._telling.send_bytes(b".")

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
        if wait:
            _open.discard(self)
            self._stop_signal.close()
            self._telling.close()

    def _drain(self, manager: threading.Thread) -> None:
        """Empty the queue of dead workers until the pool has ended."""
        while manager.is_alive():
            manager.join(0.05)
            while self._broken and select.select([self._inputs], [], [], 0)[0]:
                if not self._inputs.read(1 << 20):
                    return


_open: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


def _stop_all() -> None:
    for pool in _open:
        pool.stop()


# Before the interpreter waits for pools; `atexit` comes after.
getattr(threading, "_register_atexit", atexit.register)(_stop_all)


def _begin(
    stop_signal: Connection,
    when_told: Callable[[], None] | None,
    start: Callable[..., None] | None,
    arguments: tuple[Any, ...],
) -> None:
    """Initialise a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if when_told is not None:
        threading.Thread(target=_wait, args=(stop_signal, when_told), daemon=True).start()
    if start is not None:
        start(*arguments)


def _wait(stop_signal: Connection, act: Callable[[], None]) -> None:
    with suppress(OSError):
        stop_signal.poll(None)  # the message stays in the pipe, so that all workers see it
        act()


def _end_with_parent() -> None:
    """End this worker when its parent is killed, instead of waiting for work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
