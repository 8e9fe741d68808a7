"""From inputs to a store: inputs that it already holds are not embedded again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from protemb_sdk._base.errors import EmbeddingError
from protemb_sdk._embed.many import EmbeddingRun, Progress
from protemb_sdk._model.readouts import check_readouts
from protemb_sdk._store.writer import DEFAULT_LEVELS, open_store
from protemb_sdk._structure.chain import Skipped
from protemb_sdk._structure.inputs import Input, inputs_of

if TYPE_CHECKING:
    from protemb_sdk._embed.embedder import Embedder


KEPT = 100_000


@dataclass(slots=True)
class StoreSummary:
    """Counts of one run.

    Parameters
    ----------
    inputs, chains, failed : int
        Inputs taken, chains written, and inputs and chains that failed.
    before : int
        Inputs that were in the store already, or came a second time.
    skipped : list of Skipped
        What was skipped or failed in this run, the first 100,000; the store's table holds all.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store
    >>> embedder = Embedder(device="cpu")
    >>> embed_into_store(embedder, ["1a8o.cif"], "store").chains
    1
    >>> again = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> again.chains, again.before
    (0, 1)
    """

    inputs: int = 0
    chains: int = 0
    failed: int = 0
    before: int = 0
    skipped: list[Skipped] = field(default_factory=list, compare=False, repr=False)

    def note(self, skipped: Sequence[Skipped]) -> None:
        """Count failures, and keep the first ones.

        Parameters
        ----------
        skipped : sequence of Skipped
            Those with an `error` are counted as failures.

        Examples
        --------
        >>> from protemb_sdk import Skipped, StoreSummary, StructureError
        >>> summary = StoreSummary()
        >>> summary.note([Skipped.of(StructureError("has no C-alpha atoms"), "a.pdb")])
        >>> summary.failed, summary.skipped[0].source
        (1, 'a.pdb')
        """
        self.failed += sum(one.error is not None for one in skipped)
        # Without the errors, whose tracebacks keep objects in memory.
        self.skipped += [replace(one, error=None) for one in skipped[: max(0, KEPT - len(self.skipped))]]


def embed_into_store(
    embedder: Embedder,
    structures: object,
    path: str | PathLike[str],
    *,
    workers: int = 1,
    batch: int = 1,
    levels: Sequence[str] = DEFAULT_LEVELS,
    readouts: Sequence[str] = (),
    dtype: str = "float32",
    progress: Progress = False,
) -> StoreSummary:
    """Embed every protein chain of many structures into a store, continuing an earlier run.

    Inputs that failed for a reason that may pass (a limit, a file that could not be read) are tried again by
    the next run; others are not.

    Parameters
    ----------
    embedder : Embedder
        Model to use.
    structures : path or iterable
        As in `Embedder.embed_many`: folders, archives, files, or anything else that has a name.
    path : path
        Folder of the store, made if it is not there.
    workers, batch, progress
        As in `Embedder.embed_many`.
    levels : sequence of str
        "protein" alone, or with "residue", or with "residue" and "pair", which needs
        ``pip install 'protemb-sdk[pairs]'``.
    readouts : sequence of str
        Further readouts, at the residue level.
    dtype : {"float32", "float16"}
        Of the embeddings.

    Returns
    -------
    StoreSummary

    Raises
    ------
    OutputError
        If the store cannot be written, or holds rows of another model, contract or options.
    EmbeddingError
        If an input has no name.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store
    >>> summary = embed_into_store(Embedder(device="cpu"), ["1a8o.cif"], "store")
    >>> summary.inputs, summary.chains, summary.failed
    (1, 1, 0)
    """
    names = check_readouts(readouts)
    filled = StoreSummary()
    store_path = Path(path)
    with open_store(
        store_path,
        embedder.provenance,
        widths=embedder.widths,
        levels=levels,
        readouts=names,
        dtype=dtype,
    ) as store:
        inputs = inputs_of(structures, embedder.limits.bytes)
        todo: Iterable[Input] = missing(inputs, store.before.done, filled)
        if isinstance(inputs, Sized):  # so that progress knows how many there are
            todo = list(todo)
        run = EmbeddingRun(
            embedder, todo, workers=workers, batch=batch, progress=progress, on_error="skip", **store.wanted
        )  # fmt: skip
        with run:
            for outcome in run.outcomes():
                filled.chains += store.add(outcome)
                filled.inputs += 1
                filled.note(outcome.skipped)
    return filled


def missing(inputs: Iterable[Input], done: set[str], filled: StoreSummary) -> Iterator[Input]:
    """Give the inputs that are not in a store yet, each once, and count the others; `done` grows.

    Raises
    ------
    EmbeddingError
        If an input has no name.
    """
    for position, x in enumerate(inputs, start=1):
        if not x.name:
            raise EmbeddingError(f"{x.listed(position)} has no name; a store needs one for each input")
        keys = [os.path.abspath(name) for name in x.names]
        if done.intersection(keys):
            filled.before += 1
        else:
            done.add(keys[0])
            yield x.absolute()
