"""Structures in, chains out: the only reader of structure files and of other libraries' structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._chain import ALPHABET, Chain, Skipped, index_with_gaps
from protemb_sdk._errors import ChainError, StructureError
from protemb_sdk._files import TAKEN, find_structures, load, parse, stem
from protemb_sdk._tables import Table, kind_of, table_of_biotite, table_of_gemmi

if TYPE_CHECKING:
    import gemmi

__all__ = ["StructureRead", "find_structures", "read_chain", "read_chains"]

# A peptide bond is 1.33 angstrom long; sloppy models stretch it.
BOND_DISTANCE = 2.0


@dataclass(frozen=True, slots=True)
class StructureRead:
    """What a structure holds, in file order.

    Parameters
    ----------
    chains : list of Chain
        Protein chains.
    skipped : list of Skipped
        Every other chain, with its reason.
    """

    chains: list[Chain]
    skipped: list[Skipped]


def read_chains(
    x: Any, *, model: int = 1, altloc: str = "highest", min_residues: int = 3, name: str | None = None
) -> StructureRead:
    """Read every protein chain of a structure.

    A residue counts as protein if it has a C-alpha (atom CA, a carbon) and is an amino acid that the
    file declares as part of a polymer, or is held to such a residue by a peptide bond.

    Parameters
    ----------
    x : path, bytes, open file, gemmi.Structure, Biotite AtomArray or AtomArrayStack, tuple, or Chain
        Files are PDB, mmCIF or mmJSON, each also gzipped, told by their content. A tuple is
        (coordinates (L, 3), sequence) or (coordinates, sequence, residue_index).
    model : int
        Position of the model, from 1.
    altloc : str
        Which conformer of a disordered residue, or of a site with several residue types: "highest"
        (the one with the highest summed occupancy, the first in the file if equal), "first", or a
        letter (that conformer where it exists, else the highest).
    min_residues : int
        Chains with fewer residues are skipped; does not apply to a tuple or a Chain.
    name : str, optional
        Name of the result; by default the file's, or the entry's.

    Returns
    -------
    StructureRead

    Raises
    ------
    StructureError
        If the structure cannot be read, or coordinates are not finite.
    """
    if isinstance(x, Chain):
        return StructureRead([x if name is None else replace(x, name=name)], [])
    if isinstance(x, tuple):
        return StructureRead([_chain_of_arrays(x, name or "array")], [])
    if altloc not in ("highest", "first") and not (isinstance(altloc, str) and len(altloc) == 1):
        raise StructureError(f"altloc={altloc!r}: pass 'highest', 'first' or one letter")
    if isinstance(model, bool) or not isinstance(model, (int, np.integer)):
        raise StructureError(f"model={model!r}: pass the position of the model, from 1")
    if all(hasattr(x, a) for a in ("coord", "chain_id", "res_id", "res_name", "atom_name")):
        name = name or "structure"
        return _chains_of_table(table_of_biotite(x, model, name), name, name, (), altloc, min_residues)
    structure, name, where, notes = _open(x, name)
    read = _chains_of_table(table_of_gemmi(structure, model, where), name, where, notes, altloc, min_residues)
    source = str(x) if isinstance(x, (str, PathLike)) else ""
    return StructureRead([replace(chain, source=source) for chain in read.chains], read.skipped)


def read_chain(x: Any, chain: str | None = None, **options: Any) -> Chain:
    """Read exactly one protein chain of a structure.

    Parameters
    ----------
    x : path, bytes, open file, gemmi.Structure, Biotite AtomArray or AtomArrayStack, tuple, or Chain
        As for `read_chains`.
    chain : str, optional
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
    read = read_chains(x, **options)
    if chain is not None and (isinstance(x, (tuple, Chain)) and not read.chains[0].chain):
        raise ChainError(f"{read.chains[0].id}: arrays have no chain names; leave chain={chain!r} out")
    listing = ", ".join(c.chain or "' '" for c in read.chains) or "none"
    where = read.chains[0].name if read.chains else read.skipped[0].source
    if chain is not None:
        wanted = chain.strip()
        for found in read.chains:
            if found.chain == wanted:
                return found
        for skipped in read.skipped:
            if skipped.chain == wanted:
                raise ChainError(
                    f"{where}: chain {chain} was skipped, it {skipped.reason}; protein chains: {listing}"
                )
        for found in read.chains:
            if found.label_chain and found.label_chain == wanted:
                return found
        raise ChainError(f"{where}: there is no chain {chain!r}; protein chains: {listing}")
    if len(read.chains) == 1:
        return read.chains[0]
    if read.chains:
        raise ChainError(f"{where}: holds {len(read.chains)} protein chains, name one of them: {listing}")
    reasons = "; ".join(f"chain {s.chain or repr(' ')}: {s.reason}" for s in read.skipped[:5])
    more = f"; and {len(read.skipped) - 5} more" if len(read.skipped) > 5 else ""
    raise StructureError(f"{where}: holds no protein chain to embed ({reasons}{more})")


