"""Many structures: in order, in bounded memory, in one process or several, every failure kept."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, ProtembError
from protemb_sdk._base.notebook import card, listing, progress_bar
from protemb_sdk._base.workers import WorkerPool
from protemb_sdk._embed.ahead import died, read_ahead, unstarted
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._embed.outcome import ChainEmbedder, Outcome, embed_one, embed_together
from protemb_sdk._model.readouts import check_readouts
from protemb_sdk._structure.chain import Skipped
from protemb_sdk._structure.inputs import Input, inputs_of

Progress = bool | Callable[[int, int | None], None]


# Inputs read for each chain of a batch, so that some share a length; as many wait in memory while they are
# embedded.
READ_AHEAD = 16

# Tasks given to a worker before the first result is waited for: while one works on a long chain, the others
# go on. Pair maps that wait would fill the memory.
TASKS, TASKS_WITH_PAIRS = 32, 2

# What was skipped, in a notebook.
SHOWN = 10

Outcomes = Generator[Outcome, None, None]


# Of a worker process, made once by `_start_worker`.
_worker: ChainEmbedder | ProtembError | None = None
_stopped = False


def _start_worker(make: Callable[..., ChainEmbedder], arguments: dict[str, Any]) -> None:
    global _worker
    try:
        _worker = make(**arguments)
    except ProtembError as error:  # an initializer that raises would leave a broken pool and no reason
        _worker = error


def _work(x: Input, wanted: Mapping[str, Any], source: str) -> Outcome:
    if isinstance(_worker, ProtembError):
        raise _worker
    assert _worker is not None
    return Outcome(source) if _stopped else embed_one(_worker, x, wanted, source)


def _stop() -> None:
    """Skip the remaining work of this worker; its results are no longer needed."""
    global _stopped
    _stopped = True
    if _worker is not None and not isinstance(_worker, ProtembError):
        _worker.stop()


class EmbeddingRun(Iterator[Embedding]):
    """The embeddings of many structures, one after the other.

    Iterate over it once. Made by `Embedder.embed_many`. To stop early, call `close` or use it in
    a ``with`` statement, so that workers end at once.

    Attributes
    ----------
    skipped : list of Skipped
        So far: chains that were skipped and, with ``on_error="skip"``, inputs and chains that failed.

    Examples
    --------
    >>> from protemb_sdk import Embedder
    >>> with Embedder(device="cpu").embed_many(["1a8o.cif", "1a8o.cif"]) as run:
    ...     first = next(run)
    >>> first.id
    '1a8o_A'
    """

    def __init__(
        self,
        embedder: ChainEmbedder,
        structures: object,
        *,
        workers: int = 1,
        batch: int = 1,
        pair: bool = False,
        readouts: Sequence[str] = (),
        profile: bool = False,
        residue: bool = True,
        progress: Progress = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise EmbeddingError(f"on_error is 'raise' or 'skip', not {on_error!r}")
        if not isinstance(workers, int) or workers < 1:
            raise EmbeddingError(f"workers must be a whole number, at least 1, not {workers!r}")
        if not isinstance(batch, int) or batch < 1:
            raise EmbeddingError(f"batch must be a whole number, at least 1, not {batch!r}")
        self.skipped: list[Skipped] = []
        self._inputs = self._chains = 0
        self._embedder, self._on_error = embedder, on_error
        self._wanted: dict[str, Any] = {"pair": pair, "readouts": check_readouts(readouts)}
        if profile:
            self._wanted["profile"] = True
        if not residue:
            self._wanted["residue"] = False
        items = inputs_of(structures, embedder.limits.bytes)
        self._total = len(items) if isinstance(items, Sized) else None
        if batch > 1:
            outcomes = self._batches(items, workers, batch)
        elif workers == 1:
            outcomes = self._here(items)
        else:
            outcomes = self._elsewhere(items, workers, embedder.worker_arguments(workers))
        self._outcomes = self._counted(outcomes, progress)
        self._embeddings = self._flat()

    def __iter__(self) -> EmbeddingRun:
        return self

    def __next__(self) -> Embedding:
        return next(self._embeddings)

    def __enter__(self) -> EmbeddingRun:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        of = "" if self._total is None else f" of {self._total:,}"
        counts = f"{self._inputs:,}{of} inputs done, {self._chains:,} chains, {len(self.skipped):,} skipped"
        return f"<{type(self).__name__}: {counts}>"

    def _repr_html_(self) -> str:
        return shown(self)

    def close(self) -> None:
        """Stop early and end the workers.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> run = Embedder(device="cpu").embed_many(["1a8o.cif", "1a8o.cif"])
        >>> next(run).id
        '1a8o_A'
        >>> run.close()
        """
        self._embeddings.close()
        self._outcomes.close()

    def proteins(self) -> tuple[list[str], NDArray[np.float32]]:
        """Collect the protein embeddings of the chains that are left.

        Returns
        -------
        ids : list of str
            N names, as in `Embedding.id`.
        embeddings : ndarray, float32, shape (N, C)
            One row for each chain.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> ids, embeddings = Embedder(device="cpu").embed_many(["1a8o.cif"]).proteins()
        >>> ids, embeddings.shape
        (['1a8o_A'], (1, 128))
        """
        ids, rows = [], []
        for embedding in self:
            ids.append(embedding.id)
            rows.append(embedding.protein)
        return ids, np.stack(rows) if rows else np.empty((0, self._embedder.widths["protein"]), np.float32)

    def outcomes(self) -> Outcomes:
        """Return the outcome of each input, with embeddings, skipped chains and errors.

        Returns
        -------
        iterator of Outcome
            In input order.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> run = Embedder(device="cpu").embed_many(["1a8o.cif", "missing.pdb"], on_error="skip")
        >>> [(outcome.source, len(outcome.embeddings)) for outcome in run.outcomes()]
        [('1a8o.cif', 1), ('missing.pdb', 0)]
        """
        return self._outcomes

    def _counted(self, outcomes: Outcomes, progress: Progress) -> Outcomes:
        with closing(outcomes), _reporting(progress, self._total) as report:
            for done, outcome in enumerate(outcomes, start=1):
                self._inputs = done
                self._chains += len(outcome.embeddings)
                yield outcome
                report(done, self._total)

    def _flat(self) -> Generator[Embedding, None, None]:
        with closing(self._outcomes):
            for outcome in self._outcomes:
                yield from outcome.embeddings
                self.skipped += outcome.skipped
                for skipped in outcome.skipped:
                    if skipped.error is not None and self._on_error == "raise":
                        raise skipped.error

    def _here(self, items: Iterable[Input]) -> Outcomes:
        for position, x in enumerate(items, start=1):
            yield embed_one(self._embedder, x, self._wanted, x.listed(position))

    def _batches(self, items: Iterable[Input], workers: int, batch: int) -> Outcomes:
        with closing(read_ahead(items, self._embedder.reader, workers, READ_AHEAD * batch)) as read:
            for some in read:
                yield from embed_together(self._embedder, some, self._wanted, batch)

    def _elsewhere(self, items: Iterable[Input], workers: int, arguments: dict[str, Any]) -> Outcomes:
        try:
            pool = WorkerPool(workers, _start_worker, (type(self._embedder), arguments), when_told=_stop)
        except OSError as error:
            raise unstarted(error) from error
        waiting: deque[tuple[str, Future[Outcome] | Outcome]] = deque()
        ahead = TASKS_WITH_PAIRS if self._wanted["pair"] else TASKS
        done, owner = False, threading.get_ident()
        try:
            for position, x in enumerate(items, start=1):
                source = x.listed(position)
                waiting.append((source, self._submit(pool, x, source)))
                if len(waiting) > ahead * workers:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
            done = True
        finally:
            if not done:  # a chain that is being embedded would be waited for
                pool.stop()
            # The garbage collector may close a run in a thread of its pool, which cannot wait for itself.
            pool.shutdown(wait=done or threading.get_ident() == owner, cancel_futures=True)

    def _submit(self, pool: WorkerPool, x: Input, source: str) -> Future[Outcome] | Outcome:
        try:
            return pool.submit(_work, x.portable(self._embedder.read), self._wanted, source)
        except ProtembError as error:
            return Outcome(source, skipped=[Skipped.of(error, source)])
        except BrokenProcessPool as error:
            raise died(source) from error
        except OSError as error:
            raise unstarted(error) from error


def shown(run: EmbeddingRun, **more: object) -> str:
    """Return what notebooks show of a run: how far it is, and what was skipped."""
    of = "" if run._total is None else f" of {run._total:,}"
    facts = {"inputs done": f"{run._inputs:,}{of}", "chains": f"{run._chains:,}"}
    facts |= {"skipped": f"{len(run.skipped):,}", "model": run._embedder.provenance["model"]}
    rows = [(s.source, s.chain_id, s.reason) for s in run.skipped[:SHOWN]]
    rows += [(f"and {len(run.skipped) - SHOWN:,} more", "", "")] if len(run.skipped) > SHOWN else []
    return card({**facts, **more}) + (listing(("skipped", "chain", "reason"), rows) if rows else "")


def _result(source: str, job: Future[Outcome] | Outcome) -> Outcome:
    if isinstance(job, Outcome):
        return job
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise died(source) from error


@contextmanager
def _reporting(progress: Progress, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """Turn `progress` into a callable: nothing, the caller's own, or a bar on stderr or in a notebook."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda done, total: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        with progress_bar("embedding", total) as update:
            yield update
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TextColumn("inputs"),
        TaskProgressColumn(text_format="", text_format_no_percentage="", show_speed=True),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("embedding", total=total)
        yield lambda done, total: bar.update(task, completed=done)
