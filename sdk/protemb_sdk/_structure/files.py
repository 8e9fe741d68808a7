"""Structure files: from a path, bytes or an open file to a parsed `gemmi.Structure`, or one clear error."""

from __future__ import annotations

import logging
import os
import re
import stat
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.limits import DEFAULT_BYTES, check_bytes

if TYPE_CHECKING:
    import gemmi

logger = logging.getLogger("protemb")

_CHUNK = 2**16

TAKEN = "PDB, mmCIF or mmJSON, each also gzipped"

_ZEROS = re.compile(rb"\0*")
_CIF_START = re.compile(rb"(?:\s++|#[^\n]*+(?:\n|\Z))*+data_", re.IGNORECASE)
_PDB_ATOM = re.compile(rb"^(?:ATOM|HETA)", re.IGNORECASE | re.MULTILINE)
_PDB_HEADER = re.compile(rb"^(?:HEADER|TITLE |REMARK|CRYST1|SEQRES|MODEL )", re.MULTILINE)

# gemmi reads a blank or garbled number as 0: a C-alpha line whose three coordinate fields of
# eight columns hold anything but a number is looked for here. A line begins with the end of the one before:
# "\n" is looked for five times as fast as "^".
_PDB_BAD_CA = re.compile(
    rb"\n(?:ATOM|HETA).{8}(?: CA |CA  ).{14}(?!(?:(?= {0,7}[^ \n])[-+.0-9eE ]{8}){3})", re.IGNORECASE
)

_FOREIGN = {  # first bytes of what people hand in by mistake
    b"\x89PNG": "a PNG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"BZh": "compressed with bzip2; unpack it or use gzip",
    b"\xfd7zXZ": "compressed with xz; unpack it or use gzip",
    b"(\xb5/\xfd": "compressed with zstd; unpack it or use gzip",
    b"\x00\x05\x16\x07": "what macOS keeps beside a file (._name); take the file itself",
    b"<": "an HTML or XML document; download the structure itself, as mmCIF",
}


def load(x: str | Path | bytes | IO[bytes] | IO[str], where: str, most: int = DEFAULT_BYTES) -> bytes:
    """Return the unzipped content of a path, of bytes or of an open file, `most` bytes at the most.

    Returns
    -------
    bytes
        Never empty, never gzipped.

    Raises
    ------
    StructureError
        If there is nothing to read, it is too large, or the gzip stream is damaged.
    """
    try:
        if isinstance(x, bytes):
            data = x
        elif isinstance(x, (str, Path)):
            data = _read(Path(x), where, most)
        else:
            content = x.read()
            data = content.encode("utf-8", "replace") if isinstance(content, str) else bytes(content)
    except FileNotFoundError as error:
        raise StructureError("no such file; check the path", where, retryable=True) from error
    except IsADirectoryError as error:
        raise StructureError("is a folder; pass one file, or the folder to embed_many", where) from error
    except UnicodeDecodeError as error:
        raise StructureError("was opened as text but is not; open it with mode 'rb'", where) from error
    except (OSError, ValueError, TypeError) as error:  # ValueError: closed file, or a NUL in the path
        retryable = isinstance(error, OSError)
        raise StructureError(f"cannot be read ({error})", where, retryable=retryable) from error
    check_bytes(len(data), most, where)
    if data[:2] == b"\x1f\x8b":
        try:
            data = _unzipped(data, where, most)
        except (EOFError, zlib.error) as error:
            raise StructureError(
                f"the gzip stream is damaged or truncated ({error}); fetch the file again",
                where,
                retryable=True,
            ) from error
    if not data.strip():
        raise StructureError("the file is empty; fetch it again", where, retryable=True)
    return data


def _read(path: Path, where: str, most: int) -> bytes:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            check_bytes(found.st_size, most, where)
            return file.read()
        parts, size = [], 0  # a pipe or a device may have no end
        while part := file.read(_CHUNK):
            parts.append(part)
            size += len(part)
            check_bytes(size, most, where)
        return b"".join(parts)


def _unzipped(data: bytes, where: str, most: int) -> bytes:
    """Unzip all members of a gzip stream, with zeros between them or at its end, and never beyond `most`."""
    parts, size, at, member = [], 0, 0, None
    while at < len(data):
        if member is None:
            member = zlib.decompressobj(wbits=31)
        chunk = data[at : at + _CHUNK]
        parts.append(member.decompress(chunk, most + 1 - size))
        size += len(parts[-1])
        check_bytes(size, most, where)
        at += len(chunk) - len(member.unused_data)
        if member.eof:
            member = None
            at = _ZEROS.match(data, at).end()  # type: ignore[union-attr]  # it matches nothing, too
    if member is not None:
        raise EOFError("it ends too early")
    return b"".join(parts)


