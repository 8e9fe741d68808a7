"""Structures that foldcomp has compressed: single files (.fcz), and databases as streams.

A file holds the torsion angles of one chain. The package foldcomp turns them into PDB text, but ends the
whole process for many damaged files, so everything that it relies on is checked here first.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.folders import is_structure_name

MAGIC = b"FCMP"

# magic; residues, atoms, first residue number, first atom number; anchors; chain; side-chain angles; names of
# the first and the last residue; length of the title; minima and steps of six kinds of angles
_HEADER = struct.Struct("<4s4HBc2xI2c2xI12f")
_FIRST_NUMBERS, _CHAIN = slice(8, 12), 13

_LETTERS = "ARNDCQEGHILKMFPSTWYV"  # by the code of a residue
_SIDE_ANGLES = (2, 8, 5, 5, 3, 6, 6, 1, 7, 5, 5, 6, 5, 8, 4, 3, 4, 11, 9, 4)
_FIRST_UNKNOWN = 23  # codes up to 31; those between are in no residue table of foldcomp

# Residue numbers of more digits do not fit into the columns of PDB text.
_MOST_RESIDUES = 9999


class Decompressed(NamedTuple):
    """A structure out of a foldcomp file.

    Parameters
    ----------
    text : bytes
        PDB file with residue numbers from 1.
    shift : int
        What brings them to the numbers of the source.
    title : str
        What it was called when it was compressed.
    """

    text: bytes
    shift: int
    title: str


def decompressed(data: bytes, where: str) -> Decompressed:
    """Return the structure in a foldcomp file.

    Raises
    ------
    StructureError
        If the file is damaged, too long for PDB text, or foldcomp is not installed.
    """
    title, first = _checked(data, where)
    at = _HEADER.size + 4 * data[12]
    clean = bytearray(data)
    clean[at : at + len(title)] = title
    # Numbers may not fit into their columns, and foldcomp writes OXT as if they began with 1.
    clean[_FIRST_NUMBERS] = struct.pack("<2H", 1, 1)
    if not 32 < clean[_CHAIN] < 127:
        clean[_CHAIN] = ord(" ")
    foldcomp = package(where)
    try:
        _, text = foldcomp.decompress(bytes(clean))
    except Exception as error:  # its own error is no more than an Exception
        raise _damaged(where) from error
    text = text.encode() if isinstance(text, str) else bytes(text)
    return Decompressed(text, first - 1, title.decode().strip())


def package(where: str) -> Any:
    """Return the module foldcomp, or raise StructureError with the command that installs it."""
    try:
        import foldcomp
    except ImportError:
        raise StructureError(
            f"reading foldcomp files needs foldcomp; {how_to_install('foldcomp')}", where
        ) from None
    return foldcomp


def _damaged(where: str) -> StructureError:
    return StructureError("the foldcomp file is damaged or truncated; fetch it again", where, retryable=True)


def _checked(data: bytes, where: str) -> tuple[bytes, int]:
    """Return the title, in ASCII of its length, and the first residue number of a file that is whole."""
    if len(data) < _HEADER.size:
        raise _damaged(where)
    _, length, _, first, _, anchors, _, angles, start, _, title_size, *steps = _HEADER.unpack_from(data)
    numbers = _HEADER.size + 4 * anchors  # where the title begins
    places = numbers + title_size
    backbone = places + 36 * anchors + 13  # after C-terminal oxygen
    factors = backbone + 8 * length + angles
    if len(data) > factors + 8 + length and data.find(MAGIC, factors + 8 + length) >= 0:
        raise StructureError(
            "holds several foldcomp files; if it is a database, keep its .index file beside it and pass its "
            "path to embed_many",
            where,
        )
    if anchors < 2 or length < 2 or len(data) != factors + 8 + length:
        raise _damaged(where)
    indices = struct.unpack_from(f"<{anchors}i", data, _HEADER.size)
    coordinates = struct.unpack_from(f"<{9 * anchors}fx3f", data, places)
    codes = [code >> 3 for code in data[backbone : backbone + 8 * length : 8]]
    known = [code for code in codes if code < len(_LETTERS)]
    letter = _LETTERS[codes[0]] if codes[0] < len(_LETTERS) else "X"
    if not (
        indices[0] == 0
        and indices[-1] == length - 1
        and all(a < b for a, b in zip(indices, indices[1:], strict=False))
        and all(code < len(_LETTERS) or code >= _FIRST_UNKNOWN for code in codes)
        and letter == start.decode("latin-1")
        and sum(_SIDE_ANGLES[code] for code in known) <= angles
        and all(map(math.isfinite, (*steps, *struct.unpack_from("<2f", data, factors))))
        and all(abs(x) < 9999 for x in coordinates)
    ):
        raise _damaged(where)
    if length > _MOST_RESIDUES:
        raise StructureError(
            f"has {length} residues, and no more than {_MOST_RESIDUES} can be read from a foldcomp file; "
            "use mmCIF",
            where,
        )
    title = bytes(c if 32 <= c < 127 else ord("?") for c in data[numbers:places])
    return title, first if first < 2**15 else first - 2**16


# --- databases ----------------------------------------------------------------------------------------


def is_database(path: str) -> bool:
    """Tell whether a file is a foldcomp database: compressed structures with an .index file beside it."""
    if is_structure_name(path) and not path.lower().endswith(".fcz"):
        return False
    if not os.path.isfile(path + ".index"):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def entries(path: str, most: int) -> Iterator[tuple[str, bytes]]:
    """Give the name and the content of each entry of a database, in its order, and hold one at a time.

    Names are those of the .lookup file, or else titles. Of an entry larger than `most` bytes, no more is read
    than shows that it is.

    Raises
    ------
    StructureError
        If foldcomp is not installed, or the index does not fit the file.
    OSError
        If a file cannot be read.
    """
    # The reader of the package takes sizes and places from the index without a check.
    package(path)
    size = os.path.getsize(path)
    with open(path, "rb") as data, open(path + ".index", "rb") as index:
        names = _names(path + ".lookup")
        at: tuple[int, str] | None = next(names, None)
        for line_number, line in enumerate(index, 1):
            try:
                key, offset, length = map(int, line.split())
            except ValueError:
                raise StructureError(
                    f"line {line_number} of its .index file is not three numbers; fetch the database again",
                    path,
                ) from None
            if not 0 <= offset <= offset + length <= size:
                raise StructureError(
                    f"line {line_number} of its .index file points beyond its end; fetch the database again",
                    path,
                )
            while at is not None and at[0] < key:
                at = next(names, None)
            data.seek(offset)
            content = data.read(min(max(length - 1, 0), most + 1))  # a zero byte ends an entry
            yield at[1] if at is not None and at[0] == key else _title(content) or str(key), content


def _names(path: str) -> Iterator[tuple[int, str]]:
    """Give keys and names of a .lookup file, which ascend by key as those of an index do."""
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, rest = line.rstrip("\n").partition("\t")
            if key.isdigit():
                yield int(key), rest.split("\t")[0]


def _title(content: bytes) -> str:
    try:
        return _checked(content, "")[0].decode().strip()
    except StructureError:
        return ""
