"""Alignment of superposed chains by distance: dynamic programming on anti-diagonals, in Numba.

Import this module inside the function that needs it: Numba takes a third of a second.

The cells of an anti-diagonal do not depend on each other, so that the compiler can compute eight at a time.
It does so only for loops that write one array and read few, which is why a diagonal takes four loops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._model.pooling import compiled

Singles = NDArray[np.float32]

# Of a gap that was never opened.
_NOTHING = np.float32(-1e30)


@compiled
def _paired(
    fx: Singles, fy: Singles, fz: Singles, mx: Singles, my: Singles, mz: Singles,
    corner: Singles, scale: np.float32, out: Singles,
) -> None:  # fmt: skip
    one = np.float32(1)
    for i in range(len(out)):
        x, y, z = fx[i] - mx[i], fy[i] - my[i], fz[i] - mz[i]
        out[i] = corner[i] + one / (one + (x * x + y * y + z * z) * scale)


@compiled
def _gapped(before: Singles, gap: Singles, opening: np.float32, out: Singles) -> None:
    for i in range(len(out)):
        opened, extended = before[i] - opening, gap[i]
        out[i] = opened if opened >= extended else extended


@compiled
def _largest(paired: Singles, up: Singles, left: Singles, out: Singles) -> None:
    for i in range(len(out)):
        gapped = up[i] if up[i] >= left[i] else left[i]
        out[i] = paired[i] if paired[i] >= gapped else gapped


@compiled
def fill(
    fixed_3Q: Singles, backward_3T: Singles, scale: np.float32, opening: np.float32,
    scores: Singles, gaps: Singles,
) -> None:  # fmt: skip
    """Fill the table of scores of aligning residues 0..i of one chain with 0..j of the other.

    A pair at distance d scores 1 / (1 + scale d^2), a gap costs `opening` however long it is, and gaps at the
    ends cost nothing (Zhang and Skolnick 2005, doi:10.1093/nar/gki524).

    Parameters
    ----------
    fixed_3Q, backward_3T : ndarray, float32
        C-alphas, of the second chain from its last residue to its first.
    scores : ndarray, float32, shape (Q + T + 1, Q + 1)
        Cell (i, j) is at [i + j + 2, i + 1]; the others are 0 and stay so.
    gaps : ndarray, float32, shape (5, Q + 1)
        Memory to work in.
    """
    rows, columns = fixed_3Q.shape[1], backward_3T.shape[1]
    gaps[:] = _NOTHING
    for n in range(rows + columns - 1):
        first, past = max(0, n - columns + 1), min(n, rows - 1) + 1
        a, b = columns - 1 - n + first, columns - 1 - n + past
        paired = gaps[4, first:past]
        _paired(
            fixed_3Q[0, first:past], fixed_3Q[1, first:past], fixed_3Q[2, first:past],
            backward_3T[0, a:b], backward_3T[1, a:b], backward_3T[2, a:b],
            scores[n, first:past], scale, paired,
        )  # fmt: skip
        now, then = n % 2, (n + 1) % 2
        up, left = gaps[now, first + 1 : past + 1], gaps[2 + now, first + 1 : past + 1]
        _gapped(scores[n + 1, first:past], gaps[then, first:past], opening, up)
        _gapped(scores[n + 1, first + 1 : past + 1], gaps[2 + then, first + 1 : past + 1], opening, left)
        _largest(paired, up, left, scores[n + 2, first + 1 : past + 1])


@compiled
def trace(
    fixed_3Q: Singles, backward_3T: Singles, scale: np.float32, opening: np.float32,
    scores: Singles, pairs_P2: NDArray[np.int64],
) -> int:  # fmt: skip
    """Write the aligned positions of the best alignment in `scores`, increasing, and return their number."""
    rows, columns = fixed_3Q.shape[1], backward_3T.shape[1]
    i, j = rows - 1, columns - 1
    for k in range(rows):
        if scores[k + columns + 1, k + 1] > scores[i + j + 2, i + 1]:
            i, j = k, columns - 1
    for k in range(columns):
        if scores[rows + k + 1, rows] > scores[i + j + 2, i + 1]:
            i, j = rows - 1, k
    count = 0
    while i >= 0 and j >= 0:
        n = i + j
        squared = np.float32(0)
        for axis in range(3):
            squared += (fixed_3Q[axis, i] - backward_3T[axis, columns - 1 - j]) ** 2
        paired = scores[n, i] + np.float32(1) / (np.float32(1) + squared * scale)
        here = scores[n + 2, i + 1]
        if here - paired <= 1e-5 * (1 + here):  # compilers round sums of products in two ways
            pairs_P2[count, 0], pairs_P2[count, 1] = i, j
            count += 1
            i -= 1
            j -= 1
            continue
        best, up, left = _NOTHING, 0, 0
        for k in range(1, i + 1):
            if scores[n - k + 2, i - k + 1] - opening > best:
                best, up, left = scores[n - k + 2, i - k + 1] - opening, k, 0
        for k in range(1, j + 1):
            if scores[n - k + 2, i + 1] - opening > best:
                best, up, left = scores[n - k + 2, i + 1] - opening, 0, k
        if up + left == 0:
            break
        i -= up
        j -= left
    for k in range(count // 2):
        for side in range(2):
            first, last = pairs_P2[k, side], pairs_P2[count - 1 - k, side]
            pairs_P2[k, side], pairs_P2[count - 1 - k, side] = last, first
    return count
