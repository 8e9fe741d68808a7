"""Structure files of folders and archives, by their names."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from protemb_sdk._base.errors import StructureError, printable

logger = logging.getLogger("protemb")

_ENDING = re.compile(r"\.(pdb\d*|ent|cif|mmcif|bcif|json|mmjson|fcz)(\.gz)?$", re.IGNORECASE)

# Files of stores and indexes.
_OURS = frozenset({"_protemb.json", "protemb-index.json"})


def stem(path: str | Path) -> str:
    """Return a file's name without folders and without structure and gzip endings."""
    name = Path(path).name
    return _ENDING.sub("", name) or name


def is_structure_name(path: str | Path) -> bool:
    """Return whether the extension is that of a structure file."""
    return _ENDING.search(Path(path).name) is not None


def find_structures(path: str | Path, *, warn: bool = True) -> list[Path]:
    """List the structure files below a folder.

    Parameters
    ----------
    path : str or Path
        A folder, searched recursively by file name ending, links to folders followed; a file is returned
        as it is.
    warn : bool, default True
        Log, as warnings, how many other files there are, and folders that cannot be listed.

    Returns
    -------
    list of Path
        Sorted; hidden files and folders, and stores and indexes of ours, are left out.

    Raises
    ------
    StructureError
        If the path does not exist, cannot be listed, or holds no structure file.
    """
    path = Path(path)
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise StructureError("no such folder; check the path", path)
    found, others = [], Counter[str]()
    for folder, names in _walk(path, warn):
        for name in names:
            if _ENDING.search(name):
                # Devices and pipes are left out. Broken links are kept and fail when they are read.
                if os.path.isfile(folder / name) or not os.path.exists(folder / name):
                    found.append(folder / name)
            else:
                others["".join(Path(name).suffixes[-2:]) or "without extension"] += 1
    if others and warn:
        endings = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
        logger.warning(
            "%s: files ignored because of their extensions: %s",
            printable(str(path)), printable(endings),
        )  # fmt: skip
    if not found:
        raise StructureError(
            "no structure file in this folder; looked for .pdb, .ent, .cif, .mmcif, .bcif, .json, "
            ".mmjson and .fcz, each also with .gz",
            path,
        )
    return sorted(found)


def _walk(path: Path, warn: bool) -> Iterator[tuple[Path, list[str]]]:
    """Give each folder below a folder and the files in it, without the hidden, stores and indexes of ours.

    Links to folders come last: what lies below `path` has the same name whatever leads there too.
    """

    def refused(error: OSError) -> None:
        if error.filename == str(path):
            raise StructureError(
                f"the folder cannot be listed ({error.strerror})", path, retryable=True
            ) from error
        if warn:
            where = printable(str(error.filename))
            logger.warning("%s: ignored, as it cannot be listed (%s)", where, error.strerror)

    seen: set[str] = set()
    roots = deque([str(path)])
    while roots:
        for folder, folders, names in os.walk(roots.popleft(), onerror=refused):
            place = os.path.realpath(folder)
            if place in seen or not _OURS.isdisjoint(names):
                folders.clear()
                continue
            seen.add(place)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = [os.path.join(folder, name) for name in folders]
            roots += filter(os.path.islink, paths)
            yield Path(folder), [name for name in names if not name.startswith(".")]
