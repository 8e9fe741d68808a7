"""One chain of one file, or every chain of many: what the commands that take files have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.chain import Skipped

Result = TypeVar("Result", covariant=True)


class Run(Protocol[Result]):
    """What `embed_many` and `predict_many` return."""

    @property
    def skipped(self) -> list[Skipped]: ...
    def __iter__(self) -> Iterator[Result]: ...
    def close(self) -> None: ...


def check_chain(files: Sequence[Path], chain_id: str | None) -> None:
    """Refuse a chain where there is not exactly one file.

    Raises
    ------
    StructureError
        If there are several files, or a folder.
    """
    if chain_id is not None and (len(files) != 1 or os.path.isdir(files[0])):
        raise StructureError("--chain goes with exactly one file")


@contextmanager
def results_of(
    files: Sequence[Path],
    chain_id: str | None,
    one: Callable[[Path, str], Result],
    many: Callable[..., Run[Result]],
    *,
    workers: int,
    quiet: bool,
    strict: bool = False,
    byte_limit: int = DEFAULT_BYTES,
    **options: object,
) -> Iterator[tuple[Iterator[Result], list[Skipped]]]:
    """Give the results of the files, and the list of what was skipped, which grows with them.

    Parameters
    ----------
    files : sequence of Path
        Structure files, folders and archives.
    chain_id : str or None
        Only this chain, of exactly one file.
    one, many : callable
        Methods for one chain, such as `Embedder.embed`, and for many structures, such as `embed_many`.
    workers, quiet, **options
        Of `many`; a bar is drawn where there are several inputs.
    strict : bool
        Raise at the first input that fails.
    byte_limit : int
        Of files in archives.
    """
    from protemb_sdk._structure.inputs import inputs_of

    check_chain(files, chain_id)
    if chain_id is not None:
        yield iter([one(files[0], chain_id)]), []
        return
    inputs = inputs_of(files, byte_limit)
    several = not (isinstance(inputs, list) and len(inputs) == 1)
    on_error = "raise" if strict else "skip"
    run = many(inputs, workers=workers, progress=several and not quiet, on_error=on_error, **options)
    try:
        yield iter(run), run.skipped
    finally:
        run.close()