def _open(x: Any, name: str | None) -> tuple[gemmi.Structure, str, str, tuple[str, ...]]:
    """Return a structure that may be changed, its name, what messages call it, and notes."""
    if isinstance(x, (str, PathLike)):
        path_name = stem(x)
        structure, notes = parse(load(x, str(x)), str(x))
        return structure, name or path_name, str(x), notes
    if isinstance(x, (bytes, bytearray, memoryview)) or callable(getattr(x, "read", None)):
        data = bytes(x) if isinstance(x, (bytearray, memoryview)) else x
        label = getattr(x, "name", None)
        where = name or (label if isinstance(label, str) else "structure")
        structure, notes = parse(load(data, where), where)
        name = name or _entry(structure)
        return structure, name, where if isinstance(label, str) else name, notes
    import gemmi

    if isinstance(x, gemmi.Structure):
        name = name or _entry(x)
        return x.clone(), name, name, ()
    raise StructureError(
        f"cannot read a structure from {type(x).__name__}; pass a path, bytes or open file ({TAKEN}), a "
        f"gemmi.Structure, a Biotite AtomArray, a tuple (coordinates, sequence[, residue_index]), or a Chain"
    )


def _entry(structure: gemmi.Structure) -> str:
    # gemmi's own container of metadata has no get()
    entry = structure.info["_entry.id"] if "_entry.id" in structure.info else structure.name  # noqa: SIM401
    return entry.strip() or "structure"


def _chains_of_table(
    table: Table, name: str, where: str, notes: tuple[str, ...], altloc: str, min_residues: int
) -> StructureRead:
    kinds = np.array([kind_of(n)[0] for n in table.name])
    ca = _pick_ca(table, altloc)
    atom_of_residue = np.full(len(table.name), -1, dtype=np.int64)
    atom_of_residue[table.residue[ca]] = ca
    has_ca = np.zeros(len(table.name), dtype=bool)
    has_ca[table.residue[np.flatnonzero(table.is_ca)]] = True
    protein, order = _protein(table, kinds, has_ca)
    lacking = (kinds == "amino") & table.declared & ~has_ca

    members: dict[str, list[int]] = {}
    for position, chain in enumerate(table.chain):
        members.setdefault(chain, []).append(position)
    read = StructureRead([], [])
    for chain, positions in members.items():
        own = np.array(positions)
        chosen = own[protein[own] & (atom_of_residue[own] >= 0)]
        chosen = chosen[np.argsort(order[chosen], kind="stable")]
        if len(chosen) < max(min_residues, 1):
            reason = _reason(table, kinds, own, len(chosen), int(lacking[own].sum()), min_residues)
            read.skipped.append(Skipped(where, chain, reason))
            continue
        left_out = own[lacking[own]]
        read.chains.append(_chain_of_rows(table, name, chosen, atom_of_residue[chosen], left_out, notes))
    return read


def _pick_ca(table: Table, altloc: str) -> NDArray[np.int64]:
    """Return the atom of one C-alpha per site, in file order."""
    ca = np.flatnonzero(table.is_ca)
    if ca.size == 0:
        return ca
    residue, letter = table.residue[ca], table.altloc[ca]
    conformer, of_atom = np.unique(table.residue * 256 + table.altloc % 256, return_inverse=True)
    summed = np.bincount(of_atom, weights=table.occupancy).astype(np.float64)
    weight = summed[np.searchsorted(conformer, residue * 256 + letter % 256)]
    # Neighbours with one number and different conformer letters are one site (microheterogeneity).
    same = residue[1:] == residue[:-1]
    likely = (letter[1:] != letter[:-1]) & (letter[1:] * letter[:-1] > 0)
    likely &= table.number[residue[1:]] == table.number[residue[:-1]]
    for i in np.flatnonzero(likely & ~same):
        a, b = residue[i], residue[i + 1]
        same[i] = table.chain[a] == table.chain[b] and table.insertion_code[a] == table.insertion_code[b]
    site = np.concatenate([[0], np.cumsum(~same)])
    if altloc == "first":
        weight = np.zeros(len(ca))
    other = letter != ord(altloc) if len(altloc) == 1 else np.zeros(len(ca), dtype=bool)
    order = np.lexsort((np.arange(len(ca)), -weight, other, site))
    picked: NDArray[np.int64] = ca[order[np.unique(site, return_index=True)[1]]]
    return picked


