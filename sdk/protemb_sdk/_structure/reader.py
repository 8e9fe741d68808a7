"""Structures in, chains out: the only reader of structure files and of other libraries' structures."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import ChainError, StructureError, printable
from protemb_sdk._base.folders import find_structures, stem
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.archives import Member
from protemb_sdk._structure.chain import ALPHABET, BREAK_DISTANCE, Chain, no_protein_chain
from protemb_sdk._structure.files import TAKEN, load, parse
from protemb_sdk._structure.protein import StructureRead, chains_of_table
from protemb_sdk._structure.tables import table_of_biopython, table_of_biotite, table_of_gemmi

if TYPE_CHECKING:
    import gemmi

# Half a virtual bond: no chain in angstrom is as tight, one in nanometres is tighter.
SHORTEST_STEP = 1.9

__all__ = ["StructureRead", "find_structures", "read_chain", "read_chains"]


def read_chains(
    structure: Any,
    *,
    model_number: int = 1,
    altloc: str = "highest",
    min_residues: int = 3,
    name: str | None = None,
    byte_limit: int = DEFAULT_BYTES,
) -> StructureRead:
    """Read every protein chain of a structure.

    A residue counts as protein if it has a C-alpha (atom CA, a carbon) and is an amino acid that the
    file declares as part of a polymer, or is held to such a residue by a peptide bond (in a file of
    C-alphas only: lies within 4.3 angstrom of the next one).

    Parameters
    ----------
    structure : path, bytes, open file, gemmi.Structure, Biotite or Biopython structure, tuple, or Chain
        Files are PDB, mmCIF or mmJSON, each also gzipped, told by their content. Of Biotite an AtomArray or
        AtomArrayStack, of Biopython a Structure, Model or Chain. A tuple is
        (coordinates (L, 3), sequence) or (coordinates, sequence, residue_index); without indices no
        residue is taken to be missing.
    model_number : int
        Which model of a structure with several (NMR), counted from 1.
    altloc : str
        Which conformer of a disordered residue, or of a site with several residue types: "highest"
        (the one whose C-alpha has the highest occupancy, the first in the file if equal), "first", or a
        letter (that conformer where it exists, else the highest).
    min_residues : int
        Chains with fewer residues are skipped; does not apply to a tuple or a Chain.
    name : str, optional
        Name of the result; by default the file's, or the entry's.
    byte_limit : int, default 2 GiB
        Larger files, or such as are larger unzipped, are refused.

    Returns
    -------
    StructureRead

    Raises
    ------
    StructureError
        If the structure cannot be read or is too large, or coordinates are not finite.
    """
    x, model = structure, model_number
    if isinstance(x, Chain):
        return StructureRead([x if name is None else replace(x, name=name)], [])
    if isinstance(x, tuple):
        return StructureRead([_chain_of_arrays(x, name or "array")], [])
    check_altloc(altloc)
    if isinstance(model, bool) or not isinstance(model, (int, np.integer)):
        raise StructureError(f"model_number={model!r}: pass the position of the model, from 1")
    if all(hasattr(x, a) for a in ("coord", "chain_id", "res_id", "res_name", "atom_name")):
        name = name or "structure"
        return chains_of_table(table_of_biotite(x, model, name), name, name, (), altloc, min_residues)
    if getattr(x, "level", None) in ("S", "M", "C") and hasattr(x, "child_list"):
        name = name or (str(x.id).strip() if x.level == "S" else "") or "structure"
        return chains_of_table(table_of_biopython(x, model, name), name, name, (), altloc, min_residues)
    opened, name, where, notes = _open(x, name, byte_limit)
    read = chains_of_table(table_of_gemmi(opened, model, where), name, where, notes, altloc, min_residues)
    source = os.fsdecode(x) if isinstance(x, (str, PathLike)) else x.name if isinstance(x, Member) else ""
    return StructureRead([replace(chain, source=printable(source)) for chain in read.chains], read.skipped)


def check_altloc(altloc: object) -> None:
    """Raise StructureError unless `altloc` is "highest", "first" or one letter."""
    if altloc not in ("highest", "first") and not (isinstance(altloc, str) and len(altloc) == 1):
        raise StructureError(f"altloc={altloc!r}: pass 'highest', 'first' or one letter")


def read_chain(structure: Any, chain_id: str | None = None, **options: Any) -> Chain:
    """Read exactly one protein chain of a structure.

    Parameters
    ----------
    structure : path, bytes, open file, gemmi.Structure, Biotite or Biopython structure, tuple, or Chain
        As for `read_chains`.
    chain_id : str, optional
        Author name of the chain, or else its label name; may be left out if there is only one.
    **options
        As for `read_chains`.

    Returns
    -------
    Chain

    Raises
    ------
    ChainError
        If several chains are there and none is named, or the one named is not there or was skipped.
    StructureError
        If the structure cannot be read or holds no protein chain.
    """
    x, chain = structure, chain_id
    if chain is not None and not isinstance(chain, str):
        raise ChainError(f"chain_id={chain!r}: pass the name of a chain, a str")
    read = read_chains(x, **options)
    if chain is not None and (isinstance(x, (tuple, Chain)) and not read.chains[0].chain_id):
        raise ChainError(f"arrays have no chain names; leave chain_id={chain!r} out", read.chains[0].id)
    listing = ", ".join(c.chain_id or "' '" for c in read.chains) or "none"
    where = read.chains[0].name if read.chains else read.skipped[0].source
    if chain is not None:
        wanted = chain.strip()
        for found in read.chains:
            if found.chain_id == wanted:
                return found
        for skipped in read.skipped:
            if skipped.chain_id.strip() == wanted:
                raise ChainError(
                    f"chain {chain} was skipped: {skipped.reason}; protein chains: {listing}", where
                )
        for found in read.chains:
            if found.label_chain and found.label_chain == wanted:
                return found
        raise ChainError(f"there is no chain {chain!r}; protein chains: {listing}", where)
    if len(read.chains) == 1:
        return read.chains[0]
    if read.chains:
        raise ChainError(f"holds {len(read.chains)} protein chains, name one of them: {listing}", where)
    raise no_protein_chain(where, read.skipped)


def _open(x: Any, name: str | None, most: int) -> tuple[gemmi.Structure, str, str, tuple[str, ...]]:
    """Return a structure that may be changed, its name, what messages call it, and notes."""
    if isinstance(x, (str, PathLike)):
        path = os.fsdecode(x)
        if isinstance(x, str) and "\n" in path and not os.path.exists(path):
            raise StructureError("a str is taken for a path; pass the content of a file as bytes")
        where = printable(path)
        structure, notes = parse(load(path, where, most), where)
        return structure, name or stem(where), where, notes
    if isinstance(x, Member):
        where = printable(x.name)
        structure, notes = parse(load(x.content, where, most), where)
        return structure, name or stem(where), where, notes
    if isinstance(x, (bytes, bytearray, memoryview)) or callable(getattr(x, "read", None)):
        data = bytes(x) if isinstance(x, (bytearray, memoryview)) else x
        label = getattr(x, "name", None)
        where = name or (label if isinstance(label, str) else "structure")
        structure, notes = parse(load(data, where, most), where)
        name = name or _entry(structure)
        return structure, name, where if isinstance(label, str) else name, notes
    import gemmi

    if isinstance(x, gemmi.Structure):
        name = name or _entry(x)
        return x.clone(), name, name, ()
    raise StructureError(
        f"cannot read a structure from {type(x).__name__}; pass a path, bytes or open file ({TAKEN}), a "
        "gemmi.Structure, a Biotite AtomArray, a Biopython Structure, a tuple (coordinates, sequence[, "
        "residue_index]), or a Chain"
    )


def _entry(structure: gemmi.Structure) -> str:
    # gemmi's own container of metadata has no get()
    entry = structure.info["_entry.id"] if "_entry.id" in structure.info else structure.name  # noqa: SIM401
    return entry.strip() or "structure"


def _chain_of_arrays(x: tuple[Any, ...], name: str) -> Chain:
    if len(x) not in (2, 3) or not isinstance(x[1], str):
        raise StructureError("pass a tuple (coordinates (L, 3), sequence[, residue_index])", name)
    try:
        coords = np.array(x[0])
        if coords.dtype.kind == "c":  # NumPy would take the real part
            raise ValueError("they are complex")
        coords = coords.astype(np.float64)
        given = np.arange(len(x[1])) if len(x) == 2 else np.asarray(x[2])
    except (TypeError, ValueError) as error:
        raise StructureError(f"coordinates and residue_index must be numbers ({error})", name) from error
    letters = "".join(c.upper() if c.isascii() else "X" for c in x[1])
    length = len(letters)
    if given.shape != (length,) or given.dtype.kind not in "iu":
        raise StructureError(f"residue_index must hold one integer for each of {length} residues", name)
    given = given.astype(np.int64)
    ends = [abs(int(given[0])), abs(int(given[-1])), int(given[-1]) - int(given[0])] if length else []
    if (np.diff(given) < 1).any() or max(ends, default=0) > 2**31 - 2:
        raise StructureError("residue_index must increase strictly and fit into 32 bits", name)
    return Chain(
        name=name,
        chain_id="",
        label_chain="",
        ca_coords=coords,
        sequence="".join(c if c in ALPHABET else "X" for c in letters),
        residue_index=given - given[0] if length else given,
        auth_seq=(given + 1).astype(np.int32),
        insertion_code=np.full(length, "", dtype="U1"),
        label_seq=np.full(length, -1, dtype=np.int32),
        residue_name=np.array([_three_letters(c) for c in letters], dtype="U3"),
        notes=_doubts(coords, given),
    )


def _doubts(coords: NDArray[np.float64], index: NDArray[np.int64]) -> tuple[str, ...]:
    """Return notes on arrays that are probably not what they were taken for."""
    if coords.ndim != 2 or len(coords) < 2:
        return ()
    with np.errstate(invalid="ignore", over="ignore"):
        step = np.linalg.norm(np.diff(coords, axis=0), axis=1)
    notes = []
    if np.median(step) < SHORTEST_STEP:
        notes.append(
            f"consecutive C-alphas lie {np.median(step):.2g} angstrom apart, not 3.8: are these nanometres?"
        )
    gaps = int(((step > BREAK_DISTANCE) & (np.diff(index) == 1)).sum()) if len(index) == len(coords) else 0
    if gaps:
        notes.append(
            f"the chain is broken {gaps} times without a gap in its residue_index; pass (coordinates, "
            "sequence, residue_index) to say how many residues are missing"
        )
    return tuple(notes)


@lru_cache(maxsize=64)
def _three_letters(letter: str) -> str:
    import gemmi

    return gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or "UNK"
