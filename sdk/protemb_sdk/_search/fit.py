"""Least-squares superposition of aligned residues, and the one with the largest TM-score, in Numba.

Import this module inside the function that needs it: Numba takes a third of a second.

Arrays are float64. `fixed_3P` and `moved_3P` hold aligned C-alphas; a placement is a rotation and a shift,
shape (3, 4), and takes moved points x to ``placement[:, :3] @ x + placement[:, 3]``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._model.pooling import compiled

Floats = NDArray[np.float64]

ROUNDS = 20
"""How often a start is superposed anew on the pairs that came near, at most."""
NEAREST, FARTHEST = 4.5, 8.0
"""Limits in angstrom of the distance within which pairs are superposed on again."""


@compiled
def copy_rows(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy the rows of a matrix to the first rows of another one.

    Numba takes seconds to compile an assignment of arrays, for the text of its error message.
    """
    for a in range(source.shape[0]):
        for b in range(source.shape[1]):
            target[a, b] = source[a, b]


@compiled
def _sums(
    ax: Floats, ay: Floats, az: Floats, bx: Floats, by: Floats, bz: Floats, use: Floats, out: Floats
) -> None:
    """Write weight, sums of fixed and moved coordinates, and of moved x fixed products, 16 numbers."""
    total = 0.0
    sax, say, saz, sbx, sby, sbz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    xx, xy, xz, yx, yy, yz, zx, zy, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(len(use)):
        w = use[p]
        total += w
        sax += w * ax[p]
        say += w * ay[p]
        saz += w * az[p]
        wx, wy, wz = w * bx[p], w * by[p], w * bz[p]
        sbx += wx
        sby += wy
        sbz += wz
        xx += wx * ax[p]
        xy += wx * ay[p]
        xz += wx * az[p]
        yx += wy * ax[p]
        yy += wy * ay[p]
        yz += wy * az[p]
        zx += wz * ax[p]
        zy += wz * ay[p]
        zz += wz * az[p]
    out[0], out[1], out[2], out[3], out[4], out[5], out[6] = total, sax, say, saz, sbx, sby, sbz
    out[7], out[8], out[9], out[10], out[11], out[12] = xx, xy, xz, yx, yy, yz
    out[13], out[14], out[15] = zx, zy, zz


@compiled
def _largest_axis(matrix_44: Floats, axes_44: Floats) -> int:
    """Return which column of `axes_44` is the eigenvector of the largest eigenvalue (Jacobi's method)."""
    axes_44[:] = 0.0
    for k in range(4):
        axes_44[k, k] = 1.0
    size = 0.0
    for p in range(4):
        for q in range(4):
            size += matrix_44[p, q] ** 2
    for _ in range(20):
        rest = 0.0
        for p in range(3):
            for q in range(p + 1, 4):
                rest += matrix_44[p, q] ** 2
        if rest <= 1e-26 * size:
            break
        for p in range(3):
            for q in range(p + 1, 4):
                if matrix_44[p, q] == 0.0:
                    continue
                theta = (matrix_44[q, q] - matrix_44[p, p]) / (2.0 * matrix_44[p, q])
                t = 1.0 / (abs(theta) + math.sqrt(theta * theta + 1.0))
                if theta < 0.0:
                    t = -t
                c = 1.0 / math.sqrt(t * t + 1.0)
                s = t * c
                for k in range(4):
                    one, two = matrix_44[k, p], matrix_44[k, q]
                    matrix_44[k, p], matrix_44[k, q] = c * one - s * two, s * one + c * two
                for k in range(4):
                    one, two = matrix_44[p, k], matrix_44[q, k]
                    matrix_44[p, k], matrix_44[q, k] = c * one - s * two, s * one + c * two
                    one, two = axes_44[k, p], axes_44[k, q]
                    axes_44[k, p], axes_44[k, q] = c * one - s * two, s * one + c * two
    best = 0
    for k in range(1, 4):
        if matrix_44[k, k] > matrix_44[best, best]:
            best = k
    return best


