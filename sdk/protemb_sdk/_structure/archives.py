"""Archives and foldcomp databases as streams of structure files.

Nothing is unpacked to disk, nothing is held but one member.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from protemb_sdk._base.errors import MALFORMED, StructureError
from protemb_sdk._base.folders import is_structure_name
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.fcz import entries, is_database
from protemb_sdk._structure.files import TAKEN

_ENDING = re.compile(r"\.(tar|tar\.gz|tgz|zip)$", re.IGNORECASE)


# A name longer than any file system's; tarfile takes headers of any size into memory.
_MOST_HEADER = 2**20


class _Header(tarfile.TarInfo):
    """Headers that are not absurdly long."""

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:  # "can be overridden", says tarfile
        if self.size > _MOST_HEADER and self.type in _IN_MEMORY:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if sum(map(len, tarfile_.pax_headers.values())) > _MOST_HEADER:
            raise tarfile.ReadError("its global headers are too long")
        return super()._proc_member(tarfile_)  # type: ignore[misc, no-any-return]


_IN_MEMORY = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


# A member that is encrypted, or packed as Python cannot unpack it, is a RuntimeError.
_DAMAGE = (
    *MALFORMED, tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError,
    RuntimeError,
)  # fmt: skip


def is_archive(path: str) -> bool:
    """Tell whether a file is meant as a tar or zip archive, by its ending, or is a foldcomp database."""
    return _ENDING.search(path) is not None or is_database(path)


def members(path: str, most: int = DEFAULT_BYTES) -> Iterator[tuple[str, bytes]]:
    """Give the structure files in an archive, in its order; links, hidden and other files are passed over.

    Of a file larger than `most` bytes, no more is read than shows that it is.

    Yields
    ------
    name : str
        Path of the archive, a slash, and the member's own path.
    content : bytes
        The file as it lies in the archive.

    Raises
    ------
    StructureError
        If it cannot be read, or holds none; what came before the damage was given.
    """
    kind, read = "tar archive", _of_tar
    if path.lower().endswith(".zip"):
        kind, read = "zip archive", _of_zip
    elif not _ENDING.search(path):
        kind, read = "foldcomp database", entries
    count = 0
    try:
        for name, content in read(path, most):
            yield f"{path}/{name}", content
            count += 1
    except _DAMAGE as error:
        after = f" after {count} structures" if count else ""
        raise StructureError(f"cannot be read as a {kind}{after} ({error}); is it whole?", path) from error
    if not count:
        raise StructureError(f"no structure file in this archive; looked for {TAKEN}", path)


def _of_tar(path: str, most: int) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r|*", tarinfo=_Header) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep all it has seen
            if member.isfile() and _is_structure(member.name):
                opened = archive.extractfile(member)
                assert opened is not None  # of a regular file
                yield member.name, opened.read(most + 1 if member.size > most else -1)


def _of_zip(path: str, most: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _is_structure(member.filename):
                with archive.open(member) as opened:
                    yield member.filename, opened.read(most + 1)  # whatever size the archive says


def _is_structure(name: str) -> bool:
    parts = set(PurePosixPath(name).parts) - {".."}
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and is_structure_name(name)
