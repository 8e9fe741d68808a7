"""Worker processes that ignore Ctrl-C and end with their parent."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool(ProcessPoolExecutor):
    """Spawned processes (a session does not survive a fork) whose shutdown does not hang.

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
        would be done first. Ending the process would be simpler, but breaks the pool.
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
        self._watched: set[int] = set()
        self._ending = threading.Lock()
        _open.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `ProcessPoolExecutor`; a worker that dies while it sends a result breaks the pool too."""
        try:
            job = super().submit(fn, *args, **kwargs)
        except OSError as error:  # a process was to be started just when another had died
            if any(process.exitcode for process in self._processes.values()):
                raise BrokenProcessPool("a process in the process pool was terminated abruptly") from error
            raise
        for pid, process in list(self._processes.items()):
            if pid not in self._watched:
                self._watched.add(pid)
                watch = (process, self._processes, self._result_queue, self._ending)
                threading.Thread(target=_end_after, args=watch, daemon=True).start()
        return job

    def stop(self) -> None:
        """Tell the workers that their results are no longer needed."""
        with suppress(OSError):
            self._telling.send_bytes(b".")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            _open.discard(self)
            self._stop_signal.close()
            self._telling.close()


def _end_after(
    process: BaseProcess, others: Mapping[int, BaseProcess], results: Any, ending: threading.Lock
) -> None:
    """Wait for a process; if it did not end by itself, end the others and the pipe of results.

    A process that is killed while it writes leaves part of a result, and the executor would wait for the
    rest for ever: it looks at its processes only between results.
    """
    wait([process.sentinel])
    if _was_killed(process):
        with ending:
            for other in list(others.values()):
                other.terminate()
            results._writer.close()


def _was_killed(process: BaseProcess) -> bool:
    """Return whether a process that ends does so by a signal or with an error."""
    if hasattr(os, "waitid"):
        with suppress(ChildProcessError):  # another thread has seen the end
            # The status is left to the executor, which waits for the process too.
            ended = os.waitid(os.P_PID, process.pid or 0, os.WEXITED | os.WNOWAIT)
            return ended is not None and (ended.si_code != os.CLD_EXITED or ended.si_status != 0)
    return bool(process.exitcode)


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
