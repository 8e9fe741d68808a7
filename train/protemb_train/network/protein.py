"""Features of a whole chain, in its order: what the protein vector is a linear map of.

A mean over all residues forgets where in the chain each of them is. These features keep it: the chain is
divided into parts of equal length, and the parts are described in order.

Shapes: B batch, L length, C channels, P parts, H of the structure state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PARTS = 5
"""Parts of the chain that the state is averaged in."""
SEGMENTS = 10
"""Segments of the chain whose centroids and radii describe its course."""
SHAPE = SEGMENTS * (SEGMENTS + 1) // 2
"""Numbers that describe the course: distances of all pairs of segments, and the radius of each."""


def part_weights(length_of: Tensor, parts: int) -> Tensor:
    """Return the weights of the residues in the mean of each part of the chain.

    Residue i of L belongs to part floor(parts * i / L). A chain with fewer residues than parts leaves some
    parts without one; such a part takes the next residue, so that every part has a mean.

    Parameters
    ----------
    length_of : Tensor, shape (B, L, ...)
        Any tensor of the chains; only L and the device are used.
    parts : int
        P.

    Returns
    -------
    Tensor, float32, shape (P, L)
        Rows sum to 1.

    Examples
    --------
    >>> import torch
    >>> part_weights(torch.zeros(1, 3, 3), 2)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 1.0000]])
    """
    length = length_of.shape[1]
    residue_L = torch.arange(length, device=length_of.device)
    part_P = torch.arange(parts, device=length_of.device)
    first_P = ((part_P * length + parts - 1) // parts).clamp(max=length - 1)
    belongs_PL = ((parts * residue_L) // length)[None, :] == part_P[:, None]
    member_PL = (belongs_PL | (residue_L[None, :] == first_P[:, None])).to(torch.float32)
    return member_PL / member_PL.sum(dim=1, keepdim=True)


def part_means(x_BLC: Tensor, parts: int) -> Tensor:
    """Return the mean of each part of the chain, in order, shape (B, P, C)."""
    return part_weights(x_BLC, parts) @ x_BLC


def chain_shape(coords_BL3: Tensor) -> Tensor:
    """Return the course of chains through space, coarsely: shape (B, 55), without unit.

    The chain is divided into ten segments. The features are log(1 + d) of the 45 distances d between
    their centroids and of their ten radii of gyration, both in angstrom. They do not change when the chain
    is turned or moved, and they are the same for its mirror image.

    Parameters
    ----------
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom; near the origin, so that float32 is fine enough.

    Returns
    -------
    Tensor, float32, shape (B, 55)
        Distances of the pairs (0, 1), (0, 2), ..., (8, 9), then radii.
    """
    weights_SL = part_weights(coords_BL3, SEGMENTS)
    centroid_BS3 = weights_SL @ coords_BL3
    first, second = torch.triu_indices(SEGMENTS, SEGMENTS, offset=1, device=coords_BL3.device)
    apart = centroid_BS3.index_select(1, first) - centroid_BS3.index_select(1, second)
    distance = apart.square().sum(dim=-1).sqrt()
    from_centroid_BSL = (coords_BL3[:, None] - centroid_BS3[:, :, None]).square().sum(dim=-1)
    radius = (from_centroid_BSL * weights_SL).sum(dim=-1).sqrt()
    return torch.log1p(torch.cat([distance, radius], dim=1))


class ProteinFeatures(nn.Module):
    """Five ordered means of the structure state beside the course of the chain; without weights.

    The protein vector is a linear map of these features (`protemb-train fit-map`), which also
    standardises them. Residue types do not enter.

    Examples
    --------
    >>> import torch
    >>> ProteinFeatures()(torch.zeros(2, 40, 128), torch.randn(2, 40, 3)).shape
    torch.Size([2, 695])
    """

    @staticmethod
    def width(hidden: int) -> int:
        """Return the number of features, 5 H + 55."""
        return PARTS * hidden + SHAPE

    def forward(self, structure_BLH: Tensor, coords_BL3: Tensor) -> Tensor:
        """Return the features of chains.

        Parameters
        ----------
        structure_BLH : Tensor, float32, shape (B, L, H)
            State of residues before types are known (`States.structure`).
        coords_BL3 : Tensor, float32, shape (B, L, 3)
            C-alpha coordinates in angstrom, centred (`features.centred`).

        Returns
        -------
        Tensor, float32, shape (B, 5 H + 55)
            Part means of the state, part after part; then `chain_shape`.
        """
        means_BPH = part_means(structure_BLH, PARTS)
        return torch.cat([means_BPH.flatten(1), chain_shape(coords_BL3)], dim=1)
