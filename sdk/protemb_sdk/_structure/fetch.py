"""Structures by identifier: from the PDB and AlphaFold DB into a cache."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path

from protemb_sdk._base.download import check_base, download
from protemb_sdk._base.errors import MALFORMED, OutputError, StructureError, printable
from protemb_sdk._base.identifiers import Identifier, identifier_of
from protemb_sdk._base.limits import DEFAULT_TIMEOUT, seconds
from protemb_sdk._base.output import written_whole
from protemb_sdk._structure.files import load, read_whole

logger = logging.getLogger("protemb")

# Base address of each database, and the variable that replaces it.
_SERVERS = {
    "PDB": ("PROTEMB_RCSB_URL", "https://files.rcsb.org/download"),
    "AlphaFold DB": ("PROTEMB_AFDB_URL", "https://alphafold.ebi.ac.uk"),
}


def fetch_structure(identifier: str, *, timeout: float = DEFAULT_TIMEOUT) -> Path:
    """Download the structure of a PDB or AlphaFold DB entry, or find it in the cache.

    An entry is downloaded once, as mmCIF. A file is kept, and taken from the cache, only if all of it can be
    read and it has the identifier of the entry; else it is downloaded again. The check is one more reading:
    milliseconds for most entries, 3 seconds and 350 MB of memory for one of a million atoms. The cache is the
    folder `structures` in ``$PROTEMB_CACHE``, by default in the user's cache folder.

    Parameters
    ----------
    identifier : str
        PDB identifier ("1abc" or "pdb_00001abc"), or AlphaFold DB identifier: "AF-P69905-F1" for the
        current version, or the one in the cache; "AF-P69905-F1-model_v4" for this version.
    timeout : float, default 30
        Seconds to wait for a connection, and for each part of the answer. Failures that may pass are tried
        three times. A request takes no more than ten times as long, with all attempts: 5 minutes by default.

    Returns
    -------
    Path
        The file in the cache, ``1abc.cif.gz`` or ``AF-P69905-F1-model_v4.cif``.

    Raises
    ------
    StructureError
        If it is no identifier, there is no such entry, it cannot be downloaded, or what was sent is not the
        entry or is damaged.
    OutputError
        If the cache cannot be written.

    Examples
    --------
    >>> from protemb_sdk import StructureError, fetch_structure
    >>> path = fetch_structure("1a8o")  # doctest: +SKIP
    >>> try:
    ...     fetch_structure("1a8o.cif")
    ... except StructureError as error:
    ...     print(error.where, error.retryable)
    1a8o.cif False
    """
    entry = check_identifier(identifier)
    timeout = seconds(timeout, "timeout")
    folder = _cache()
    cached = _in_cache(folder, entry)
    if cached is not None:
        return cached
    variable, base = _SERVERS[entry.database]
    base = check_base(os.environ.get(variable) or base, variable)
    if entry.database == "PDB":
        name = f"{entry.name}.cif.gz"
        url = f"{base}/{name}"
    else:
        version = entry.version or _current_version(base, entry, timeout)
        name = _model_name(entry, version)
        url = f"{base}/files/{name}"
    data = download(url, entry.name, timeout=timeout)
    try:
        _check(data, entry, entry.name)
    except StructureError as error:
        raise StructureError(
            f"what {url} sent cannot be used: {error.problem}; check {variable} and the proxy, "
            "or try again later",
            entry.name,
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache cannot be made ({error.strerror}); set PROTEMB_CACHE to a folder that can be written",
            folder,
        ) from error
    with written_whole(folder / name) as part:
        part.write_bytes(data)
    return folder / name


def check_identifier(identifier: str) -> Identifier:
    """Return the entry that an identifier names.

    Raises
    ------
    StructureError
        If it is no identifier of the PDB or of AlphaFold DB.
    """
    entry = identifier_of(identifier) if isinstance(identifier, str) else None
    if entry is None:
        raise StructureError(
            "is no identifier; use one of the PDB (1abc, pdb_00001abc) or of AlphaFold DB (AF-P69905-F1)",
            printable(str(identifier)),
        )
    return entry


def _cache() -> Path:
    """Return the folder of the cache, which may not exist."""
    named = os.environ.get("PROTEMB_CACHE")
    if named:
        return Path(named) / "structures"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OutputError("there is no home folder for the cache; set PROTEMB_CACHE to a folder") from error
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folder / "protemb" / "structures"


def _in_cache(folder: Path, entry: Identifier) -> Path | None:
    """Return the file of an entry in the cache, the highest version if none is named; None if damaged."""
    if entry.database == "PDB":
        names = [f"{entry.name}.cif.gz"]
    elif entry.version:
        names = [_model_name(entry, entry.version)]
    else:
        versions = [_version(path.name, entry) for path in folder.glob(f"{entry.name}-model_v*.cif")]
        names = [_model_name(entry, n) for n in sorted(filter(None, versions), reverse=True)]
    for path in (folder / name for name in names):
        try:
            _check(path, entry, str(path))
        except StructureError as error:
            if path.exists():
                logger.warning("%s: downloaded again, because it cannot be used: %s", path, error.problem)
            continue
        return path
    return None


def _model_name(entry: Identifier, version: int) -> str:
    return f"{entry.name}-model_v{version}.cif"


def _version(name: object, entry: Identifier) -> int | None:
    """Return the version in the name of a file of an entry; None if it is another's."""
    found = re.fullmatch(re.escape(entry.name) + r"-model_v([1-9][0-9]{0,3})\.cif", str(name), re.ASCII)
    return int(found[1]) if found else None


def _current_version(base: str, entry: Identifier, timeout: float) -> int:
    """Ask AlphaFold DB for the version of the model that it offers now."""
    url = f"{base}/api/prediction/{entry.accession}"
    answer = download(url, entry.name, timeout=timeout)
    try:
        # The name only: the file comes from the same server, whatever address the answer has.
        versions = [_version(str(item["cifUrl"]).rpartition("/")[2], entry) for item in json.loads(answer)]
    except MALFORMED as error:
        raise StructureError(
            f"{url} did not answer with the addresses of models (cifUrl); check PROTEMB_AFDB_URL", entry.name
        ) from error
    found = max(filter(None, versions), default=None)
    if found is None:
        raise StructureError(
            f"there is no such entry ({url} names {len(versions)} models, none of this name); check the "
            "identifier",
            entry.name,
        )
    return found


def _check(content: bytes | Path, entry: Identifier, where: str) -> None:
    """Check that all of a file can be read, and that it is the one of an entry."""
    named = read_whole(load(content, where), where).entry
    found = identifier_of(named)
    if found is None or (found.database, found.name) != (entry.database, entry.name):
        raise StructureError(f"the file is of the entry {named[:40]!r}, not {entry.name}", where)
