"""Which format the content of a file is in, told from the content alone."""

from __future__ import annotations

import re
import tarfile

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.fcz import MAGIC

TAKEN = "PDB, mmCIF, mmJSON, BinaryCIF or foldcomp, each also gzipped"

_CIF_START = re.compile(rb"(?:\s++|#[^\n]*+(?:\n|\Z))*+data_", re.IGNORECASE)
_CIF_BLOCK = re.compile(rb"^data_", re.IGNORECASE | re.MULTILINE)
_ATOM_SITE = re.compile(rb"^\s*_atom_site\.", re.IGNORECASE | re.MULTILINE)
_PDB_ATOM = re.compile(rb"^(?:ATOM|HETA)", re.IGNORECASE | re.MULTILINE)
_PDB_HEADER = re.compile(rb"^(?:HEADER|TITLE |REMARK|CRYST1|SEQRES|MODEL )", re.MULTILINE)

# First bytes of what people hand in by mistake. An archive that is not compressed may hold PDB lines.
_BINARY = {
    b"PK\x03\x04": "a zip archive; unpack it first, or pass its path to embed_many",
    b"PK\x05\x06": "a zip archive without files",
    b"\x89PNG": "a PNG image",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"BZh": "compressed with bzip2; unpack it or use gzip",
    b"\xfd7zXZ": "compressed with xz; unpack it or use gzip",
    b"(\xb5/\xfd": "compressed with zstd; unpack it or use gzip",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"FCZC": "a foldcomp file of several chains; unpack it with the program foldcomp",
    b"\x00\x05\x16\x07": "what macOS keeps beside a file (._name); take the file itself",
}
_TEXT = {b"<": "an HTML or XML document; download the structure itself, as mmCIF"}


def recognised(data: bytes, where: str) -> tuple[str, bytes, tuple[str, ...]]:
    """Tell the format of a file.

    Returns
    -------
    kind : str
        "PDB", "mmCIF", "mmJSON", "BinaryCIF" or "foldcomp".
    data : bytes
        The content without what stands before the format begins.
    notes : tuple of str
        What was left out.

    Raises
    ------
    StructureError
        If it is none of these; known other formats are named.
    """
    if data.startswith(MAGIC):
        return "foldcomp", data, ()
    for magic, what in _BINARY.items():
        if data.startswith(magic):
            raise StructureError(f"this is {what} (read are {TAKEN})", where)
    if _is_tar(data):
        raise StructureError("this is a tar archive; pass its path to embed_many, or unpack it first", where)
    if data[:1] and data[0] >= 0x80 and b"dataBlocks" in data[:4096]:
        return "BinaryCIF", data, ()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in data:  # line ends of old Macs
        data = data.replace(b"\r", b"\n")
    start = data[:64].lstrip()
    if start.startswith(b"{"):
        return "mmJSON", data, ()
    if _CIF_START.match(data):
        return "mmCIF", data, ()
    atom = _first_atom(data)
    block = _CIF_BLOCK.search(data, 0, len(data) if atom is None else atom) if _may_hold_block(data) else None
    if block and _ATOM_SITE.search(data, block.start()):
        return "mmCIF", data[block.start() :], ("text before the first data_ was left out",)
    if atom is not None:
        return "PDB", data, ()
    if _PDB_HEADER.search(data):
        raise StructureError("a PDB file without ATOM records, there is nothing to embed", where)
    for magic, what in (_BINARY | _TEXT).items():
        if start.startswith(magic):
            raise StructureError(f"this is {what} (read are {TAKEN})", where)
    raise StructureError(f"not a structure file (it starts with {start[:16]!r}); read are {TAKEN}", where)


def _first_atom(data: bytes) -> int | None:
    """Return where the first line of an atom begins."""
    found = [at + 1 for record in (b"\nATOM", b"\nHETA") if (at := data.find(record)) >= 0]
    if found:  # as nearly always
        return 0 if _PDB_ATOM.match(data) else min(found)
    atom = _PDB_ATOM.search(data)
    return atom.start() if atom else None


def _may_hold_block(data: bytes) -> bool:
    return any(data.find(word) >= 0 for word in (b"data_", b"DATA_", b"Data_"))


def _is_tar(data: bytes) -> bool:
    """Whether the first 512 bytes are a header of a tar archive, by their checksum."""
    if len(data) < 512 or not data[0] or (not 0x20 <= data[156] <= 0x7A and data[156]):
        return False
    try:
        tarfile.TarInfo.frombuf(data[:512], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
