"""Superposition by least squares, and the distance scale of the TM-score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tm_distance(length: int) -> float:
    """Return d0 in angstrom (Zhang and Skolnick 2004, doi:10.1002/prot.20264, eq. 2)."""
    return max(0.5, 1.24 * (length - 15) ** (1 / 3) - 1.8) if length > 15 else 0.5


def superpose(
    fixed_SP3: NDArray[np.float64], moved_SP3: NDArray[np.float64], weight_SP: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rotations and shifts that superpose weighted pairs by least squares (Kabsch 1976).

    Parameters
    ----------
    fixed_SP3, moved_SP3 : ndarray, float64, shape (S, P, 3) or (1, P, 3)
        Pairs of points, for each of S superpositions or the same for all.
    weight_SP : ndarray, float64, shape (S, P)
        How much each pair counts; the sum of a row is above 0.

    Returns
    -------
    rotation : ndarray, float64, shape (S, 3, 3)
    shift : ndarray, float64, shape (S, 3)
        The moved points lie at ``moved @ rotation + shift``.
    """
    weight_SP1 = weight_SP[:, :, None]
    total = weight_SP1.sum(axis=1)
    fixed_S3, moved_S3 = (
        (weight_SP1 * fixed_SP3).sum(axis=1) / total,
        (weight_SP1 * moved_SP3).sum(axis=1) / total,
    )
    across = weight_SP1 * (moved_SP3 - moved_S3[:, None])
    u, _, v = np.linalg.svd(np.einsum("spi,spj->sij", across, fixed_SP3 - fixed_S3[:, None], optimize=True))
    u[:, :, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(v))[:, None]  # no mirror image
    rotation = u @ v
    return rotation, fixed_S3 - (moved_S3[:, None] @ rotation)[:, 0]
