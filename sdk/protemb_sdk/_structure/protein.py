"""Which residues of a table make protein chains, and which atom stands for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError, printable
from protemb_sdk._structure.atoms import CA, C, N, Stretches, Table
from protemb_sdk._structure.chain import Chain, Skipped, index_with_gaps
from protemb_sdk._structure.constants import BREAK_DISTANCE
from protemb_sdk._structure.molecules import BOND_DISTANCE, table_of
from protemb_sdk._structure.predicted import low_residues, notes_without_plddt, too_few
from protemb_sdk._structure.residue_names import kind_of
from protemb_sdk._structure.seqres import label_numbers


@dataclass(frozen=True, slots=True)
class StructureRead:
    """What a structure holds, in file order.

    Parameters
    ----------
    chains : list of Chain
        Protein chains.
    skipped : list of Skipped
        Every other chain, with its reason.

    Examples
    --------
    >>> from protemb_sdk import read_chains
    >>> read = read_chains("1a8o.cif")
    >>> [chain.id for chain in read.chains], read.skipped
    (['1a8o_A'], [])
    """

    chains: list[Chain]
    skipped: list[Skipped]


def chains_of_stretches(
    found: Stretches,
    name: str,
    where: str,
    *,
    altloc: str = "highest",
    min_residues: int = 3,
    min_plddt: float | None = None,
    source: str = "",
) -> StructureRead:
    """Return the protein chains of what `read_stretches` read, and what was skipped."""
    if min_plddt is not None:
        found.notes += notes_without_plddt(found, min_plddt, where)
    return _chains_of_table(table_of(found), name, where, altloc, min_residues, min_plddt, source)


def _chains_of_table(
    table: Table, name: str, where: str, altloc: str, min_residues: int, min_plddt: float | None, source: str
) -> StructureRead:
    """Return the protein chains of a table, every other chain with its reason; `where` is for messages."""
    kinds = np.array([kind_of(n)[0] for n in table.name])
    ca = _pick_ca(table, altloc)
    atom_of_residue = np.full(len(table.name), -1, dtype=np.int64)
    atom_of_residue[table.residue[ca]] = ca
    has_ca = np.zeros(len(table.name), dtype=bool)
    has_ca[table.residue[table.atom == CA]] = True
    ends = {atom: _places(table, atom) for atom in (N, C)}
    protein, order = _protein(table, kinds, atom_of_residue, has_ca, ends)
    alphas = np.full((len(table.name), 3), np.nan)
    alphas[table.residue[ca]] = table.position[ca]
    backbone = ends[N], alphas, ends[C]
    unplaced = table.unplaced & ~has_ca & (kinds == "amino") & table.declared
    lacking = (kinds == "amino") & table.declared & ~has_ca & ~unplaced
    loose = (kinds == "amino") & has_ca & ~protein
    low = low_residues(table, ca, min_plddt)

    read = StructureRead([], [])
    members = np.argsort(table.molecule, kind="stable")
    borders = np.cumsum(np.bincount(table.molecule, minlength=len(table.chains)))
    for molecule, own in enumerate(np.split(members, borders[:-1])):
        chain, notes = table.chains[molecule], table.notes[molecule]
        chosen = own[protein[own] & (atom_of_residue[own] >= 0)]
        chosen = chosen[np.argsort(order[chosen], kind="stable")]
        below, chosen = chosen[low[chosen]], chosen[~low[chosen]]
        if len(chosen) < max(min_residues, 1):
            counts = len(chosen), int(lacking[own].sum()), int(unplaced[own].sum())
            kind, reason = _reason(table, kinds, own, *counts, min_residues)
            if min_plddt is not None and below.size:
                kind, reason = too_few(len(chosen), min_plddt, min_residues)
            read.skipped.append(Skipped(where, chain or " ", reason, kind=kind))
            continue
        polymer = own[protein[own] | lacking[own] | unplaced[own]]
        label_numbers(table, polymer[np.argsort(order[polymer], kind="stable")], molecule, backbone)
        said = (*notes, *_left_out(table, own[lacking[own]], own[unplaced[own]], own[loose[own]]))
        if below.size:
            verb = "is" if below.size == 1 else "are"
            said = (*said, f"{_count(below.size, 'residue')} with pLDDT below {min_plddt:g} {verb} left out")
        if not chain:
            said = (*said, *_perhaps_two(table, chosen, table.position[atom_of_residue[chosen]]))
        try:
            atoms = atom_of_residue[chosen]
            read.chains.append(_chain_of_rows(table, name, chain, chosen, atoms, said, source))
        except StructureError as error:
            # One bad chain must not take the others of its file along.
            read.skipped.append(Skipped.of(error, where, chain or " "))
    if not read.chains and read.skipped and table.about_models:
        first = read.skipped[0]  # the protein may be in what was not read
        reason = f"{first.reason}; {'; '.join(table.about_models)}"
        read.skipped[0] = replace(first, reason=reason)
    return read


def _pick_ca(table: Table, altloc: str) -> NDArray[np.int64]:
    """Return the atom of one C-alpha per site, in file order."""
    ca = np.flatnonzero(table.atom == CA)
    if ca.size == 0:
        return ca
    residue, letter = table.residue[ca], table.altloc[ca]
    weight = table.occupancy[ca]  # its own: summed over atoms, the larger side chain would win
    # Neighbours with one number and different conformer letters are one site (microheterogeneity).
    same = residue[1:] == residue[:-1]
    likely = (letter[1:] != letter[:-1]) & (letter[1:] * letter[:-1] > 0)
    likely &= table.number[residue[1:]] == table.number[residue[:-1]]
    for i in np.flatnonzero(likely & ~same):
        a, b = residue[i], residue[i + 1]
        same[i] = (
            table.molecule[a] == table.molecule[b] and table.insertion_code[a] == table.insertion_code[b]
        )
    site = np.concatenate([[0], np.cumsum(~same)])
    if altloc == "first":
        weight = np.zeros(len(ca))
    other = letter != ord(altloc) if len(altloc) == 1 else np.zeros(len(ca), dtype=bool)
    order = np.lexsort((np.arange(len(ca)), -weight, other, site))
    picked: NDArray[np.int64] = ca[order[np.unique(site, return_index=True)[1]]]
    return picked


def _places(table: Table, atom: int) -> NDArray[np.float64]:
    """Return where an atom of every residue lies, NaN where there is none; shape (residues, 3)."""
    rows = np.flatnonzero(table.atom == atom)[::-1]  # the first one wins
    found = np.full((len(table.name), 3), np.nan)
    found[table.residue[rows]] = table.position[rows]
    return found


def _protein(
    table: Table, kinds: NDArray[np.str_], atom_of_residue: NDArray[np.int64], has_ca: NDArray[np.bool_],
    ends: dict[int, NDArray[np.float64]],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:  # fmt: skip
    """Tell the residues of proteins from ligands that have a C-alpha too, and put them in order."""
    size = len(table.name)
    backbone = np.isfinite(ends[N]).all(axis=1) & np.isfinite(ends[C]).all(axis=1)
    order = np.arange(size, dtype=np.float64)
    protein = has_ca & table.declared & ((kinds == "amino") | ((kinds == "unknown") & backbone))
    # Where only C-alphas were kept, an amino acid joins by its distance to the next one.
    bare = (kinds == "amino") & (atom_of_residue >= 0) & np.isnan(ends[N]).all(axis=1) & ~protein
    for i in np.flatnonzero(bare):
        beside = [j for j in (i - 1, i + 1) if 0 <= j < size and table.molecule[j] == table.molecule[i]]
        beside = [j for j in beside if atom_of_residue[j] >= 0 and (protein[j] or bare[j])]
        with np.errstate(invalid="ignore", over="ignore"):
            steps = table.position[atom_of_residue[beside]] - table.position[atom_of_residue[i]]
            protein[i] = bool((np.linalg.norm(steps, axis=1) < BREAK_DISTANCE).any())
    # What remains joins by a peptide bond, next to the residue that it is bonded to: some files
    # list the modified residues of a chain after its end.
    waiting = np.flatnonzero(has_ca & backbone & ~protein)
    joined = waiting.size > 0
    while joined:
        joined = False
        for i in waiting[~protein[waiting]]:
            others = np.flatnonzero(protein & (table.group == table.group[i]))
            for mine, theirs, side in ((C, N, -1), (N, C, 1)):
                with np.errstate(invalid="ignore", over="ignore"):
                    distance = np.linalg.norm(ends[theirs][others] - ends[mine][i], axis=1)
                bonded = others[distance < BOND_DISTANCE]
                if bonded.size:
                    if bonded[0] != i - side:
                        order[i] = order[bonded[0]] + side / 2
                    protein[i] = joined = True
                    table.molecule[i] = table.molecule[bonded[0]]
                    break
    return protein, order


def _reason(
    table: Table, kinds: NDArray[np.str_], own: NDArray[np.int64], found: int, lacking: int,
    unplaced: int, minimum: int,
) -> tuple[str, str]:  # fmt: skip
    """Return a kind of reason, and the reason with its numbers."""
    if found:
        short = f"fewer than min_residues={minimum}"
        return f"has {short}", f"has {_count(found, 'residue')}, {short}"
    if unplaced:
        residues = _count(unplaced + lacking, "amino acid residue")
        return "has no C-alpha with a position", f"has {residues}, none with a position"
    if lacking:
        return "has no C-alpha", f"has {_count(lacking, 'amino acid residue')}, none with a C-alpha"
    present = set(kinds[own].tolist())
    nucleic = {k for k in ("DNA", "RNA") if bool(((kinds[own] == k) & table.declared[own]).any())}
    if nucleic:
        names = " and ".join(sorted(nucleic))
        return "is nucleic acid, not protein", f"is nucleic acid ({names}), not protein"
    if "sugar" in present and present <= {"sugar", "water"}:
        reason = "is sugar, not protein"
    elif present == {"water"}:
        reason = "holds waters only"
    else:
        reason = "holds ligands, ions or waters only"
    return reason, reason


def _left_out(
    table: Table, lacking: NDArray[np.int64], unplaced: NDArray[np.int64], loose: NDArray[np.int64]
) -> list[str]:
    notes = []
    if unplaced.size:
        shown = _some(table, unplaced)
        notes.append(f"{_count(unplaced.size, 'residue')} without a position left out: {shown}")
    if lacking.size:
        notes.append(f"{_count(lacking.size, 'residue')} without C-alpha left out: {_some(table, lacking)}")
    if loose.size:
        amino = _count(loose.size, "amino acid")
        notes.append(f"{amino} not bonded to the chain left out: {_some(table, loose)}")
    return notes


def _perhaps_two(table: Table, chosen: NDArray[np.int64], places: NDArray[np.float64]) -> list[str]:
    """Return a note on a chain without a name in which neighbours by number lie far apart."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.linalg.norm(np.diff(places, axis=0), axis=1) > BREAK_DISTANCE
    gaps = np.flatnonzero(apart & (np.diff(table.number[chosen]) == 1))
    if not gaps.size:
        return []
    at = _some(table, chosen[gaps[:1]])
    times = "1 time" if gaps.size == 1 else f"{gaps.size} times"
    return [
        f"the chain has no name and is broken {times} where its numbers go on (behind {at}); "
        "it may be several"
    ]


