"""TM-score of two chains whose residues are aligned, by superposing them from many starts at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
"""How often each start is superposed anew on the pairs that came near."""


def tm_distance(length: int) -> float:
    """Return d0 in angstrom (Zhang and Skolnick 2004, doi:10.1002/prot.20264, eq. 2)."""
    return max(0.5, 1.24 * (length - 15) ** (1 / 3) - 1.8) if length > 15 else 0.5


def tm_scores(
    query: NDArray[np.floating],
    targets: Sequence[NDArray[np.floating]],
    pairs: Sequence[NDArray[np.int64]],
    length: int | None = None,
) -> NDArray[np.float64]:
    """Return the TM-score of each target on the query, for given pairs of residues (eq. 1 there).

    The largest over superpositions that start from all pairs, halves and quarters of them, and are refined on
    the pairs that come within reach: a lower bound, as in the TM-score program.

    Parameters
    ----------
    query : ndarray, shape (Q, 3)
        C-alphas in angstrom.
    targets : sequence of ndarray, shape (T, 3)
        C-alphas of each target.
    pairs : sequence of ndarray, shape (P, 2)
        Aligned positions in the query and in the target.
    length : int, optional
        What the score is normalised by; the query's length by default.

    Returns
    -------
    ndarray, float64, shape (targets,)
        0 where fewer than three residues are aligned.
    """
    norm = length or len(query)
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
    best = np.zeros(len(targets))
    if not starts:
        return best
    widest = max(len(weight) for *_, weight in starts)
    fixed_SP3, moved_SP3 = np.zeros((2, len(starts), widest, 3))
    weight_SP, there_SP = np.zeros((2, len(starts), widest))
    for row, (_, fixed, moved, weight) in enumerate(starts):
        fixed_SP3[row, : len(fixed)], moved_SP3[row, : len(moved)] = fixed, moved
        weight_SP[row, : len(weight)], there_SP[row, : len(weight)] = weight, 1
    numbers = np.array([number for number, *_ in starts])
    for turn in range(ROUNDS):
        distance_SP = _distances(fixed_SP3, moved_SP3, weight_SP)
        terms_SP = there_SP / (1 + (distance_SP / reach) ** 2)
        np.maximum.at(best, numbers, terms_SP.sum(axis=1) / norm)
        near = max(reach, 4.5) + (3.0 if turn == 0 else 1.0)
        weight_SP = there_SP * (distance_SP <= near)
        few = weight_SP.sum(axis=1) < 3
        weight_SP[few] = there_SP[few]
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


def _distances(
    fixed_SP3: NDArray[np.float64], moved_SP3: NDArray[np.float64], weight_SP: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Superpose by least squares (Kabsch 1976) on weighted pairs, and return the distance of each pair."""
    weight_SP1 = weight_SP[:, :, None]
    total = weight_SP1.sum(axis=1, keepdims=True)
    fixed_SP3 = fixed_SP3 - (weight_SP1 * fixed_SP3).sum(axis=1, keepdims=True) / total
    moved_SP3 = moved_SP3 - (weight_SP1 * moved_SP3).sum(axis=1, keepdims=True) / total
    u, _, v = np.linalg.svd(np.einsum("spi,spj->sij", weight_SP1 * moved_SP3, fixed_SP3, optimize=True))
    u[:, :, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(v))[:, None]  # no mirror image
    difference = moved_SP3 @ (u @ v) - fixed_SP3
    return np.asarray(np.sqrt((difference**2).sum(axis=2)))
