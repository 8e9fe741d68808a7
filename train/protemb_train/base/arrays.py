"""Reading of npz files without pickle, with short error messages."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ProtembError


class ArrayFileError(ProtembError):
    """A file of arrays is missing or invalid."""


def read_arrays(
    path: Path, names: Iterable[str], what: str, optional: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an npz file.

    Parameters
    ----------
    path : Path
        The file.
    names : iterable of str
        Required arrays.
    what : str
        Expected contents, for the error message, such as "a collection of chains".
    optional : iterable of str
        Optional arrays.

    Raises
    ------
    ArrayFileError
        If the file is missing, is not an npz, or lacks an array.
    """
    try:
        # Opened here, because NumPy does not close a broken archive.
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ArrayFileError(f"not {what} (not an npz archive)", path)
            file.seek(0)
            with np.load(file, allow_pickle=False) as data:
                return {name: data[name] for name in [*names, *(n for n in optional if n in data)]}
    except FileNotFoundError:
        raise ArrayFileError(f"the file does not exist; pass {what} (npz)", path) from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error.args[0]) if error.args else "unreadable"
        raise ArrayFileError(f"not {what} ({reason})", path) from error
