"""First placements of two chains: fragments of one laid on fragments of the other, in Numba.

Import this module inside the function that needs it: Numba takes a third of a second.
"""

from __future__ import annotations

import math

import numpy as np

from protemb_sdk._model.pooling import compiled
from protemb_sdk._search.fit import Floats, copy_rows, place
from protemb_sdk._search.realign import Singles

OVERLAP = 6.0
"""Distance in angstrom from which residues do not overlap."""
ALIKE = 4.0
"""Placements are the same if residues lie this many angstrom apart, root mean square."""


@compiled
def moved(points_3N: Floats, placement_34: Floats, out_3N: Singles, backward: bool) -> None:
    """Write points after a placement, in their order or from the last to the first."""
    count = points_3N.shape[1]
    for a in range(3):
        for n in range(count):
            x = placement_34[a, 3]
            for b in range(3):
                x += placement_34[a, b] * points_3N[b, n]
            out_3N[a, count - 1 - n if backward else n] = x


@compiled
def _overlap(fx: Singles, fy: Singles, fz: Singles, mx: Singles, my: Singles, mz: Singles) -> float:
    one, none, inverse = np.float32(1), np.float32(0), np.float32(1 / OVERLAP**2)
    total = none
    for i in range(len(fx)):
        x, y, z = fx[i], fy[i], fz[i]
        for j in range(len(mx)):
            a, b, c = mx[j] - x, my[j] - y, mz[j] - z
            near = one - (a * a + b * b + c * c) * inverse
            total += near if near > none else none
    return float(total)


@compiled
def _rank(placement_34: Floats, score: float, spread: float, found_N34: Floats, scores_N: Floats) -> None:
    """Put a placement in its place among the best, unless one like it is there and better."""
    at = len(scores_N) - 1
    for n in range(len(scores_N)):
        if scores_N[n] < 0:
            break
        apart = 0.0
        for a in range(3):
            apart += (placement_34[a, 3] - found_N34[n, a, 3]) ** 2
            for b in range(3):
                apart += spread / 3 * (placement_34[a, b] - found_N34[n, a, b]) ** 2
        if apart < ALIKE**2:
            at = n
            break
    if score <= scores_N[at]:
        return
    while at > 0 and scores_N[at - 1] < score:
        scores_N[at] = scores_N[at - 1]
        copy_rows(found_N34[at - 1], found_N34[at])
        at -= 1
    scores_N[at] = score
    copy_rows(placement_34, found_N34[at])


@compiled
def _shapes(points_3N: Floats, width: int, step: int) -> Floats:
    """Return distances within each fragment: between its ends, and from each end to the middle."""
    count = (points_3N.shape[1] - width) // step + 1
    middle = width // 2
    out = np.zeros((3, count))
    for n in range(count):
        first = n * step
        last = first + width - 1
        for a in range(3):
            out[0, n] += (points_3N[a, first] - points_3N[a, last]) ** 2
            out[1, n] += (points_3N[a, first] - points_3N[a, first + middle]) ** 2
            out[2, n] += (points_3N[a, last] - points_3N[a, first + middle]) ** 2
        for k in range(3):
            out[k, n] = math.sqrt(out[k, n])
    return out


@compiled
def fragment_placements(
    fixed_3Q: Floats, moved_3T: Floats, long: int, step: int, other_step: int, sample: int, unlike: float,
    found_N34: Floats, scores_N: Floats, work_100: Floats,
) -> None:  # fmt: skip
    """Superpose fragments of two chains, and keep the placements in which the whole chains overlap most.

    Parameters
    ----------
    fixed_3Q, moved_3T : ndarray
        Points of the chains, such as C-alphas; the second is centred.
    long : int
        Points of a fragment.
    step, other_step : int
        Points from one fragment to the next, in the first chain and in the second.
    sample : int
        Each point of this number counts when the overlap is measured.
    unlike : float
        Fragments are not superposed if the distances within them (between the ends, and from each end to the
        middle) differ by more, root mean square. In angstrom; infinity for all fragments.
    found_N34 : ndarray
        The placements are written here, best first.
    scores_N : ndarray
        Their overlaps; -1 where there are fewer than N.
    work_100 : ndarray
        Memory to work in.
    """
    rows, columns = fixed_3Q.shape[1], moved_3T.shape[1]
    width = min(long, rows, columns)
    few_fixed = np.empty((3, (rows + sample - 1) // sample), dtype=np.float32)
    few_moved = np.empty((3, (columns + sample - 1) // sample))
    spread = 0.0
    for a in range(3):
        for n in range(few_fixed.shape[1]):
            few_fixed[a, n] = fixed_3Q[a, n * sample]
        for n in range(few_moved.shape[1]):
            few_moved[a, n] = moved_3T[a, n * sample]
        for n in range(columns):
            spread += moved_3T[a, n] ** 2 / columns
    placed = np.empty(few_moved.shape, dtype=np.float32)
    one, other, every, trial = np.empty((3, width)), np.empty((3, width)), np.ones(width), np.empty((3, 4))
    scores_N[:] = -1.0
    shape, other_shape = _shapes(fixed_3Q, width, step), _shapes(moved_3T, width, other_step)
    limit = len(shape) * unlike**2
    for i in range(0, rows - width + 1, step):
        for a in range(3):
            for n in range(width):
                one[a, n] = fixed_3Q[a, i + n]
        for j in range(0, columns - width + 1, other_step):
            apart = 0.0
            for k in range(len(shape)):
                apart += (shape[k, i // step] - other_shape[k, j // other_step]) ** 2
            if apart > limit:
                continue
            for a in range(3):
                for n in range(width):
                    other[a, n] = moved_3T[a, j + n]
            place(one, other, every, trial, work_100)
            moved(few_moved, trial, placed, False)
            score = _overlap(few_fixed[0], few_fixed[1], few_fixed[2], placed[0], placed[1], placed[2])
            if score > scores_N[-1]:
                _rank(trial, score, spread, found_N34, scores_N)