def _chain_of_rows(
    table: Table,
    name: str,
    chain: str,
    chosen: NDArray[np.int64],
    atoms: NDArray[np.int64],
    notes: tuple[str, ...],
    source: str,
) -> Chain:
    rows = chosen.tolist()
    names = [table.name[i] for i in rows]
    letter = {n: kind_of(n)[1] for n in set(names)}
    letter |= {n: kind_of(table.parents.get(n, n))[1] for n, known in letter.items() if known == "X"}
    letters = [letter[n] for n in names]
    unknown = [i for i, letter in zip(rows, letters, strict=True) if letter == "X"] if "X" in letters else []
    if unknown:
        notes = (*notes, f"{_count(len(unknown), 'residue')} of unknown type, X: {_some(table, unknown)}")
    coords = np.ascontiguousarray(table.position[atoms])
    numbers = table.number[chosen]
    with np.errstate(invalid="ignore", over="ignore"):
        index = index_with_gaps(coords, numbers)
    plddt = table.plddt[atoms]
    return Chain(
        name=name,
        chain_id=printable(chain),
        label_chain=printable(table.label_chain[rows[0]]),
        ca_coords=coords,
        sequence="".join(letters),
        residue_index=index,
        auth_seq=numbers.astype(np.int32),
        insertion_code=np.array([table.insertion_code[i] for i in rows], dtype=np.str_),
        label_seq=np.array([-1 if (n := table.label_seq[i]) is None else n for i in rows], dtype=np.int32),
        residue_name=np.array(names, dtype=np.str_),
        plddt=plddt.astype(np.float32) if np.isfinite(plddt).any() else None,
        notes=notes,
        source=source,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _some(table: Table, residues: Sequence[int] | NDArray[np.int64]) -> str:
    shown = [f"{table.name[i]} {table.number[i]}{table.insertion_code[i]}" for i in residues[:3]]
    return ", ".join(shown) + (", ..." if len(residues) > 3 else "")
