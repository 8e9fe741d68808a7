"""Geometry of a residue and of its surroundings in plain numbers, beside what the network has learnt.

States and means of the map lose some of it: a linear predictor of half-sphere exposure is worse on a trained
network than on random weights.

Shapes: B batch, L length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protemb_train.network.features import BaseFeatures, squared_between
from protemb_train.network.neighbours import BURIAL, near_and_count

SURROUNDINGS = BaseFeatures.geometry_channels + 2 * len(BURIAL)
"""Number of channels of `surroundings`."""


def surroundings(features: BaseFeatures, coords_BL3: Tensor, index_BL: Tensor) -> Tensor:
    """Return geometry and neighbour counts of each residue, invariant to rigid motions.

    First `BaseFeatures.geometry`; then for each scale s of `BURIAL` the soft count of neighbours, the sum of
    exp(-(distance / s)^2) over all others, and the same count on the side of the side chain, as in
    half-sphere exposure (Hamelryck 2005). Counts are divided by usual ones, minus 1.

    Parameters
    ----------
    features : BaseFeatures
        Computes angles and local frames.
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        Centred C-alpha coordinates in angstrom.
    index_BL : Tensor, int64, shape (B, L)
        Residue indices. Where a neighbour along the chain is missing, the side chain has no side, and the
        second count is half of the first.

    Returns
    -------
    Tensor, float32, shape (B, L, 11)
    """
    squared_BLL = squared_between(coords_BL3, coords_BL3)
    # The normal of a frame points to the centre of the chain's curvature, away from the side chain.
    outwards_BL3 = -features.frames(coords_BL3, index_BL)[:, :, 1]
    own_BL1 = (outwards_BL3 * coords_BL3).sum(dim=2, keepdim=True)
    side_BLL = torch.sigmoid(outwards_BL3 @ coords_BL3.transpose(1, 2) - own_BL1)  # over 1 angstrom
    counts = []
    for scale, usual in BURIAL:
        near_BLL, count_BL = near_and_count(squared_BLL, scale, usual)
        # The residue itself is on both sides by half.
        counts += [count_BL, ((near_BLL * side_BLL).sum(dim=2) - 0.5) / (usual / 2) - 1]
    return torch.cat([features.geometry(coords_BL3, index_BL), torch.stack(counts, dim=2)], dim=2)
