"""`protemb fetch`: structures by identifier; and the option `--fetch` of commands that read files."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import check_there, console, out_console, say
from protemb_sdk._base.errors import OutputError, StructureError
from protemb_sdk._base.identifiers import identifier_of
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
from protemb_sdk._base.output import written_whole
from protemb_sdk._cli.options import Quiet, Timeout
from protemb_sdk._cli.summary import report_skipped
from protemb_sdk._structure.chain import Skipped


def fetch(
    identifiers: Annotated[
        list[str], typer.Argument(help="PDB (1abc) or AlphaFold DB (AF-P69905-F1) identifiers.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the files; made if it is missing.")],
    timeout: Timeout = DEFAULT_TIMEOUT,
    quiet: Quiet = False,
) -> None:
    """Download structures of the PDB and of AlphaFold DB, as mmCIF, into a folder.

    Each is downloaded once and kept in a cache ($PROTEMB_CACHE). Entries that do not exist are listed; the
    exit status is 0 if all were fetched. A file that is there and differs is not replaced.
    """
    from protemb_sdk._structure.fetch import check_identifier, fetch_structure

    for identifier in identifiers:
        check_identifier(identifier)
    if os.path.exists(out) and not os.path.isdir(out):
        raise OutputError("is not a folder; name a folder for the files", out)
    skipped = []
    for identifier in identifiers:
        try:
            with _notes(quiet):
                path = _copied(fetch_structure(identifier, timeout=timeout), out)
        except StructureError as error:
            if len(identifiers) == 1 or error.retryable:
                raise
            skipped.append(Skipped.of(error, identifier))
            continue
        if not quiet:
            say(out_console, str(path))
    report_skipped(skipped)
    if skipped:
        raise StructureError(f"{len(skipped)} of {len(identifiers)} entries could not be fetched; see above")


def _copied(cached: Path, folder: Path) -> Path:
    """Copy a file into a folder, unless it is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path, content = folder / cached.name, cached.read_bytes()
        if os.path.exists(path):
            if not os.path.isfile(path) or path.read_bytes() != content:
                raise OutputError("exists and differs; remove it, or choose another folder", path)
            return path
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", folder) from error
    with written_whole(path) as part:
        shutil.copyfile(cached, part)
    return path


@contextmanager
def _notes(quiet: bool) -> Iterator[None]:
    """Leave out what downloads tell on the way, such as further attempts, if this was asked for."""
    logger = logging.getLogger("protemb")
    level = logger.level
    if quiet:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def present(files: Sequence[Path], fetched: bool, timeout: float, quiet: bool = False) -> list[Path]:
    """Return inputs that exist, after downloading those that are identifiers if this was asked for.

    Raises
    ------
    StructureError
        If an input is missing, or an entry cannot be downloaded.
    """
    from protemb_sdk._structure.fetch import fetch_structure

    found = list(files)
    for place, path in enumerate(found if fetched else ()):
        if identifier_of(str(path)) is not None and not os.path.exists(path):
            with _notes(quiet):
                found[place] = fetch_structure(str(path), timeout=timeout)
            if not quiet:
                say(console, f"{path}: {found[place]}")
    check_there(found)
    return found