def parse(data: bytes, where: str) -> tuple[gemmi.Structure, tuple[str, ...]]:
    """Parse the content of a structure file, whose format is told from the content alone.

    Returns
    -------
    structure : gemmi.Structure
        As read; entities are not set up yet.
    notes : tuple of str
        What had to be overlooked.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in data:  # line ends of old Macs
        data = data.replace(b"\r", b"\n")
    start = data[:64].lstrip()
    if start.startswith(b"{"):
        return _parse_cif(data, where, "mmJSON"), ()
    if _CIF_START.match(data):
        return _parse_cif(data, where, "mmCIF"), ()
    if _PDB_ATOM.search(data):
        return _parse_pdb(data, where)
    if _PDB_HEADER.search(data):
        raise StructureError("a PDB file without ATOM records, there is nothing to embed", where)
    for magic, what in _FOREIGN.items():
        if data.startswith(magic) or start.startswith(magic):
            raise StructureError(f"this is {what} (read are {TAKEN})", where)
    if b"dataBlocks" in data[:4096]:
        raise StructureError("BinaryCIF is not read; load it with Biotite and pass the AtomArray", where)
    raise StructureError(f"not a structure file (it starts with {start[:16]!r}); read are {TAKEN}", where)


def _parse_cif(data: bytes, where: str, kind: str) -> gemmi.Structure:
    import gemmi

    if not data.isascii():
        data = data.decode("utf-8", "replace").encode()
    try:
        document = gemmi.cif.read_mmjson_string(data) if kind == "mmJSON" else gemmi.cif.read_string(data)
    except (RuntimeError, ValueError, IndexError) as error:
        raise StructureError(f"not a valid {kind} file ({_first_line(error)})", where) from error
    try:
        for block in document:
            if len(block.find_mmcif_category("_atom_site.")):
                return gemmi.make_structure_from_block(block)
        component = any(len(block.find_mmcif_category("_chem_comp_atom.")) for block in document)
    except (RuntimeError, ValueError, IndexError) as error:
        raise StructureError(f"its atom table cannot be read ({_first_line(error)})", where) from error
    if component:
        raise StructureError("describes a chemical component (a ligand), not a structure", where)
    raise StructureError("holds no _atom_site table of mmCIF, so there is nothing to embed", where)


def _parse_pdb(data: bytes, where: str) -> tuple[gemmi.Structure, tuple[str, ...]]:
    if not data.isascii():  # byte for byte, so that columns stay where they are
        data = data.decode("ascii", "replace").replace("\ufffd", "?").encode()
    if bad := _PDB_BAD_CA.search(b"\n" + data):
        line = data.count(b"\n", 0, bad.start()) + 1
        raise StructureError(
            f"the coordinates of the C-alpha in line {line} are not numbers; remove or repair it", where
        )
    notes: tuple[str, ...] = ()
    try:
        structure = _read_pdb(data)
    except (RuntimeError, ValueError) as error:
        # Columns right of 72 (segment, element, charge) hold free text in many files.
        try:
            structure = _read_pdb(data, width=72)
        except (RuntimeError, ValueError):
            raise StructureError(f"not a valid PDB file ({_first_line(error)})", where) from error
        notes = (f"columns right of 72 were overlooked because they are malformed ({_first_line(error)})",)
        logger.info("%s: %s", where, notes[0])
    if _merged(structure):
        # Molecules that share a chain name and restart their numbers, set apart by TER only.
        split = _read_pdb(data, width=72 if notes else 0, split=True)
        if not _merged(split):
            return split, (*notes, "residue numbers repeat within a chain; its parts were told apart by TER")
        notes = (*notes, "residues with the same chain, number and name were taken as one")
    return structure, notes


def _read_pdb(data: bytes, width: int = 0, split: bool = False) -> gemmi.Structure:
    import gemmi

    structure = gemmi.read_pdb_string(data, max_line_length=width, split_chain_on_ter=split)
    structure.name = ""  # gemmi says "string"; an entry's name is kept in its info
    return structure


def _merged(structure: gemmi.Structure) -> bool:
    """Whether some residue holds more C-alphas than conformers."""
    for model in structure:
        for chain in model:
            for residue in chain:
                if residue.get_ca() is None:
                    continue
                atoms = residue["CA"]
                if len(atoms) > 1 and len({atom.altloc for atom in atoms}) < len(atoms):
                    return True
        break
    return False


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n", 1)[0].split())[:160]