@compiled
def place(fixed_3P: Floats, moved_3P: Floats, use_P: Floats, placement_34: Floats, work_100: Floats) -> None:
    """Superpose moved points on fixed ones by weighted least squares (Horn 1987, doi:10.1364/JOSAA.4.000629).

    A quaternion is never a reflection, so that a mirror image stays one.
    """
    sums = work_100[:16]
    _sums(fixed_3P[0], fixed_3P[1], fixed_3P[2], moved_3P[0], moved_3P[1], moved_3P[2], use_P, sums)
    total = sums[0]
    cross = work_100[16:25].reshape(3, 3)
    for a in range(3):
        for b in range(3):
            cross[a, b] = sums[7 + 3 * a + b] - sums[4 + a] * sums[1 + b] / total
    m = work_100[25:41].reshape(4, 4)
    m[0, 0] = cross[0, 0] + cross[1, 1] + cross[2, 2]
    m[1, 1] = cross[0, 0] - cross[1, 1] - cross[2, 2]
    m[2, 2] = -cross[0, 0] + cross[1, 1] - cross[2, 2]
    m[3, 3] = -cross[0, 0] - cross[1, 1] + cross[2, 2]
    m[0, 1] = m[1, 0] = cross[1, 2] - cross[2, 1]
    m[0, 2] = m[2, 0] = cross[2, 0] - cross[0, 2]
    m[0, 3] = m[3, 0] = cross[0, 1] - cross[1, 0]
    m[1, 2] = m[2, 1] = cross[0, 1] + cross[1, 0]
    m[1, 3] = m[3, 1] = cross[2, 0] + cross[0, 2]
    m[2, 3] = m[3, 2] = cross[1, 2] + cross[2, 1]
    axes = work_100[41:57].reshape(4, 4)
    k = _largest_axis(m, axes)
    w, x, y, z = axes[0, k], axes[1, k], axes[2, k], axes[3, k]
    placement_34[0, 0], placement_34[0, 1] = w * w + x * x - y * y - z * z, 2 * (x * y - w * z)
    placement_34[0, 2], placement_34[1, 0] = 2 * (x * z + w * y), 2 * (x * y + w * z)
    placement_34[1, 1], placement_34[1, 2] = w * w - x * x + y * y - z * z, 2 * (y * z - w * x)
    placement_34[2, 0], placement_34[2, 1] = 2 * (x * z - w * y), 2 * (y * z + w * x)
    placement_34[2, 2] = w * w - x * x - y * y + z * z
    for a in range(3):
        shift = sums[1 + a]
        for b in range(3):
            shift -= placement_34[a, b] * sums[4 + b]
        placement_34[a, 3] = shift / total


@compiled
def _squared(
    ax: Floats, ay: Floats, az: Floats, bx: Floats, by: Floats, bz: Floats, p_34: Floats, out_P: Floats
) -> None:
    """Write the squared distance of each pair."""
    a, b, c, d = p_34[0, 0], p_34[0, 1], p_34[0, 2], p_34[0, 3]
    e, f, g, h = p_34[1, 0], p_34[1, 1], p_34[1, 2], p_34[1, 3]
    i, j, k, l = p_34[2, 0], p_34[2, 1], p_34[2, 2], p_34[2, 3]  # noqa: E741
    for p in range(len(out_P)):
        x = a * bx[p] + b * by[p] + c * bz[p] + d - ax[p]
        y = e * bx[p] + f * by[p] + g * bz[p] + h - ay[p]
        z = i * bx[p] + j * by[p] + k * bz[p] + l - az[p]
        out_P[p] = x * x + y * y + z * z


@compiled
def _score(squared_P: Floats, scale: float) -> float:
    total = 0.0
    for p in range(len(squared_P)):
        total += 1.0 / (1.0 + squared_P[p] * scale)
    return total


@compiled
def _third(squared_P: Floats) -> float:
    """Return the third smallest squared distance, or the largest of fewer."""
    one, two, three = np.inf, np.inf, np.inf
    for p in range(len(squared_P)):
        x = squared_P[p]
        if x < one:
            one, two, three = x, one, two
        elif x < two:
            two, three = x, two
        elif x < three:
            three = x
    return three


@compiled
def squared_distances(fixed_3P: Floats, moved_3P: Floats, placement_34: Floats, out_P: Floats) -> None:
    """Write the squared distance of each pair once the moved points are placed."""
    _squared(
        fixed_3P[0], fixed_3P[1], fixed_3P[2], moved_3P[0], moved_3P[1], moved_3P[2], placement_34, out_P
    )


@compiled
def best_placement(
    fixed_3P: Floats, moved_3P: Floats, reach: float, parts: int, placement_34: Floats, work_100: Floats
) -> float:
    """Find the placement of aligned pairs with the largest TM-score, and return it times the length.

    Starts are all pairs, and windows of a half, a quarter and so on down to 1 / `parts` of them. Each start
    is superposed anew on the pairs that came near, until these no longer change (Zhang and Skolnick 2004,
    doi:10.1002/prot.20264).

    Parameters
    ----------
    fixed_3P, moved_3P : ndarray
        The pairs, at least one.
    reach : float
        d0 in angstrom.
    parts : int
        A power of 2.
    placement_34 : ndarray
        What is found is written here.
    work_100 : ndarray
        Memory to work in.
    """
    count = fixed_3P.shape[1]
    squared_P, use_P = np.empty(count), np.empty(count)
    best, scale = -1.0, 1.0 / (reach * reach)
    near = min(max(reach, NEAREST), FARTHEST)
    trial = work_100[60:72].reshape(3, 4)
    share = 1
    while share <= parts:
        size = max(count // share, min(count, 4))
        for k in range(2 * share - 1):
            first = k * (count - size) // max(2 * share - 2, 1)
            use_P[:] = 0.0
            use_P[first : first + size] = 1.0
            for turn in range(ROUNDS):
                place(fixed_3P, moved_3P, use_P, trial, work_100)
                squared_distances(fixed_3P, moved_3P, trial, squared_P)
                score = _score(squared_P, scale)
                if score > best:
                    best = score
                    copy_rows(trial, placement_34)
                limit = near - 1.0 if turn == 0 else near + 1.0
                limit = max(limit * limit, _third(squared_P))  # three pairs at least
                changed = False
                for p in range(count):
                    now = 1.0 if squared_P[p] <= limit else 0.0
                    changed = changed or now != use_P[p]
                    use_P[p] = now
                if not changed:
                    break
        share *= 2
    return best
