"""Structure files: from a path, bytes or an open file to stretches of atoms, or one clear error."""

from __future__ import annotations

import logging
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.identifiers import how_to_fetch
from protemb_sdk._base.limits import DEFAULT_BYTES, check_bytes
from protemb_sdk._structure.atoms import Stretches, identity, joined
from protemb_sdk._structure.bcif import block_as_document, blocks_of_bcif
from protemb_sdk._structure.cif import column_of_block, plain, stretches_of_columns
from protemb_sdk._structure.cif_columns import Column, Values
from protemb_sdk._structure.cif_cut import AtomTable, atom_table
from protemb_sdk._structure.fcz import decompressed
from protemb_sdk._structure.formats import TAKEN, recognised
from protemb_sdk._structure.pdb import stretches_of_pdb

if TYPE_CHECKING:
    import gemmi

logger = logging.getLogger("protemb")

_CHUNK = 2**16

_ZEROS = re.compile(rb"\0*")

__all__ = ["TAKEN", "load", "parse", "read_stretches", "read_whole"]


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
        hint = how_to_fetch(where, f"use fetch_structure({where!r})") or "; check the path"
        raise StructureError(f"no such file{hint}", where, retryable=True) from error
    except IsADirectoryError as error:
        raise StructureError("is a folder; pass one file, or the folder to embed_many", where) from error
    except UnicodeDecodeError as error:
        raise StructureError("was opened as text but is not; open it with mode 'rb'", where) from error
    except Exception as error:  # a stream of another library may raise anything
        retryable = not isinstance(error, (ValueError, TypeError))  # closed file, or a NUL in the path
        said = " ".join(str(error).split()) or type(error).__name__
        raise StructureError(f"cannot be read ({said[:200]})", where, retryable=retryable) from error
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


def read_stretches(data: bytes, where: str, model: int, most: int = DEFAULT_BYTES) -> Stretches:
    """Read one model out of the content of a structure file, whose format is told from the content alone.

    Parameters
    ----------
    data : bytes
        As `load` returns it.
    where : str
        For messages.
    model : int
        Position of the model, from 1.
    most : int
        Bytes that a column of BinaryCIF may take.
    """
    kind, data, notes = recognised(data, where)
    if kind == "PDB":
        found = stretches_of_pdb(data, where, model)
    elif kind == "foldcomp":
        text, shift, entry = decompressed(data, where)
        found = stretches_of_pdb(text, where, model)
        found.number = [None if number is None else number + shift for number in found.number]
        found.entry = entry
    elif kind == "BinaryCIF":
        blocks = [_named(name, column) for name, column in blocks_of_bcif(data, where, most)]
        found = _of_blocks(blocks, where, model)
    else:
        found = _of_blocks(_blocks(data, where, kind), where, model)
    found.notes[:0] = notes
    for note in (*found.about_models, *found.notes):
        logger.info("%s: %s", where, note)
    return found


# A line that ends the table before that of atoms, and the one that ends the last table.
_CLOSED = re.compile(rb"^#\s*^loop_\s*^_atom_site\.", re.MULTILINE)
_CLOSED_END = re.compile(rb"^#\s*\Z", re.MULTILINE)


def read_whole(data: bytes, where: str) -> Stretches:
    """Read the first model as `read_stretches` does, and check all that is not needed for it.

    A file that ends too early is refused, also if it ends between two rows of a table: where a line ``#``
    stands before the atom table, as the PDB and AlphaFold DB write it, one has to be at the end. A file
    that ends between two tables after that of atoms cannot be told from a complete one.

    Raises
    ------
    StructureError
        If any of it cannot be read.
    """
    kind, data, _ = recognised(data, where)
    found = read_stretches(data, where, 1)
    table = atom_table(data) if kind == "mmCIF" else None
    if table is not None:
        _document(table.rest, where, kind)  # without a table, all was parsed
    if kind == "mmCIF" and _CLOSED.search(data) and not _CLOSED_END.search(data, max(len(data) - 256, 0)):
        raise StructureError("the file ends too early, within a table; fetch it again", where, retryable=True)
    return found


def _blocks(data: bytes, where: str, kind: str) -> list[tuple[str, Column]]:
    """Return the name of each data block and the reader of its columns."""
    table = atom_table(data) if kind == "mmCIF" else None
    if table is not None:
        columns = table.fixed()
        if columns is not None:
            return [(table.name, _with_the_rest(lambda tag: columns.get(tag.lower()), table, data, where))]
        try:
            (block,) = _document(table.text, where, kind)
        except (StructureError, ValueError):
            pass  # the whole file says what is wrong with it
        else:
            return [(table.name, _with_the_rest(column_of_block(block), table, data, where))]
    return [_named(block.name, column_of_block(block)) for block in _document(data, where, kind)]


def _named(block: str, column: Column) -> tuple[str, Column]:
    """Return the name of the entry, or else of the block, and the reader of columns."""
    entry = column("_entry.id")
    name = "" if entry is None else plain(entry.pick(np.zeros(1, dtype=np.int64))[0]).strip()
    return name or block.strip(), column


