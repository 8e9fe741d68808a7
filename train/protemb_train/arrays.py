"""Reading npz files of others, without pickle and with one-sentence errors; outputs that replace no input."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._errors import OutputError, ProtembError
from protemb_sdk._output import check_apart, writable_target


class ArrayFileError(ProtembError):
    """A file of arrays is missing, or is not what it should be."""


def check_output(
    out: Path,
    endings: str | tuple[str, ...],
    inputs: Iterable[Path | str | None] = (),
    *,
    beside: Iterable[Path] = (),
) -> None:
    """Check, before any work, that an output can be written, is named as what it is, and replaces no input.

    Parameters
    ----------
    out : Path
        File to write.
    endings : str or tuple of str
        What its name may end in.
    inputs : iterable of Path or str
        Files to read, and folders of structures; None and names of what is no file are passed over.
    beside : iterable of Path
        Further files that are written.

    Raises
    ------
    OutputError
        If it cannot, or something would be lost.
    """
    if not out.name.endswith(endings):
        wanted = endings if isinstance(endings, str) else " or ".join(endings)
        raise OutputError(f"{out}: end the name in {wanted}, so that it is known for what it is")
    targets = [out, *beside]
    for target in targets:
        writable_target(target)
    check_apart(targets, (Path(file) for file in inputs if file is not None))


def read_arrays(
    path: Path, names: Iterable[str], what: str, optional: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an npz file.

    Parameters
    ----------
    path : Path
        The file.
    names : iterable of str
        Arrays that it must hold.
    what : str
        What it should be, for the error: "a collection of chains".
    optional : iterable of str
        Arrays that it may hold.

    Raises
    ------
    ArrayFileError
        If the file is missing, is not an npz, or lacks an array.
    """
    try:
        # Opened here: NumPy leaves a broken archive open.
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ArrayFileError(f"{path}: not {what} (not an npz archive)")
            file.seek(0)
            with np.load(file, allow_pickle=False) as data:
                return {name: data[name] for name in [*names, *(n for n in optional if n in data)]}
    except FileNotFoundError:
        raise ArrayFileError(f"{path}: no such file; pass {what} (npz)") from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error.args[0]) if error.args else "unreadable"
        raise ArrayFileError(f"{path}: not {what} ({reason})") from error
