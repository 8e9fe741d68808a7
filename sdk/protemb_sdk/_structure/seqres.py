"""Numbers of residues in the full sequence, by alignment to SEQRES records of a PDB file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._structure.atoms import Table
from protemb_sdk._structure.constants import BREAK_DISTANCE
from protemb_sdk._structure.molecules import BOND_DISTANCE

Backbone = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Places of N, CA and C of every residue, NaN where there is none; each of shape (residues, 3)."""


def label_numbers(table: Table, polymer: NDArray[np.int64], molecule: int, backbone: Backbone) -> None:
    """Give the residues of a molecule numbers by the sequence that the file declares for it.

    Parameters
    ----------
    table : Table
        Its `label_seq` is changed.
    polymer : ndarray, int64
        Residues in the order of the chain, also those without a C-alpha.
    molecule : int
        Position of the molecule.
    backbone : tuple of ndarray
        As `Backbone` says.
    """
    full = table.sequences[molecule]
    if not full or not polymer.size:
        return
    numbers, codes = table.number[polymer], [table.insertion_code[i] for i in polymer]
    # Conformers of one site with several residue types are one place in the sequence.
    is_new = np.ones(len(polymer), dtype=bool)
    is_new[1:] = (np.diff(numbers) != 0) | np.array(
        [a != b for a, b in zip(codes[1:], codes, strict=False)], bool
    )
    chain = polymer[is_new]
    names = [table.name[i] for i in chain]
    places: list[int | None] = list(range(1, len(full) + 1))
    if names != full:
        places = places_in_sequence(names, full, _is_bonded(backbone, chain))
    for residue, site in zip(polymer.tolist(), (np.cumsum(is_new) - 1).tolist(), strict=True):
        table.label_seq[residue] = places[site]


def _is_bonded(backbone: Backbone, chain: NDArray[np.int64]) -> list[bool]:
    """Tell which residues are bonded to the one before."""
    n, ca, c = (places[chain] for places in backbone)
    with np.errstate(invalid="ignore", over="ignore"):
        bond = np.linalg.norm(n[1:] - c[:-1], axis=1)
        step = np.linalg.norm(np.diff(ca, axis=0), axis=1)
        bonded = np.where(np.isfinite(bond), bond < BOND_DISTANCE, step < BREAK_DISTANCE)
    return [False, *bonded.tolist()]


def places_in_sequence(
    names: Sequence[str], full: Sequence[str], is_connected: Sequence[bool]
) -> list[int | None]:
    """Return the place of each residue in the full sequence, from 1; None where it is not in there.

    Parameters
    ----------
    names : sequence of str
        Residue names in the order of the chain.
    full : sequence of str
        Residue names of the full sequence.
    is_connected : sequence of bool
        Whether a residue is bonded to the one before it, so that no missing one is expected between them.
    """
    import gemmi

    scoring = gemmi.AlignmentScoring()
    # Missing residues cost nothing at the ends and where the chain is broken.
    opening = [0, *(scoring.bad_gapo if c else scoring.good_gapo for c in is_connected[1:]), 0]
    aligned = gemmi.align_string_sequences(list(full), list(names), opening, scoring)
    found: list[int | None] = []
    place = 1
    for count, kind in _steps(aligned.cigar_str()):
        if kind == "I":
            place += count
        elif kind == "D":
            found += [None] * count
        else:
            found += range(place, place + count)  # a residue may differ from the sequence, as mutants do
            place += count
    return found


def _steps(cigar: str) -> list[tuple[int, str]]:
    steps, number = [], ""
    for letter in cigar:
        if letter.isdigit():
            number += letter
        else:
            steps.append((int(number or 1), letter))
            number = ""
    return steps
