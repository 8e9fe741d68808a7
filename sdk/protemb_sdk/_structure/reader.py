"""Structures in, chains out: the only reader of structure files and of other libraries' structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from protemb_sdk._base.errors import ChainError
from protemb_sdk._base.folders import find_structures
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.arrays import SHORTEST_STEP
from protemb_sdk._structure.chain import Chain, no_protein_chain
from protemb_sdk._structure.complexes import ALL, checked_chains, join_chains
from protemb_sdk._structure.inputs import Input, Kind
from protemb_sdk._structure.protein import StructureRead, chains_of_stretches

__all__ = [
    "SHORTEST_STEP",
    "StructureRead",
    "chains_of_stretches",
    "find_structures",
    "read_chain",
    "read_chains",
]


def read_chains(
    structure: Any,
    *,
    model_number: int = 1,
    altloc: str = "highest",
    min_residues: int = 3,
    min_plddt: float | None = None,
    name: str | None = None,
    byte_limit: int = DEFAULT_BYTES,
    chains: str | Sequence[str] | None = None,
    assembly: str | None = None,
) -> StructureRead:
    """Read every protein chain of a structure, each on its own or several as one complex.

    A residue counts as protein if it has a C-alpha (atom CA, a carbon) and is an amino acid that the
    file declares as part of a polymer, or is held to such a residue by a peptide bond (in a file of
    C-alphas only: lies within 4.3 angstrom of the next one).

    Parameters
    ----------
    structure : path, bytes, open file, gemmi.Structure, Biotite or Biopython structure, tuple, or Chain
        Files are PDB, mmCIF, mmJSON, BinaryCIF or foldcomp, each also gzipped, recognised by their content.
        Of Biotite an AtomArray or AtomArrayStack, of Biopython a Structure, Model or Chain. A tuple is
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
    min_plddt : float, optional
        Residues of a predicted model with a lower pLDDT (0 to 100) are left out, as residues without a
        C-alpha are, with a note. An experimental structure is read whole, with a note. Does not apply to a
        tuple or a Chain.
    name : str, optional
        Name of the result; by default the file's, or the entry's.
    byte_limit : int, default 2 GiB
        Larger files, or such as are larger unzipped, are refused.
    chains : "all" or sequence of str, optional
        Protein chains that make one complex, joined as by `join_chains`: all, or those with these author or
        label names, in this order. By default each chain is on its own.
    assembly : str, optional
        Name of an assembly, such as "1", whose chains are read: `_pdbx_struct_assembly` of mmCIF, REMARK 350
        of PDB files. Copies of chain A are named A-2, A-3. Does not apply to a tuple or a Chain.

    Returns
    -------
    StructureRead

    Raises
    ------
    ChainError
        If `chains` names one that is not there, was skipped or is named twice, or there is no such assembly.
    StructureError
        If the structure cannot be read or is too large, coordinates are not finite, or `min_plddt` is given
        and the structure says neither that it is a predicted model with pLDDT nor that it is experimental.

    Examples
    --------
    >>> from protemb_sdk import read_chains
    >>> [(chain.id, len(chain)) for chain in read_chains("1a8o.cif").chains]
    [('1a8o_A', 70)]
    """
    together = checked_chains(chains)
    given = Input.of(structure)
    if assembly is not None and not isinstance(assembly, str):
        raise ChainError(f"assembly={assembly!r}: pass the name of an assembly, a str")
    read = given.read(
        model_number=model_number,
        altloc=altloc,
        min_residues=min_residues,
        min_plddt=min_plddt,
        name=name,
        byte_limit=byte_limit,
    )
    if assembly is not None and read.chains:
        read = given.assembled(read, assembly, byte_limit)
    return read if together is None else _complex_of(read, together)


def _complex_of(read: StructureRead, names: str | list[str]) -> StructureRead:
    """Return chains of a structure as one; of a structure without protein, what was skipped."""
    if not read.chains or (names != ALL and read.chains[0].chain_id == "+".join(names)):
        return read  # the second was made before it was sent to a worker
    chains = read.chains if names == ALL else [_chain_named(read, name) for name in names]
    return StructureRead([join_chains(chains)], read.skipped)


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
    given, chain = Input.of(structure), chain_id
    if chain is not None and not isinstance(chain, str):
        raise ChainError(f"chain_id={chain!r}: pass the name of a chain, a str")
    if chain is not None and options.get("chains") is not None:
        raise ChainError(f"chain_id={chain!r} and chains={options['chains']!r}: pass one of them")
    read = read_chains(given, **options)
    if chain is not None and (given.kind in (Kind.ARRAYS, Kind.CHAIN) and not read.chains[0].chain_id):
        raise ChainError(f"arrays have no chain names; leave chain_id={chain!r} out", read.chains[0].id)
    if chain is not None:
        return _chain_named(read, chain)
    if len(read.chains) == 1:
        return read.chains[0]
    where, listing = _place_and_listing(read)
    if read.chains:
        raise ChainError(
            f"holds {len(read.chains)} protein chains, name one of them with chain_id= or --chain: {listing}",
            where,
        )
    raise no_protein_chain(where, read.skipped)


def _place_and_listing(read: StructureRead) -> tuple[str, str]:
    """Return what messages call the structure, and the names of its protein chains."""
    where = read.chains[0].name if read.chains else read.skipped[0].source
    return where, ", ".join(c.chain_id or "' '" for c in read.chains) or "none"


def _chain_named(read: StructureRead, chain: str) -> Chain:
    """Return the chain with an author name, or else a label name.

    Raises
    ------
    ChainError
        If it is not there, or was skipped.
    """
    where, listing = _place_and_listing(read)
    wanted = chain.strip()
    for found in read.chains:
        if found.chain_id == wanted:
            return found
    for skipped in read.skipped:
        if skipped.chain_id.strip() == wanted:
            raise ChainError(f"chain {chain} was skipped: {skipped.reason}; protein chains: {listing}", where)
    for found in read.chains:
        if found.label_chain and found.label_chain == wanted:
            note = f"chain {wanted} is its label name; its author name is {found.chain_id}"
            return replace(found, notes=(*found.notes, note))
    raise ChainError(f"there is no chain {chain!r}; protein chains: {listing}", where)