def _with_the_rest(atoms: Column, table: AtomTable, data: bytes, where: str) -> Column:
    """Return a reader of columns that parses the file only if another table than that of atoms is wanted."""
    whole: list[Column] = []

    def column(tag: str) -> Values | None:
        if tag.startswith("_atom_site."):
            return atoms(tag)
        if data.find(tag.encode()) < 0:
            return None
        if not whole:
            whole.extend(column_of_block(block) for block in _document(table.rest, where, "mmCIF"))
        return whole[0](tag) if whole else None

    return column


def _of_blocks(blocks: list[tuple[str, Column]], where: str, model: int) -> Stretches:
    """Read the data blocks with atoms: one, conformations of one structure, or several structures."""
    with_atoms = [(name, column) for name, column in blocks if column("_atom_site.Cartn_x") is not None]
    if not with_atoms:
        raise _without_atoms([column for _, column in blocks], where)
    if len(with_atoms) == 1:
        name, column = with_atoms[0]
        found = stretches_of_columns(column, where, model)
        found.entry = name
        return found
    first = [stretches_of_columns(column, where, 1) for _, column in with_atoms]
    for (name, _), one in zip(with_atoms, first, strict=True):
        one.entry = name
    if all(identity(one) == identity(first[0]) for one in first):
        if not 1 <= model <= len(first):
            raise StructureError(f"has {len(first)} models, so model={model} is not there", where)
        first[model - 1].about_models.append(
            f"the file holds {len(first)} data blocks of the same residues; they are taken for models, and "
            f"number {model} is read"
        )
        return first[model - 1]
    found = joined([stretches_of_columns(column, where, model) for _, column in with_atoms])
    found.entry = first[0].entry
    found.about_models.append(f"the file holds {len(first)} data blocks with atoms; all of them are read")
    return found


def _without_atoms(columns: list[Column], where: str) -> StructureError:
    """Return the reason why no block gives atoms."""
    for column in columns:
        if any(column(f"_atom_site.{name}") for name in ("id", "label_atom_id", "auth_atom_id", "Cartn_y")):
            return StructureError("lacks the column _atom_site.Cartn_x, so nothing can be read", where)
    if any(column(f"_chem_comp_atom.{name}") for column in columns for name in ("comp_id", "atom_id")):
        return StructureError("describes a chemical component (a ligand), not a structure", where)
    return StructureError("holds no _atom_site table of mmCIF, so there is nothing to embed", where)


_BLOCK = re.compile(rb"^data_(\S*)", re.MULTILINE | re.IGNORECASE)


def _numbered() -> Callable[[re.Match[bytes]], bytes]:
    """Return what gives data blocks different names, which those of files that were put together have not."""
    count: Counter[bytes] = Counter()

    def name(found: re.Match[bytes]) -> bytes:
        count[found[1].lower()] += 1
        times = count[found[1].lower()]
        return found[0] if times == 1 else found[0] + b"-%d" % times

    return name


def _document(data: bytes, where: str, kind: str, again: bool = True) -> gemmi.cif.Document:
    import gemmi

    if not data.isascii():
        data = data.decode("utf-8", "replace").encode()
    try:
        return gemmi.cif.read_mmjson_string(data) if kind == "mmJSON" else gemmi.cif.read_string(data)
    except (RuntimeError, ValueError, IndexError) as error:
        if again and "duplicate block name" in str(error):
            return _document(_BLOCK.sub(_numbered(), data), where, kind, again=False)
        raise StructureError(f"not a valid {kind} file ({_first_line(error)})", where) from error


# --- structures of gemmi, for whoever writes a structure ------------------------------------------


def parse(data: bytes, where: str) -> gemmi.Structure:
    """Parse the content of a structure file with gemmi, which keeps what is to be written again.

    Chains are as gemmi has them, not as `read_stretches` and the rule of `_molecules` do.

    Raises
    ------
    StructureError
        If gemmi cannot parse it.
    """
    import gemmi

    kind, data, _ = recognised(data, where)
    if kind == "PDB":
        return _parse_pdb(data, where)
    if kind == "foldcomp":
        text, shift, _ = decompressed(data, where)
        structure = _parse_pdb(text, where)
        for chain in structure[0]:
            for residue in chain:
                residue.seqid.num = (residue.seqid.num or 0) + shift
        return structure
    document = block_as_document(data, where) if kind == "BinaryCIF" else _document(data, where, kind)
    try:
        for block in document:
            if len(block.find_mmcif_category("_atom_site.")):
                return gemmi.make_structure_from_block(block)
    except (RuntimeError, ValueError, IndexError) as error:
        raise StructureError(f"its atom table cannot be read ({_first_line(error)})", where) from error
    raise _without_atoms([column_of_block(block) for block in document], where)


def _parse_pdb(data: bytes, where: str) -> gemmi.Structure:
    if not data.isascii():  # byte for byte, so that columns stay where they are
        data = data.decode("ascii", "replace").replace("\ufffd", "?").encode()
    try:
        return _read_pdb(data)
    except (RuntimeError, ValueError) as error:
        # Columns right of 72 (segment, element, charge) hold free text in many files.
        try:
            return _read_pdb(data, width=72)
        except (RuntimeError, ValueError):
            raise StructureError(f"not a valid PDB file ({_first_line(error)})", where) from error


def _read_pdb(data: bytes, width: int = 0) -> gemmi.Structure:
    import gemmi

    structure = gemmi.read_pdb_string(data, max_line_length=width)
    structure.name = ""  # gemmi says "string"; an entry's name is kept in its info
    return structure


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n", 1)[0].split())[:160]
