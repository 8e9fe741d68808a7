"""Structures in, chains out: the only reader of structure files and of other libraries' structures."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from protemb_sdk._base.errors import ChainError, StructureError, printable
from protemb_sdk._base.folders import find_structures, stem
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.archives import Member
from protemb_sdk._structure.array_chain import SHORTEST_STEP, chain_of_arrays
from protemb_sdk._structure.atoms import Stretches
from protemb_sdk._structure.chain import Chain, no_protein_chain
from protemb_sdk._structure.files import TAKEN, load, read_stretches
from protemb_sdk._structure.foreign import attribute, has
from protemb_sdk._structure.molecules import table_of
from protemb_sdk._structure.protein import StructureRead, chains_of_table
from protemb_sdk._structure.tables import stretches_of_biopython, stretches_of_biotite, stretches_of_gemmi

if TYPE_CHECKING:
    import gemmi

__all__ = ["SHORTEST_STEP", "StructureRead", "find_structures", "read_chain", "read_chains"]


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
        Files are PDB, mmCIF, mmJSON or BinaryCIF, each also gzipped, recognised by their content. Of Biotite
        an AtomArray or AtomArrayStack, of Biopython a Structure, Model or Chain. A tuple is
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

    Examples
    --------
    >>> from protemb_sdk import read_chains
    >>> [(chain.id, len(chain)) for chain in read_chains("1a8o.cif").chains]
    [('1a8o_A', 70)]
    """
    x, model = structure, model_number
    if isinstance(x, Chain):
        return StructureRead([x if name is None else replace(x, name=name)], [])
    if isinstance(x, tuple):
        return StructureRead([chain_of_arrays(x, name or "array")], [])
    check_altloc(altloc)
    if isinstance(model, bool) or not isinstance(model, (int, np.integer)):
        raise StructureError(f"model_number={model!r}: pass the position of the model, from 1")
    found, name, where = _stretches(x, name, int(model), byte_limit)
    read = chains_of_stretches(found, name, where, altloc=altloc, min_residues=min_residues)
    source = os.fsdecode(x) if isinstance(x, (str, PathLike)) else x.name if isinstance(x, Member) else ""
    return StructureRead([replace(chain, source=printable(source)) for chain in read.chains], read.skipped)


def chains_of_stretches(
    found: Stretches, name: str, where: str, *, altloc: str = "highest", min_residues: int = 3
) -> StructureRead:
    """Return the protein chains of what `read_stretches` read, and what was skipped."""
    return chains_of_table(table_of(found), name, where, altloc, min_residues)


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

    Examples
    --------
    >>> from protemb_sdk import read_chain
    >>> read_chain("1a8o.cif", "A").id
    '1a8o_A'
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


def _stretches(x: Any, name: str | None, model: int, most: int) -> tuple[Stretches, str, str]:
    """Return one model of a structure, its name, and what messages call it."""
    if has(x, "coord", "chain_id", "res_id", "res_name", "atom_name"):
        name = name or "structure"
        return stretches_of_biotite(x, model, name), name, name
    if attribute(x, "level") in ("S", "M", "C") and has(x, "child_list"):
        name = name or (str(attribute(x, "id")).strip() if x.level == "S" else "") or "structure"
        return stretches_of_biopython(x, model, name), name, name
    if isinstance(x, (str, PathLike)):
        path = os.fsdecode(x)
        if isinstance(x, str) and "\n" in path and not os.path.exists(path):
            raise StructureError("a str is taken for a path; pass the content of a file as bytes")
        where = printable(path)
        return read_stretches(load(path, where, most), where, model, most), name or stem(where), where
    if isinstance(x, Member):
        where = printable(x.name)
        return read_stretches(load(x.content, where, most), where, model, most), name or stem(where), where
    if isinstance(x, (bytes, bytearray, memoryview)) or callable(attribute(x, "read")):
        data = bytes(x) if isinstance(x, (bytearray, memoryview)) else x
        label = attribute(x, "name")
        where = name or (label if isinstance(label, str) else "structure")
        found = read_stretches(load(data, where, most), where, model, most)
        name = name or found.entry or "structure"
        return found, name, where if isinstance(label, str) else name
    import gemmi

    if isinstance(x, gemmi.Structure):
        name = name or _entry(x)
        return stretches_of_gemmi(x.clone(), model, name), name, name
    raise StructureError(
        f"cannot read a structure from {type(x).__name__}; pass a path, bytes or open file ({TAKEN}), a "
        "gemmi.Structure, a Biotite AtomArray, a Biopython Structure, a tuple (coordinates, sequence[, "
        "residue_index]), or a Chain"
    )


def _entry(structure: gemmi.Structure) -> str:
    try:
        # gemmi's own container of metadata has no get()
        entry = structure.info["_entry.id"] if "_entry.id" in structure.info else structure.name  # noqa: SIM401
    except UnicodeDecodeError:  # a name of bytes that are no UTF-8
        return "structure"
    return entry.strip() or "structure"
