"""Residue embeddings: what they must look like, and their mean. No Numba: every embedding comes by here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError


def check_residue(residue_LC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return residue embeddings as an array, or raise EmbeddingError if they cannot be."""
    residue_LC = np.asarray(residue_LC)
    if residue_LC.ndim != 2 or 0 in residue_LC.shape:
        raise EmbeddingError(
            f"a residue embedding of shape (L, C), neither of them zero, is needed, not {residue_LC.shape}"
        )
    return residue_LC


def mean_over_rows(residue_LC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the protein embedding: the mean of the residue embeddings (2D average pooling of the paper).

    Parameters
    ----------
    residue_LC : ndarray, float32, shape (L, C)
        Residue embeddings of one chain.

    Returns
    -------
    ndarray, float32, shape (C,)

    Raises
    ------
    EmbeddingError
        If there are not two axes, or an axis has length zero.

    Examples
    --------
    >>> import numpy as np
    >>> from protemb_sdk import mean_over_rows
    >>> mean_over_rows(np.array([[1, 2], [3, 4]], dtype=np.float32)).tolist()
    [2.0, 3.0]
    """
    mean: NDArray[np.float64] = check_residue(residue_LC).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)
