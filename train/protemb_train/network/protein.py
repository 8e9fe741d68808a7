"""Ordered features of a whole chain, from which a linear map computes the protein vector.

A mean over all residues loses their order. Here the chain is divided into parts of equal length, which are
described in order.

Shapes: B batch, L length, H of the structure state.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from protemb_train.network.features import centred

PARTS = 5
"""Number of ordered parts of the chain over which the state is averaged."""
SEGMENTS = 10
DISTANCES = SEGMENTS * (SEGMENTS - 1) // 2 + SEGMENTS
"""Number of distances between the centroids of ten ordered segments, and of their radii of gyration."""

# Mean and standard deviation of log(1 + distance in angstrom) over 600 chains of the corpus, rounded.
_APART, _APART_SPREAD = 2.9, 0.5
_RADIUS, _RADIUS_SPREAD = 2.2, 0.4


def ordered_parts(
    length: int, parts: int, device: torch.device | None = None, lengths_B: Tensor | None = None
) -> Tensor:
    """Return the weight of each residue in the mean of each ordered part, shape (parts, L).

    In a chain of L residues a residue covers 1 / L of the length, and a part 1 / parts; the weight is
    proportional to their overlap. Residues inside a part have equal weights, one on a border contributes to
    both parts, and no part is empty, even in short chains.

    Parameters
    ----------
    length : int
        L.
    parts : int
        Number of parts.
    device : torch.device, optional
        Device of the result.
    lengths_B : Tensor, int64, shape (B,), optional
        Number of residues of each chain, if chains are padded to L residues.

    Returns
    -------
    Tensor, float32, shape (parts, L), or (B, parts, L) with `lengths_B`
        Each row sums to 1. Residues of the padding have weight 0.

    Examples
    --------
    >>> ordered_parts(3, 2)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]])
    """
    # In units of 1 / (L parts), integers in float32: a residue has width `parts`, and a part L.
    residue = torch.arange(length, device=device).to(torch.float32)[None, :] * parts
    whole = length if lengths_B is None else lengths_B.to(torch.float32)[:, None, None]
    part = torch.arange(parts, device=device).to(torch.float32)[:, None] * whole
    common = torch.minimum(residue + parts, part + whole) - torch.maximum(residue, part)
    return common.clamp(min=0.0) / whole


def segment_distances(coords_BL3: Tensor, lengths_B: Tensor | None = None) -> Tensor:
    """Return the shape of a chain as 55 numbers: 45 distances and ten radii of its ten ordered segments.

    First the distances between the centroids of segments i < j in the order (0, 1), (0, 2) to (8, 9), then
    the radii of gyration of segments 0 to 9; for each the logarithm of 1 + x / angstrom, shifted and scaled
    by constants to about mean 0 and standard deviation 1. They are invariant to rotation, translation and
    reflection.

    Parameters
    ----------
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    lengths_B : Tensor, int64, shape (B,), optional
        As in `ordered_parts`; coordinates of the padding must be finite.

    Returns
    -------
    Tensor, float32, shape (B, 55)
    """
    coords_BL3 = centred(coords_BL3)
    weights_SL = ordered_parts(coords_BL3.shape[1], SEGMENTS, coords_BL3.device, lengths_B)
    centroids_BS3 = weights_SL @ coords_BL3
    pairs = torch.tensor(list(combinations(range(SEGMENTS), 2)), device=coords_BL3.device)
    between = centroids_BS3.index_select(1, pairs[:, 0]) - centroids_BS3.index_select(1, pairs[:, 1])
    apart = between.square().sum(dim=-1).sqrt()
    offsets_BSL3 = coords_BL3[:, None] - centroids_BS3[:, :, None]
    radius = (offsets_BSL3.square().sum(dim=-1) * weights_SL).sum(dim=-1).sqrt()
    return torch.cat(
        [
            (torch.log(1.0 + apart) - _APART) / _APART_SPREAD,
            (torch.log(1.0 + radius) - _RADIUS) / _RADIUS_SPREAD,
        ],
        dim=-1,
    )


def protein_features(structure_BLH: Tensor, coords_BL3: Tensor, lengths_B: Tensor | None = None) -> Tensor:
    """Return the features from which a linear map computes the protein vector, shape (B, 5 H + 55).

    The means of the structure state over five ordered parts of the chain, part after part, and
    `segment_distances`. Neither depends on residue types.

    Parameters
    ----------
    structure_BLH : Tensor, float32, shape (B, L, H)
        `States.structure`, or vectors of another encoder.
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    lengths_B : Tensor, int64, shape (B,), optional
        As in `segment_distances`.

    Examples
    --------
    >>> import torch
    >>> protein_features(torch.zeros(2, 40, 128), torch.randn(2, 40, 3)).shape
    torch.Size([2, 695])
    """
    weights_PL = ordered_parts(structure_BLH.shape[1], PARTS, structure_BLH.device, lengths_B)
    means_BF = (weights_PL @ structure_BLH).flatten(1)
    return torch.cat([means_BF, segment_distances(coords_BL3, lengths_B)], dim=-1)
