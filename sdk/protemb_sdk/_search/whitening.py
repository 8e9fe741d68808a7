"""Whitening: every direction made equally wide, so that a cosine is not all about the few that are widest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """A shift and a product that whiten.

    Parameters
    ----------
    mean : ndarray, float32, shape (D,)
        What is taken off.
    matrix : ndarray, float32, shape (D, D)
        What the rest is multiplied by.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def __call__(self, x_ND: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return vectors whitened, float32, in the shape they came in."""
        return np.asarray((x_ND.astype(np.float32) - self.mean) @ self.matrix)


def fit_whitening(x_ND: NDArray[np.floating]) -> Whitening:
    """Return the whitening of a sample: the inverse square root of its covariance, shrunk.

    The covariance is shrunk towards a multiple of the identity by the share of Ledoit and Wolf (2004,
    doi:10.1016/S0047-259X(03)00096-4), so that a few samples of many dimensions do as well.

    Parameters
    ----------
    x_ND : ndarray, shape (N, D)
        The sample, N at least 1.

    Returns
    -------
    Whitening
        That of a sample without spread only shifts.
    """
    count, width = x_ND.shape
    mean = x_ND.mean(axis=0, dtype=np.float64)
    centred = x_ND.astype(np.float64) - mean
    covariance = centred.T @ centred / count
    scale = np.trace(covariance) / width
    if not scale > 0:
        return Whitening(mean.astype(np.float32), np.eye(width, dtype=np.float32))
    apart = ((covariance - scale * np.eye(width)) ** 2).sum()
    noise = ((centred**2).sum(axis=1) ** 2).sum() / count**2 - (covariance**2).sum() / count
    share = min(max(noise, 0.0), apart) / apart if apart > 0 else 1.0
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * scale * np.eye(width))
    floor = 1e-9 * values.max()  # a dimension that never changes
    matrix = vectors / np.sqrt(np.maximum(values, floor)) @ vectors.T
    return Whitening(mean.astype(np.float32), matrix.astype(np.float32))


def unit(x_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of length 1; those of length 0 stay so."""
    length = np.linalg.norm(x_ND, axis=-1, keepdims=True)
    return np.asarray(x_ND / np.where(length > 0, length, 1))
