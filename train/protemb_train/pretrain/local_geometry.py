"""Classes of the local geometry of a chain, which the state of each residue is trained to predict.

The quantities are those of which P-SEA assigns helices and strands (Labesse 1997,
doi:10.1093/bioinformatics/13.3.291): distances between C-alphas that are two, three and four residues apart,
and the dihedral angle of four successive C-alphas. Each is divided into classes of equal width, so that a
linear function of the state can tell a range of values. They are computed from clean coordinates, while
the network reads noisy ones.

Shapes: B batch, L length, Q quantities.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLASSES = 16
UNDEFINED = -100  # ignored by the cross entropy of PyTorch
NEAR = 4
"""Largest offset of the first residue of a quantity before residue i; its last residue is as far after it."""
DISTANCES = ((2, 4.5, 7.5), (3, 4.0, 11.5), (4, 4.0, 14.5))
"""Separations, and the range in angstrom that the classes divide; others belong to the nearest class."""
QUANTITIES = sum(2 * NEAR - span + 1 for span in (2, 3, 4, 3))


def local_geometry(coords_BL3: Tensor, index_BL: Tensor) -> Tensor:
    """Return the class of each quantity of the nine residues around each residue.

    Parameters
    ----------
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    index_BL : Tensor, int64, shape (B, L)
        Residue indices.

    Returns
    -------
    Tensor, int64, shape (B, L, Q)
        0 to `CLASSES` - 1; `UNDEFINED` beyond the ends of the chain and across missing residues.
    """
    found = []
    for span, low, high in DISTANCES:
        apart = (coords_BL3[:, span:] - coords_BL3[:, :-span]).norm(dim=2)
        found += _around((apart - low) / (high - low), index_BL, span)
    found += _around(_dihedral(coords_BL3) / (2 * math.pi) + 0.5, index_BL, 3)
    return torch.stack(found, dim=2)


def _dihedral(coords_BL3: Tensor) -> Tensor:
    """Return the dihedral angle of each four successive residues, from -pi to pi, shape (B, L - 3)."""
    step = coords_BL3[:, 1:] - coords_BL3[:, :-1]
    first, middle, last = step[:, :-2], step[:, 1:-1], step[:, 2:]
    left, right = torch.linalg.cross(first, middle), torch.linalg.cross(middle, last)
    sine = (torch.linalg.cross(left, right) * middle).sum(dim=2) / middle.norm(dim=2).clamp(min=1e-6)
    return torch.atan2(sine, (left * right).sum(dim=2))


def _around(value_BW: Tensor, index_BL: Tensor, span: int) -> list[Tensor]:
    """Return the classes of a quantity of residues j to j + span, for each j within `NEAR` of residue i."""
    batch, length = index_BL.shape
    padded = index_BL.new_full((batch, length + 2 * NEAR), UNDEFINED)
    if length > span:
        whole = index_BL[:, span:] - index_BL[:, :-span] == span
        classes = (value_BW * CLASSES).long().clamp(0, CLASSES - 1)
        padded[:, NEAR : NEAR + length - span] = torch.where(whole, classes, UNDEFINED)
    return [padded[:, first : first + length] for first in range(2 * NEAR - span + 1)]
