"""The nearest residues of each residue and their geometry, for the messages of the single representation.

Features depend on distances, local frames and residue indices only, and are invariant to rigid motions. The
weight of a neighbour decreases to zero at the distance of the nearest residue that is not a neighbour, so
that it is continuous when two residues change places in the list of neighbours.

Shapes: B batch, L length, N = B L residues of all chains, K neighbours, E features of an edge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from protemb_train.network.features import BaseFeatures, decay, gaussian, squared_between

REACH = 30.0
"""Largest distance of a neighbour, angstrom."""
RADIAL, SEPARATIONS, OCTAVES = 16, 4, 6
EDGE = RADIAL + 3 + 3 + 9 + 2 * SEPARATIONS + OCTAVES
"""Features of an edge: distance; direction in the frame of either residue; relative rotation of the frames;
and separation along the chain, with sign for near residues."""
BURIAL = ((6.0, 5.3), (10.0, 19.0), (16.0, 52.0))
"""Scales in angstrom of soft neighbour counts, and their means over DeepPPISP's training chains."""


class Neighbours(NamedTuple):
    """Neighbours of each residue of a batch.

    Parameters
    ----------
    edge_LKE : Tensor, float32, shape (N, K, E)
        Features of the edges.
    neighbour_LK : Tensor, int64, shape (N, K)
        Indices of the neighbours among the residues of the batch, nearest first.
    present_LK : Tensor, float32, shape (N, K)
        Weights from 1 (distance 0) to 0 (the nearest residue that is not a neighbour, or `REACH`).
    burial_BLD : Tensor, float32, shape (B, L, 3)
        Soft neighbour counts at three scales, centred.
    """

    edge_LKE: Tensor
    neighbour_LK: Tensor
    present_LK: Tensor
    burial_BLD: Tensor


def find_neighbours(features: BaseFeatures, coords_BL3: Tensor, index_BL: Tensor, nearest: int) -> Neighbours:
    """Return the neighbours of each residue.

    Parameters
    ----------
    features : BaseFeatures
        Computes local frames.
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        Centred C-alpha coordinates in angstrom.
    index_BL : Tensor, int64, shape (B, L)
        Residue indices.
    nearest : int
        K.
    """
    batch, length = index_BL.shape
    squared_BLL = squared_between(coords_BL3, coords_BL3)
    counts = [near_and_count(squared_BLL, scale, usual)[1] for scale, usual in BURIAL]
    far = REACH**2
    residues = torch.arange(length, device=coords_BL3.device)
    squared_BLL = squared_BLL.clamp(max=far).where(residues[:, None] != residues, far)
    # A chain may have fewer residues than the number of neighbours.
    squared, place = F.pad(squared_BLL, (0, nearest + 1), value=far).topk(nearest + 1, dim=2, largest=False)
    end_BL1 = squared[:, :, nearest:].clamp(min=1.0)
    squared_BLK = squared[:, :, :nearest]
    present_BLK = (1 - squared_BLK / end_BL1).clamp(min=0.0)
    place_BLK = torch.where(present_BLK > 0, place[:, :, :nearest], 0)
    starts = torch.arange(batch, device=coords_BL3.device)[:, None, None] * length
    neighbour = (place_BLK + starts).flatten(0, 1)

    coords, index = coords_BL3.flatten(0, 1), index_BL.flatten()
    frames = features.frames(coords_BL3, index_BL).flatten(0, 1)
    apart = coords[neighbour] - coords[:, None]
    distance = squared_BLK.flatten(0, 1).clamp(min=1.0).sqrt()[..., None]
    theirs = frames[neighbour]
    seen = (apart @ frames.transpose(1, 2)) / distance
    seen_back = -(theirs * apart[:, :, None]).sum(dim=3) / distance
    turn = (theirs.flatten(1, 2) @ frames.transpose(1, 2)).reshape(-1, nearest, 9)
    gap = index[neighbour] - index[:, None]
    edge = torch.cat([_radial(distance), seen, seen_back, turn, _separation(gap)], dim=2)
    present = present_BLK.flatten(0, 1)
    return Neighbours(edge, neighbour, present, torch.stack(counts, dim=2))


def near_and_count(squared_BLL: Tensor, scale: float, usual: float) -> tuple[Tensor, Tensor]:
    """Return exp(-(distance / scale)^2) of all pairs, and its sum over other residues / usual - 1, (B, L)."""
    near_BLL = decay(squared_BLL / -(scale**2))
    # The residue itself is 1 in the sum, which is less memory than a mask.
    return near_BLL, (near_BLL.sum(dim=2) - 1) / usual - 1


def _radial(distance_LK1: Tensor) -> Tensor:
    """Return soft bins whose width grows with the distance, shape (..., RADIAL)."""
    centres = torch.linspace(math.log(3.0), math.log(40.0), RADIAL, device=distance_LK1.device)
    width = math.log(40.0 / 3.0) / (RADIAL - 1)
    return gaussian((distance_LK1.log() - centres) / (math.sqrt(2) * width))


def _separation(gap_LK: Tensor) -> Tensor:
    """Return indicators of |gap| of 1 to 4, the same with sign, and soft bins of its logarithm."""
    far = gap_LK.abs()[..., None]
    near = (far == torch.arange(1, SEPARATIONS + 1, device=gap_LK.device)).to(torch.float32)
    octave = torch.log2(far.to(torch.float32).clamp(min=1.0))
    octaves = torch.arange(3, 3 + OCTAVES, device=gap_LK.device)
    return torch.cat([near, near * gap_LK.sign()[..., None], gaussian(octave - octaves)], dim=2)
