"""TM-scores of chains whose residues are aligned, by superposing them from many starts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.superposition import superpose, tm_distance

ROUNDS = 8
"""How often each start is superposed anew on the pairs that came near."""
REFINEMENTS = 4
"""How often superposed chains are aligned anew, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Superposed:
    """The best superposition of a target on the query, of those that were tried.

    Parameters
    ----------
    score : float
        TM-score of the pairs; 0 where fewer than three are aligned.
    rotation : ndarray, float64, shape (3, 3)
    shift : ndarray, float64, shape (3,)
        The target lies at ``target @ rotation + shift``.
    """

    score: float
    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]


def tm_scores(
    query: NDArray[np.floating],
    targets: Sequence[NDArray[np.floating]],
    pairs: Sequence[NDArray[np.int64]],
) -> list[Superposed]:
    """Superpose targets on a query by given pairs of residues, so that the TM-score is largest (eq. 1 there).

    From starts of all pairs, halves and quarters of them, each refined on the pairs that come within reach: a
    lower bound, as in the TM-score program.

    Parameters
    ----------
    query : ndarray, shape (Q, 3)
        C-alphas in angstrom; its length normalises.
    targets : sequence of ndarray, shape (T, 3)
        C-alphas of each target.
    pairs : sequence of ndarray, shape (P, 2)
        Aligned positions in the query and in the target.
    """
    norm = len(query)
    reach = tm_distance(norm)
    starts: list[tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = []
    for number, (target, aligned) in enumerate(zip(targets, pairs, strict=True)):
        if len(aligned) < 3:
            continue
        fixed, moved = query[aligned[:, 0]].astype(np.float64), target[aligned[:, 1]].astype(np.float64)
        for first, past in _windows(len(aligned)):
            weight = np.zeros(len(aligned))
            weight[first:past] = 1
            starts.append((number, fixed, moved, weight))
    best = [Superposed(0.0, np.eye(3), np.zeros(3)) for _ in targets]
    if not starts:
        return best
    widest = max(len(weight) for *_, weight in starts)
    fixed_SP3, moved_SP3 = np.zeros((2, len(starts), widest, 3))
    weight_SP, there_SP = np.zeros((2, len(starts), widest))
    for row, (_, fixed, moved, weight) in enumerate(starts):
        fixed_SP3[row, : len(fixed)], moved_SP3[row, : len(moved)] = fixed, moved
        weight_SP[row, : len(weight)], there_SP[row, : len(weight)] = weight, 1
    for turn in range(ROUNDS):
        rotation_S33, shift_S3 = superpose(fixed_SP3, moved_SP3, weight_SP)
        distance_SP = np.linalg.norm(moved_SP3 @ rotation_S33 + shift_S3[:, None] - fixed_SP3, axis=2)
        score_S = (there_SP / (1 + (distance_SP / reach) ** 2)).sum(axis=1) / norm
        for row, (number, *_) in enumerate(starts):
            if score_S[row] > best[number].score:
                best[number] = Superposed(float(score_S[row]), rotation_S33[row], shift_S3[row])
        near = max(reach, 4.5) + (3.0 if turn == 0 else 1.0)
        weight_SP = there_SP * (distance_SP <= near)
        few = weight_SP.sum(axis=1) < 3
        weight_SP[few] = there_SP[few]
    return best


def refined_tm_scores(
    query: NDArray[np.floating],
    targets: Sequence[NDArray[np.floating]],
    pairs: Sequence[NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Return TM-scores after aligning superposed chains anew by distance, some times, as TM-align does.

    Zhang and Skolnick 2005, doi:10.1093/nar/gki524: dynamic programming on 1 / (1 + (d / d0)^2), gaps 0.6 to
    open and nothing to extend. Arguments as in `tm_scores`.

    Returns
    -------
    ndarray, float64, shape (targets,)
    """
    from protemb_sdk._search.align import align

    found = tm_scores(query, targets, pairs)
    best = np.array([one.score for one in found])
    going = [n for n, one in enumerate(found) if one.score > 0]
    reach = tm_distance(len(query))
    for _ in range(REFINEMENTS):
        again = []
        for n in going:
            placed = targets[n] @ found[n].rotation + found[n].shift
            squared_QT = ((query[:, None] - placed) ** 2).sum(axis=2)
            again.append(align((1 / (1 + squared_QT / reach**2)).astype(np.float32), 0.6, 0.0)[1])
        for n, one in zip(going, tm_scores(query, [targets[n] for n in going], again), strict=True):
            found[n] = one
        going = [n for n in going if found[n].score > best[n] + 1e-4]
        best = np.maximum(best, [one.score for one in found])
    return best


def _windows(count: int) -> list[tuple[int, int]]:
    found = [(0, count)]
    for parts in (2, 4):
        size = max(count // parts, 4)
        if size < count:
            found += [
                (k * (count - size) // parts, k * (count - size) // parts + size) for k in range(parts + 1)
            ]
    return found