def _protein(
    table: Table, kinds: NDArray[np.str_], has_ca: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Tell the residues of proteins from ligands that have a C-alpha too, and put them in order."""
    size = len(table.name)
    ends: dict[bytes, NDArray[np.float64]] = {}
    for atom in (b"N", b"C"):
        rows = np.flatnonzero(table.atom == atom)[::-1]  # the first one wins
        ends[atom] = np.full((size, 3), np.nan)
        ends[atom][table.residue[rows]] = table.position[rows]
    backbone = np.isfinite(ends[b"N"]).all(axis=1) & np.isfinite(ends[b"C"]).all(axis=1)
    order = np.arange(size, dtype=np.float64)
    protein = has_ca & table.declared & ((kinds == "amino") | ((kinds == "unknown") & backbone))
    # What remains joins by a peptide bond, next to the residue that it is bonded to: some files
    # list the modified residues of a chain after its end.
    waiting = np.flatnonzero(has_ca & backbone & ~protein)
    chains = np.array(table.chain)
    joined = waiting.size > 0
    while joined:
        joined = False
        for i in waiting[~protein[waiting]]:
            others = np.flatnonzero(protein & (chains == chains[i]))
            for mine, theirs, side in ((b"C", b"N", -1), (b"N", b"C", 1)):
                with np.errstate(invalid="ignore", over="ignore"):
                    distance = np.linalg.norm(ends[theirs][others] - ends[mine][i], axis=1)
                bonded = others[distance < BOND_DISTANCE]
                if bonded.size:
                    if bonded[0] != i - side:
                        order[i] = order[bonded[0]] + side / 2
                    protein[i] = joined = True
                    break
    return protein, order


def _reason(
    table: Table, kinds: NDArray[np.str_], own: NDArray[np.int64], found: int, lacking: int, minimum: int
) -> str:
    if found:
        return f"has {_count(found, 'residue')}, fewer than min_residues={minimum}"
    if lacking:
        return f"has {_count(lacking, 'amino acid residue')}, none with a C-alpha"
    present = set(kinds[own].tolist())
    nucleic = {k for k in ("DNA", "RNA") if bool(((kinds[own] == k) & table.declared[own]).any())}
    if nucleic:
        return f"is nucleic acid ({' and '.join(sorted(nucleic))}), not protein"
    if "sugar" in present and present <= {"sugar", "water"}:
        return "is sugar, not protein"
    if present == {"water"}:
        return "holds waters only"
    return "holds ligands, ions or waters only"


def _chain_of_rows(
    table: Table,
    name: str,
    chosen: NDArray[np.int64],
    atoms: NDArray[np.int64],
    left_out: NDArray[np.int64],
    notes: tuple[str, ...],
) -> Chain:
    names = [table.name[i] for i in chosen]
    letters = [kind_of(n)[1] if kind_of(n)[1] != "X" else kind_of(table.parents.get(n, n))[1] for n in names]
    unknown = [i for i, letter in zip(chosen, letters, strict=True) if letter == "X"]
    if left_out.size:
        missing = _count(left_out.size, "residue")
        notes = (*notes, f"{missing} without C-alpha left out: {_some(table, left_out)}")
    if unknown:
        notes = (*notes, f"{_count(len(unknown), 'residue')} of unknown type, X: {_some(table, unknown)}")
    coords = np.ascontiguousarray(table.position[atoms])
    numbers = table.number[chosen]
    with np.errstate(invalid="ignore", over="ignore"):
        index = index_with_gaps(coords, numbers)
    return Chain(
        name=name,
        chain=table.chain[chosen[0]],
        label_chain=table.label_chain[chosen[0]],
        ca_coords=coords,
        sequence="".join(letters),
        residue_index=index,
        auth_seq=numbers.astype(np.int32),
        insertion_code=np.array([table.insertion_code[i] for i in chosen], dtype=np.str_),
        label_seq=np.array([-1 if (n := table.label_seq[i]) is None else n for i in chosen], dtype=np.int32),
        residue_name=np.array(names, dtype=np.str_),
        notes=notes,
    )


def _chain_of_arrays(x: tuple[Any, ...], name: str) -> Chain:
    if len(x) not in (2, 3) or not isinstance(x[1], str):
        raise StructureError(f"{name}: pass a tuple (coordinates (L, 3), sequence[, residue_index])")
    try:
        coords = np.array(x[0], dtype=np.float64)
        given = np.arange(len(x[1])) if len(x) == 2 else np.asarray(x[2])
    except (TypeError, ValueError) as error:
        raise StructureError(f"{name}: coordinates and residue_index must be numbers ({error})") from error
    letters = x[1].upper()
    length = len(letters)
    if given.shape != (length,) or given.dtype.kind not in "iu":
        raise StructureError(f"{name}: residue_index must hold one integer for each of {length} residues")
    given = given.astype(np.int64)
    if (np.diff(given) < 1).any() or (length and (abs(given[[0, -1]]) > 2**31 - 2).any()):
        raise StructureError(f"{name}: residue_index must increase strictly and fit into 32 bits")
    return Chain(
        name=name,
        chain="",
        label_chain="",
        ca_coords=coords,
        sequence="".join(c if c in ALPHABET else "X" for c in letters),
        residue_index=given - given[0] if length else given,
        auth_seq=(given + 1).astype(np.int32),
        insertion_code=np.full(length, "", dtype="U1"),
        label_seq=np.full(length, -1, dtype=np.int32),
        residue_name=np.array([_three_letters(c) for c in letters], dtype="U3"),
    )


@lru_cache(maxsize=64)
def _three_letters(letter: str) -> str:
    import gemmi

    return gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or "UNK"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _some(table: Table, residues: Sequence[int] | NDArray[np.int64]) -> str:
    shown = [f"{table.name[i]} {table.number[i]}{table.insertion_code[i]}" for i in residues[:3]]
    return ", ".join(shown) + (", ..." if len(residues) > 3 else "")
