"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def writable_target(path: Path) -> Path:
    """Return the path, after checking that a file can be put there.

    Raises
    ------
    OutputError
        If its folder does not exist, or it is itself a folder.
    """
    if os.path.isdir(path):
        raise OutputError(f"{path}: is a folder; name a file to write")
    if not os.path.isdir(path.parent):
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there on success, remove it on any failure.

    Raises
    ------
    OutputError
        If the operating system refuses.
    """
    writable_target(path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / path.name
            yield part
            part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def figures() -> type[Figure]:
    """Return matplotlib's figure, which draws without a screen.

    Raises
    ------
    OutputError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OutputError("pictures need matplotlib: pip install 'protemb-sdk[plot]'") from None
    return Figure


def write_text_whole(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all.

    Raises
    ------
    OutputError
        If the operating system refuses.
    """
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def add_array(archive: zipfile.ZipFile, name: str, array: NDArray[np.generic]) -> None:
    """Put an array into a zip the way `numpy.load` expects it, and never as a pickle."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
