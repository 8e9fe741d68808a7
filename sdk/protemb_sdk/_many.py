"""Many structures: in order, in bounded memory, in one process or several, every failure kept."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from protemb_sdk._chain import Chain, Skipped
from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import EmbeddingError, ProtembError, StructureError
from protemb_sdk._files import find_structures

if TYPE_CHECKING:
    from protemb_sdk._embedder import Embedder

Progress = bool | Callable[[int, int | None], None]


@dataclass(slots=True)
class Outcome:
    """What became of one input."""

    embeddings: list[Embedding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    error: ProtembError | None = None


def source_name(x: object) -> str:
    """Return how an input is named in a list of skipped ones."""
    if isinstance(x, str | PathLike):
        return str(x)
    if isinstance(x, Chain):
        return x.id
    return str(getattr(x, "name", "") or type(x).__name__)


def embed_one(embedder: Embedder, x: object, pair: bool) -> Outcome:
    """Embed every protein chain of one input; an error of ours ends in the outcome, not in the air."""
    outcome = Outcome()
    try:
        read = embedder.read(x)
        outcome.skipped.extend(read.skipped)
        if not read.chains:
            reasons = "; ".join(
                dict.fromkeys(f"chain {s.chain}: {s.reason}" if s.chain else s.reason for s in read.skipped)
            )
            raise StructureError(
                f"{source_name(x)}: no protein chain to embed ({reasons or 'it holds no atoms'})"
            )
        for chain in read.chains:
            outcome.embeddings.append(embedder.embed_chain(chain, pair=pair))
    except ProtembError as error:
        outcome.error = error
    return outcome


_worker: Embedder  # of a worker process, made once by `_start_worker`


def _start_worker(arguments: dict[str, Any]) -> None:
    global _worker
    from protemb_sdk._embedder import Embedder

    _worker = Embedder(**arguments)


def _work(x: object, pair: bool) -> Outcome:
    return embed_one(_worker, x, pair)


def portable(embedder: Embedder, x: object) -> object:
    """Return an input that can be sent to another process: a path, bytes, or chains already read."""
    if isinstance(x, str | PathLike | bytes | Chain | tuple):
        return x
    if hasattr(x, "read"):
        content = x.read()
        return content.encode() if isinstance(content, str) else content
    return embedder.read(x)


def is_one(x: object) -> bool:
    """Tell one input from a collection of them: structures of gemmi and Biotite are iterable too."""
    if isinstance(x, tuple):
        return len(x) in (2, 3) and isinstance(x[1], str) and not isinstance(x[0], str | PathLike | bytes)
    return isinstance(x, str | PathLike | bytes | bytearray | memoryview | Chain) or any(
        hasattr(x, mark)
        for mark in ("read", "coord", "cell")  # a file, a Biotite array, a gemmi structure
    )


def inputs_of(xs: object) -> list[object] | Iterable[object]:
    """Return the inputs in a folder, a list with folders in it, a stream, or one input alone."""
    items = [xs] if is_one(xs) or not isinstance(xs, Iterable) else xs

    def expanded(items: Iterable[object]) -> Iterator[object]:
        for x in items:
            if isinstance(x, str | PathLike) and Path(x).is_dir():
                yield from find_structures(Path(x))
            else:
                yield x

    return list(expanded(items)) if isinstance(items, Sized) else expanded(items)


class EmbeddingRun(Iterator[Embedding]):
    """The embeddings of many structures, one after the other.

    Iterate over it once. Made by `Embedder.embed_many`.

    Attributes
    ----------
    skipped : list of Skipped
        So far: chains passed over and, with ``on_error="skip"``, inputs that failed.
    """

    def __init__(
        self,
        embedder: Embedder,
        xs: object,
        *,
        workers: int = 1,
        pair: bool = False,
        progress: Progress = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise EmbeddingError(f"on_error is 'raise' or 'skip', not {on_error!r}")
        if workers < 1:
            raise EmbeddingError(f"workers must be at least 1, not {workers}")
        self.skipped: list[Skipped] = []
        self._embedder, self._pair, self._on_error = embedder, pair, on_error
        items = inputs_of(xs)
        self._total = len(items) if isinstance(items, Sized) else None
        outcomes = self._here(items) if workers == 1 else self._elsewhere(items, workers)
        self._embeddings = self._flat(outcomes, progress)

    def __iter__(self) -> EmbeddingRun:
        return self

    def __next__(self) -> Embedding:
        return next(self._embeddings)

    def close(self) -> None:
        """Stop early and end the workers."""
        self._embeddings.close()

    def _flat(self, outcomes: Iterator[tuple[object, Outcome]], progress: Progress) -> Iterator[Embedding]:
        with _reporting(progress, self._total) as report:
            for done, (x, outcome) in enumerate(outcomes, start=1):
                self.skipped.extend(outcome.skipped)
                yield from outcome.embeddings
                if outcome.error is not None:
                    if self._on_error == "raise":
                        raise outcome.error
                    self.skipped.append(Skipped(source_name(x), "", _without_source(outcome.error, x)))
                report(done, self._total)

    def _here(self, items: Iterable[object]) -> Iterator[tuple[object, Outcome]]:
        for x in items:
            yield x, embed_one(self._embedder, x, self._pair)

    def _elsewhere(self, items: Iterable[object], workers: int) -> Iterator[tuple[object, Outcome]]:
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),  # a session does not survive a fork
            initializer=_start_worker,
            initargs=(self._embedder.worker_arguments(workers),),
        )
        waiting: deque[tuple[object, Future[Outcome] | Outcome]] = deque()
        try:
            for x in items:
                waiting.append((x, self._submit(pool, x)))
                # Two tasks a worker keep all of them busy; more would only hold results.
                if len(waiting) > 2 * workers:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, pool: ProcessPoolExecutor, x: object) -> Future[Outcome] | Outcome:
        try:
            return pool.submit(_work, portable(self._embedder, x), self._pair)
        except ProtembError as error:
            return Outcome(error=error)


def _result(x: object, job: Future[Outcome] | Outcome) -> tuple[object, Outcome]:
    if isinstance(job, Outcome):
        return x, job
    try:
        return x, job.result()
    except BrokenProcessPool as error:
        raise EmbeddingError(
            f"a worker process died at or near {source_name(x)} (out of memory? a script without "
            "if __name__ == '__main__'?); try fewer workers"
        ) from error


def _without_source(error: ProtembError, x: object) -> str:
    return str(error).removeprefix(f"{source_name(x)}: ")


class _reporting:
    """Turn `progress` into a callable: nothing, the caller's own, or a Rich bar on stderr."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress, self._total = progress, total
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int | None], None]:
        if callable(self._progress):
            return self._progress
        if not self._progress:
            return lambda done, total: None
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._bar.start()
        task = self._bar.add_task("embedding", total=self._total)
        return lambda done, total: self._bar.update(task, completed=done)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
