"""The definition of related sequences, and a global alignment of two sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_COVERAGE = 0.5
"""Share of the shorter sequence that an alignment of relatives must cover."""

LEAST_IDENTITY = 0.3
"""Minimum share of identical residues in an alignment of relatives."""

LARGEST_E_VALUE = 1e-3
"""Largest E-value of an alignment: expected number of equally good alignments by chance."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A local alignment of two sequences.

    Parameters
    ----------
    query, target : int
        Indices in the searched lists.
    identity : float
        Share of identical residues among the columns of the alignment.
    coverage : float
        Share of the shorter sequence covered by the alignment.
    e_value : float
        Expected number of equally good alignments of the query with the targets by chance.
    """

    query: int
    target: int
    identity: float
    coverage: float
    e_value: float


def related(hit: Hit, identity: float = LEAST_IDENTITY, e_value: float = LARGEST_E_VALUE) -> bool:
    """Return whether an alignment makes two sequences relatives."""
    return hit.identity >= identity and hit.coverage >= LEAST_COVERAGE and hit.e_value <= e_value


def aligned(sequence: str, template: str) -> NDArray[np.int64]:
    """Return the index in a template of each residue by global alignment (BLOSUM62, free ends), or -1.

    Returns
    -------
    ndarray, int64, shape (L,)
    """
    from biotite.sequence import ProteinSequence
    from biotite.sequence.align import SubstitutionMatrix, align_optimal

    both = [ProteinSequence(s.replace("U", "C")) for s in (sequence, template)]
    matrix = SubstitutionMatrix.std_protein_matrix()
    best = align_optimal(*both, matrix, gap_penalty=(-11, -1), terminal_penalty=False, max_number=1)[0]
    positions = np.full(len(sequence), -1, dtype=np.int64)
    there = (best.trace >= 0).all(axis=1)
    positions[best.trace[there, 0]] = best.trace[there, 1]
    return positions
