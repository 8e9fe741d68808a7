"""Alignment of two chains by the similarity of their residues, by dynamic programming in Numba.

Import this module inside the function that needs it: Numba takes a third of a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._model.pooling import compiled

# How a cell's score came about; the last two bits say whether a gap was opened there.
_STOP, _PAIR, _UP, _LEFT = 0, 1, 2, 3
_UP_OPENED, _LEFT_OPENED = 4, 8


@compiled
def _fill(
    similarity_QT: NDArray[np.float32], opening: float, extension: float, steps_QT: NDArray[np.uint8]
) -> tuple[np.floating, int, int]:
    rows, columns = similarity_QT.shape
    nothing = np.float32(-1e30)
    above = np.zeros(columns + 1, dtype=np.float32)  # best score that ends in the row above
    up = np.full(columns + 1, nothing, dtype=np.float32)  # of those, with a gap in the target
    best, best_i, best_j = np.float32(0.0), -1, -1
    for i in range(rows):
        corner, here, left = np.float32(0.0), np.float32(0.0), nothing
        for j in range(columns):
            step = 0
            opened, extended = above[j + 1] - opening, up[j + 1] - extension
            if opened >= extended:
                up[j + 1] = opened
                step |= _UP_OPENED
            else:
                up[j + 1] = extended
            opened, extended = here - opening, left - extension
            if opened >= extended:
                left = opened
                step |= _LEFT_OPENED
            else:
                left = extended
            score, kind = corner + similarity_QT[i, j], _PAIR
            if up[j + 1] > score:
                score, kind = up[j + 1], _UP
            if left > score:
                score, kind = left, _LEFT
            if score <= 0:
                score, kind = np.float32(0.0), _STOP
            corner = above[j + 1]
            here = score
            above[j + 1] = score
            steps_QT[i, j] = step | kind
            if score > best:
                best, best_i, best_j = score, i, j
    return best, best_i, best_j


@compiled
def _trace(steps_QT: NDArray[np.uint8], i: int, j: int, pairs_P2: NDArray[np.int64]) -> int:
    count, state = 0, _STOP  # inside a gap `state` is its direction
    while i >= 0 and j >= 0:
        step = steps_QT[i, j]
        kind = state if state != _STOP else step & 3
        if kind == _STOP:
            break
        if kind == _PAIR:
            pairs_P2[count, 0], pairs_P2[count, 1] = i, j
            count += 1
            i -= 1
            j -= 1
        elif kind == _UP:
            state = _STOP if step & _UP_OPENED else _UP
            i -= 1
        else:
            state = _STOP if step & _LEFT_OPENED else _LEFT
            j -= 1
    return count


def align(
    similarity_QT: NDArray[np.float32], opening: float, extension: float
) -> tuple[float, NDArray[np.int64]]:
    """Return the best local alignment of two chains (Smith and Waterman 1981, Gotoh 1982).

    Parameters
    ----------
    similarity_QT : ndarray, float32, shape (Q, T)
        Of each residue of the query with each of the target; negative for residues that are unlike.
    opening, extension : float
        What the first residue of a gap costs, and each further one.

    Returns
    -------
    float
        Its score, 0 if nothing is alike.
    ndarray, int64, shape (P, 2)
        Positions of aligned residues in the query and in the target, increasing.
    """
    steps_QT = np.empty(similarity_QT.shape, dtype=np.uint8)
    score, i, j = _fill(np.ascontiguousarray(similarity_QT, dtype=np.float32), opening, extension, steps_QT)
    pairs_P2 = np.empty((min(similarity_QT.shape), 2), dtype=np.int64)
    count = _trace(steps_QT, i, j, pairs_P2)
    return float(score), pairs_P2[:count][::-1]
