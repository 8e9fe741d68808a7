"""Inputs that are read by a thread, or by worker processes, while others are embedded in batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from protemb_sdk._base.errors import EmbeddingError, ProtembError
from protemb_sdk._base.workers import WorkerPool
from protemb_sdk._embed.outcome import InputRead, read_input
from protemb_sdk._structure.inputs import Input
from protemb_sdk._structure.protein import StructureRead

Reader = Callable[[object], StructureRead]


def read_ahead(
    items: Iterable[Input], read: Reader, workers: int, count: int
) -> Generator[list[InputRead], None, None]:
    """Give inputs in order, `count` at a time, while the next `count` are being read.

    Parameters
    ----------
    items : iterable of Input
        Inputs.
    read : callable
        Returns the chains of an input; is pickled for worker processes.
    workers : int
        Number of processes; with 1 a thread reads.
    count : int
        Number of inputs.

    Raises
    ------
    EmbeddingError
        If a process cannot be started, or died.
    """
    named = ((x, x.listed(position)) for position, x in enumerate(items, start=1))
    try:
        readers: Executor = ThreadPoolExecutor(1) if workers == 1 else WorkerPool(workers)
    except OSError as error:
        raise unstarted(error) from error
    with readers:
        try:
            waiting = list(_submitted(readers, islice(named, count), read, workers > 1))
            while waiting:
                now = waiting
                waiting = list(_submitted(readers, islice(named, count), read, workers > 1))
                yield [_result(source, job) for source, job in now]
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def _submitted(
    readers: Executor, inputs: Iterator[tuple[Input, str]], read: Reader, travels: bool
) -> Iterator[tuple[str, Future[InputRead]]]:
    for x, source in inputs:
        job: Future[InputRead]
        try:
            job = readers.submit(read_input, read, x.portable(read) if travels else x, source)
        except ProtembError:  # it cannot be read, which becomes its outcome
            job = Future()
            job.set_result(read_input(read, x, source))
        except BrokenProcessPool as error:
            raise died(source) from error
        except OSError as error:
            raise unstarted(error) from error
        yield source, job


def _result(source: str, job: Future[InputRead]) -> InputRead:
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise died(source) from error


def unstarted(error: OSError) -> EmbeddingError:
    """Return the error of processes that cannot be started."""
    return EmbeddingError(f"worker processes cannot be started ({error.strerror}); try fewer workers")


def died(source: str) -> EmbeddingError:
    """Return the error of a process that ended during its work on an input."""
    return EmbeddingError(
        f"a worker process died at or near {source} (out of memory? a script without "
        "if __name__ == '__main__'?); try fewer workers"
    )
