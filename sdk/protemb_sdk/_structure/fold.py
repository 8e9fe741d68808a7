"""Helices and strands as C-alphas show them, for drawings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HELIX, STRAND, OTHER = "H", "E", "-"

# Four successive C-alphas: distance of the first to the third and to the fourth in angstrom, and their
# dihedral angle in degrees, after P-SEA (Labesse et al. 1997).
_HELIX = (5.5, 0.5), (5.3, 0.7), (50, 20)
_STRAND = (6.6, 0.7), (9.9, 1.1), (190, 55)
# C-alphas of neighbouring strands, in angstrom.
_PAIRED = 5.8
# Residues of a strand that are compared with all others at once.
_BLOCK = 512
# Residues below which a helix is most often a turn, and a strand a bend: not drawn.
_SHORTEST = {HELIX: 6, STRAND: 3}


def fold_of(ca_coords: NDArray[np.floating], gap_after: NDArray[np.bool_]) -> str:
    """Return for each residue H in a helix, E in a strand of a sheet, and - elsewhere.

    Parameters
    ----------
    ca_coords : ndarray, shape (L, 3)
        C-alphas in angstrom.
    gap_after : ndarray, bool, shape (L,)
        True where residues are missing after a residue; nothing goes on over a gap.

    Returns
    -------
    str
        Length L. Helices have at least six residues, and strands at least three.
    """
    length = len(ca_coords)
    letters = np.full(length, OTHER)
    if length < 4:
        return "".join(letters)
    coords = ca_coords.astype(np.float64)
    a, b, c, d = (coords[k : length - 3 + k] for k in range(4))
    whole = ~(gap_after[: length - 3] | gap_after[1 : length - 2] | gap_after[2 : length - 1])
    third, fourth = np.linalg.norm(c - a, axis=1), np.linalg.norm(d - a, axis=1)
    m, n = np.cross(b - a, c - b), np.cross(c - b, d - c)
    axis = (c - b) / np.maximum(np.linalg.norm(c - b, axis=1, keepdims=True), 1e-9)
    angle = np.degrees(np.arctan2((np.cross(m, n) * axis).sum(axis=1), (m * n).sum(axis=1)))

    def near(bounds: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
        """Tell which residues are the second or third of four within the bounds."""
        (x, dx), (y, dy), (z, dz) = bounds
        turn = np.abs((angle - z + 180) % 360 - 180)
        found = whole & (np.abs(third - x) < dx) & (np.abs(fourth - y) < dy) & (turn < dz)
        return np.convolve(found, [0, 1, 1, 0]) > 0

    strand = near(_STRAND)
    strand[strand] = _paired(coords[strand], np.flatnonzero(strand))
    strand |= np.convolve(strand, [1, 0, 1], "same") == 2  # every other residue may lack its neighbour
    for inside, letter in ((strand, STRAND), (near(_HELIX), HELIX)):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
        for first, end in ends.reshape(-1, 2).tolist():
            if end - first >= _SHORTEST[letter]:
                letters[first:end] = letter
    return "".join(letters)


def _paired(coords: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which residues lie beside another one that is not near it in the chain."""
    found = np.zeros(len(index), dtype=bool)
    for start in range(0, len(index), _BLOCK):
        part = slice(start, start + _BLOCK)
        close = np.linalg.norm(coords[part, None] - coords[None], axis=2) < _PAIRED
        apart = np.abs(index[part, None] - index[None]) > 3
        found[part] = (close & apart).any(axis=1)
    return found
