"""Superposition and alignment in turn until the TM-score stops growing, in Numba.

Import this module inside the function that needs it: Numba takes a third of a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._model.pooling import compiled
from protemb_sdk._search.fit import Floats, best_placement, copy_rows, squared_distances
from protemb_sdk._search.realign import Singles, fill, trace
from protemb_sdk._search.seeds import fragment_placements, moved

Pairs = NDArray[np.int64]

FRAGMENTS = 24
"""First placements by fragments."""
WIDTH = 20
"""Residues of a fragment."""
STEP, MOST = 10, 14
"""Residues from one fragment of the first chain to the next, or more for long chains: 1 / `MOST` of them."""
OTHER_STEP, OTHER_MOST = 1, 32
"""The same of the second chain. Small steps, because a shift along the chain is hard to correct later."""
SAMPLE = 3
"""Every third residue counts when the overlap of the chains is measured."""
COARSE, COARSE_FROM = 3, 60
"""First placements are compared on means of three residues, for chains from 60 residues."""
KEPT, KEPT_SHORT = 3, 8
"""Of the first placements, those that go on with all residues; more for chains below 60 residues."""
GAP = 0.6
"""What a gap costs, until the last rounds, where it costs nothing."""
SOFT = 0.8
"""Added to d0 in angstrom where chains are aligned by distance, until the last rounds."""
# Of arrays, because functions are compiled once for each literal number.
ROUNDS = np.array([2, 8])
"""Rounds of alignment and superposition, at most: of first placements, and of those that were kept."""
PARTS = np.array([[1, 2, 4, 16], [2, 8, 8, 16]])
"""Windows that superpositions start from (`best_placement`): of first placements, of those that were kept, of
given alignments, and in the end. In the second row for chains below 60 residues, whose d0 is small."""
GAIN = 2e-3
"""The share by which a round must raise the score for another one."""


@compiled
def means_of(points_3N: Floats, every: int) -> Floats:
    count = points_3N.shape[1] // every
    out = np.zeros((3, count))
    for a in range(3):
        for n in range(count):
            for k in range(every):
                out[a, n] += points_3N[a, n * every + k] / every
    return out


@compiled
def _chosen(points_3N: Floats, pairs_P2: Pairs, side: int) -> Floats:
    out = np.empty((3, len(pairs_P2)))
    for a in range(3):
        for p in range(len(pairs_P2)):
            out[a, p] = points_3N[a, pairs_P2[p, side]]
    return out


@compiled
def climb(
    fixed_3Q: Floats,
    moved_3T: Floats,
    placement_34: Floats,
    reach: float,
    soft: float,
    opening: float,
    parts: int,
    rounds: int,
    score: float,
    pairs_P2: Pairs,
    table: Singles,
    work_100: Floats,
) -> tuple[float, int]:
    """Align by distance and superpose anew while the score grows beyond `score`.

    Returns the score and the number of pairs, 0 if there was no gain. Placement and pairs are changed only by
    a gain.
    """
    rows, columns = fixed_3Q.shape[1], moved_3T.shape[1]
    scale, gap = np.float32(1 / ((reach + soft) ** 2)), np.float32(opening)
    fixed, backward = fixed_3Q.astype(np.float32), np.empty((3, columns), dtype=np.float32)
    gaps = np.empty((5, rows + 1), dtype=np.float32)
    trial = np.empty((min(rows, columns), 2), dtype=np.int64)
    place_34 = placement_34.copy()
    kept = 0
    for _ in range(rounds):
        moved(moved_3T, place_34, backward, True)
        fill(fixed, backward, scale, gap, table, gaps)
        count = trace(fixed, backward, scale, gap, table, trial)
        pairs = trial[:count]
        new = best_placement(
            _chosen(fixed_3Q, pairs, 0), _chosen(moved_3T, pairs, 1), reach, parts, place_34, work_100
        )
        if new <= score * (1 + GAIN):
            break
        score, kept = new, count
        copy_rows(pairs, pairs_P2)
        copy_rows(place_34, placement_34)
    return score, kept


@compiled
def _largest(numbers: Floats) -> int:
    found = 0
    for n in range(len(numbers)):
        if numbers[n] > numbers[found]:
            found = n
    return found


@compiled
def table_of(rows: int, columns: int) -> Singles:
    return np.zeros((rows + columns + 1, rows + 1), dtype=np.float32)


@compiled
def superpose_and_align(
    fixed_3Q: Floats, moved_3T: Floats, seeds_S2: Pairs, ends: NDArray[np.int64], reach: float,
    placement_34: Floats,
) -> tuple[Pairs, Floats]:  # fmt: skip
    """Superpose the second chain on the first, and align the two by distance.

    Parameters
    ----------
    fixed_3Q, moved_3T : ndarray
        C-alphas of both chains, centred, three and more of each.
    seeds_S2 : ndarray
        Alignments to start from, one after the other.
    ends : ndarray
        Where each of them begins, and where the last ends.
    reach : float
        d0 in angstrom.
    placement_34 : ndarray
        The placement of the second chain is written here.

    Returns
    -------
    ndarray, int64, shape (P, 2)
        Aligned positions.
    ndarray, float64, shape (P,)
        Squared distances of the pairs.
    """
    rows, columns = fixed_3Q.shape[1], moved_3T.shape[1]
    shorter, work = min(rows, columns), np.empty(100)
    short = shorter < COARSE_FROM
    parts, kept = PARTS[int(short)], KEPT_SHORT if short else KEPT
    total = FRAGMENTS + len(ends) - 1
    places, scores = np.zeros((total, 3, 4)), np.full(total, -1.0)
    fragment_placements(
        fixed_3Q,
        moved_3T,
        WIDTH,
        max(STEP, rows // MOST),
        max(OTHER_STEP, columns // OTHER_MOST),
        SAMPLE,
        np.inf,
        places[:FRAGMENTS],
        scores[:FRAGMENTS],
        work,
    )
    for n in range(len(ends) - 1):
        seed = seeds_S2[ends[n] : ends[n + 1]]
        scores[FRAGMENTS + n] = best_placement(
            _chosen(fixed_3Q, seed, 0),
            _chosen(moved_3T, seed, 1),
            reach,
            parts[2],
            places[FRAGMENTS + n],
            work,
        )

    every = 1 if short else COARSE
    few_fixed, few_moved = means_of(fixed_3Q, every), means_of(moved_3T, every)
    pairs = np.empty((kept, shorter, 2), dtype=np.int64)
    table = table_of(few_fixed.shape[1], few_moved.shape[1])
    for n in range(total):
        if scores[n] < 0:
            continue
        scores[n], _ = climb(
            few_fixed, few_moved, places[n], reach, SOFT, GAP, parts[0], ROUNDS[0], 0.0, pairs[0], table, work
        )

    table = table_of(rows, columns)
    best, best_score, count = 0, -1.0, 0
    for n in range(min(kept, total)):
        first = _largest(scores)
        if scores[first] < 0:
            break
        scores[first] = -1.0
        score, found = climb(
            fixed_3Q,
            moved_3T,
            places[first],
            reach,
            SOFT,
            GAP,
            parts[1],
            ROUNDS[1],
            0.0,
            pairs[n],
            table,
            work,
        )
        if score > best_score:
            best, best_score, count = n, score, found
            copy_rows(places[first], placement_34)
    best_score, found = climb(
        fixed_3Q,
        moved_3T,
        placement_34,
        reach,
        0.0,
        0.0,
        parts[1],
        ROUNDS[1],
        best_score,
        pairs[best],
        table,
        work,
    )
    aligned = pairs[best, : found if found > 0 else count].copy()
    one, other = _chosen(fixed_3Q, aligned, 0), _chosen(moved_3T, aligned, 1)
    best_placement(one, other, reach, parts[3], placement_34, work)
    squared = np.empty(len(aligned))
    squared_distances(one, other, placement_34, squared)
    return aligned, squared
