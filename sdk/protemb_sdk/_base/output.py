"""Output files that are written completely or not at all."""

from __future__ import annotations

import csv
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import OutputError, StructureError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.folders import find_structures

if TYPE_CHECKING:
    from _csv import Writer

    from protemb_sdk._base.figure import Picture

# Characters of the file name in the name of its temporary folder, which must not be too long.
_NAMED = 32


def writable_target(path: Path) -> Path:
    """Return the path, after checking that a file can be put there.

    Raises
    ------
    OutputError
        If its folder does not exist, or it is itself a folder, a device or a pipe.
    """
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r}: a file name must not contain NUL")
    if os.path.isdir(path):
        raise OutputError("is a folder; name a file to write", path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError("is a device, a pipe or a socket; name a file to write", path)
    folder = Path(os.path.realpath(path)).parent  # of the file that a link leads to
    if not os.path.isdir(folder):
        shown = folder if os.path.islink(path) else path.parent
        raise OutputError(f"the folder {shown} does not exist; make it first", path)
    return path


def check_apart(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check that no two outputs are one file, and that none is an input, also through links.

    Parameters
    ----------
    targets : iterable of Path
        Files to write.
    inputs : iterable of Path
        Files to read, and folders whose structure files are read.

    Raises
    ------
    OutputError
        If something would be lost.
    """
    places: dict[object, Path] = {}
    for target in targets:
        if places.setdefault(_place(target), target) is not target:
            raise OutputError("is named twice; each output needs its own file", target)
    there = {place: target for place, target in places.items() if os.path.exists(target)}
    if not there:
        return
    for file in files_in(inputs):
        if (place := _place(file)) in there:
            raise OutputError(f"would overwrite the input {file}; use another name", there[place])


def check_output(
    out: Path,
    endings: str | tuple[str, ...],
    inputs: Iterable[Path | str | None] = (),
    *,
    beside: Iterable[str] = (),
) -> None:
    """Check before any work that an output can be written, has the right extension, and replaces no input.

    A file that is there and will be replaced is told.

    Parameters
    ----------
    out : Path
        File to write.
    endings : str or tuple of str
        What its name may end in.
    inputs : iterable of Path or str
        Files to read, and folders of structures; None and names of what is no file are ignored.
    beside : iterable of str
        Endings of further files that are written, of the same name.

    Raises
    ------
    OutputError
        If it cannot, or something would be lost.
    """
    from protemb_sdk._base.console import note_replaced

    check_ending(out, endings)
    targets = [writable_target(out.with_name(out.stem + ending)) for ending in (out.suffix, *beside)]
    check_apart(targets, (Path(file) for file in inputs if file is not None))
    note_replaced(targets)


def check_ending(out: Path, endings: str | tuple[str, ...]) -> None:
    """Check the extension of an output.

    Raises
    ------
    OutputError
        If it does not.
    """
    wanted = (endings,) if isinstance(endings, str) else endings
    if out.suffix not in wanted:
        raise OutputError(f"end the name in {' or '.join(wanted)}, as the extension sets the format", out)


def check_own(path: Path, mark: bytes) -> None:
    """Check that a file that is there was written by the command that is about to replace it.

    Parameters
    ----------
    path : Path
        File that goes beside the one that was named.
    mark : bytes
        What the command's own say within their first 400 bytes.

    Raises
    ------
    OutputError
        If it is another's.
    """
    if not os.path.exists(path):
        return
    with path.open("rb") as file:
        if mark not in file.read(400):
            raise OutputError("is a file of another kind and would be overwritten; use another name", path)


def _place(path: Path) -> object:
    """Return the identity of a file, equal for two paths to the same file."""
    try:
        found = os.stat(path)
    except OSError:  # it does not exist yet
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def files_in(inputs: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and the structure files of folders; a folder that cannot be listed is ignored."""
    for path in inputs:
        try:
            yield from find_structures(path, warn=False) if os.path.isdir(path) else [path]
        except StructureError:  # reported when it is read
            continue


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there on success, remove it on any failure.

    Where `path` is a symbolic link, the file that it leads to is written.

    Raises
    ------
    OutputError
        If it cannot be written, or something other than a file has this name.
    """
    target = Path(os.path.realpath(writable_target(path)))
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{path.name[:_NAMED]}.") as folder:
            part = Path(folder) / path.name
            yield part
            part.replace(target)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", path) from error


def figures() -> type[Picture]:
    """Return matplotlib's figure, which draws without a screen, and shows itself in a notebook.

    Raises
    ------
    OutputError
        If matplotlib is not installed.
    """
    try:
        from protemb_sdk._base.figure import Picture
    except ImportError:
        raise OutputError(f"pictures need matplotlib; {how_to_install('plot')}") from None
    return Picture


def picture_kind(path: Path) -> str:
    """Return the image format of a file name by its extension; png if it has none.

    Raises
    ------
    OutputError
        If matplotlib does not know it, or is not installed.
    """
    known = figures()().canvas.get_supported_filetypes().keys() - {"pgf"}  # which needs TeX
    kind = path.suffix.lower().removeprefix(".") or "png"
    if kind not in known:
        raise OutputError(f"use the extension of an image format, {', '.join(sorted(known))}", path)
    return kind


def write_text_whole(path: Path, text: str) -> None:
    """Write text in UTF-8, completely or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def writing_csv(path: Path, columns: Iterable[str]) -> Iterator[Writer]:
    """Open a table to which rows are written; the file appears whole at the end, or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        yield table


def add_array(archive: zipfile.ZipFile, name: str, array: NDArray[np.generic]) -> None:
    """Put an array into a zip the way `numpy.load` expects it, and never as a pickle."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
