"""Neighbour graphs of chains, with invariant features of their geometry, from C-alpha atoms.

Shapes: L residues, K neighbours, E features of an edge, B scales of burial.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from protemb_train.network.features import gaussian
from protemb_train.network.neighbours import BURIAL

NEIGHBOURS = 20
REACH = 20.0
"""Largest distance of a neighbour, angstrom."""
CENTRES = 16  # of distances, from 3 angstrom to REACH
WIDTH = 1.5  # angstrom, of a bin of distance
SEPARATION = 5  # residues: larger separations along the chain are not distinguished
EDGE = CENTRES + 6 + 2 * SEPARATION + 1


class Graph(NamedTuple):
    """Neighbours of each residue.

    Parameters
    ----------
    edge_LKE : Tensor, float16, shape (L, K, E)
        Distance in soft bins, direction and relative rotation in the residue's local frame, separation along
        the chain; zeros where there is no neighbour.
    neighbour_LK : Tensor, int64, shape (L, K)
        Indices of the neighbours, nearest first; arbitrary where there is none.
    present_LK : Tensor, float16, shape (L, K)
        1 for neighbours, 0 for padding.
    burial_LB : Tensor, float32, shape (L, 3)
        Soft neighbour counts.
    """

    edge_LKE: Tensor
    neighbour_LK: Tensor
    present_LK: Tensor
    burial_LB: Tensor


def frames(coords_L3: Tensor) -> Tensor:
    """Return the axes of each residue from three C-alphas: bisector, normal and binormal, shape (L, 3, 3).

    Zeros where a C-alpha is missing.
    """
    place_L = torch.arange(coords_L3.shape[0])
    before_L3 = coords_L3[(place_L - 1).clamp(min=0)]
    after_L3 = coords_L3[(place_L + 1).clamp(max=coords_L3.shape[0] - 1)]
    to = F.normalize(coords_L3 - before_L3, dim=1, eps=1e-3)
    away = F.normalize(after_L3 - coords_L3, dim=1, eps=1e-3)
    bisector = F.normalize(to - away, dim=1, eps=1e-3)
    normal = F.normalize(torch.linalg.cross(to, away), dim=1, eps=1e-3)
    axes = torch.stack([bisector, normal, torch.linalg.cross(bisector, normal)], dim=1)
    return torch.where(torch.isfinite(axes), axes, 0.0)


def distances(coords_L3: Tensor) -> Tensor:
    """Return distances of all pairs, shape (L, L), from differences; products would lose precision."""
    squared = sum((x[:, None] - x[None, :]).square() for x in coords_L3.unbind(dim=1))
    return cast(Tensor, squared).sqrt()


def neighbour_graph(coords_L3: Tensor) -> Graph:
    """Return the graph of a chain; residues without coordinates (NaN) have no neighbours.

    Parameters
    ----------
    coords_L3 : Tensor, float32, shape (L, 3)
        C-alpha coordinates in angstrom, near the origin.
    """
    length = coords_L3.shape[0]
    none = 10 * REACH
    d_LL = distances(coords_L3)
    itself = torch.arange(length)[:, None] == torch.arange(length)[None, :]
    d_LL = torch.where(torch.isfinite(d_LL) & ~itself, d_LL, none)
    # A chain may have fewer residues than the number of neighbours.
    d_LK, neighbour_LK = F.pad(d_LL, (0, NEIGHBOURS), value=none).topk(NEIGHBOURS, dim=1, largest=False)
    present_LK = d_LK < REACH
    neighbour_LK = torch.where(present_LK, neighbour_LK, 0)
    axes_L33 = frames(coords_L3)
    apart_LK3 = torch.where(present_LK[..., None], coords_L3[neighbour_LK] - coords_L3[:, None], 0.0)
    direction = (axes_L33[:, None] * apart_LK3[:, :, None]).sum(dim=-1) / d_LK[..., None].clamp(min=1.0)
    turn = (axes_L33[:, None] * axes_L33[neighbour_LK]).sum(dim=-1)
    bins = gaussian((d_LK[..., None] - torch.linspace(3.0, REACH, CENTRES)) / WIDTH)
    along = (neighbour_LK - torch.arange(length)[:, None]).clamp(-SEPARATION, SEPARATION) + SEPARATION
    separation = (along[..., None] == torch.arange(2 * SEPARATION + 1)).to(torch.float32)
    edge_LKE = torch.cat([bins, direction, turn, separation], dim=-1) * present_LK[..., None]
    burial = [gaussian(d_LL / scale).sum(dim=1) / usual for scale, usual in BURIAL]
    return Graph(
        edge_LKE.to(torch.float16), neighbour_LK, present_LK.to(torch.float16), torch.stack(burial, dim=1)
    )


def no_graph(length: int) -> Graph:
    """Return a graph without neighbours."""
    return Graph(
        torch.zeros(length, 0, EDGE, dtype=torch.float16),
        torch.zeros(length, 0, dtype=torch.int64),
        torch.zeros(length, 0, dtype=torch.float16),
        torch.zeros(length, 0),
    )


def end_to_end(parts: Sequence[Tensor], lengths: Sequence[int], fill: float = 0.0) -> Tensor:
    """Concatenate per-residue tensors of several chains, each padded to a length."""
    row = parts[0].new_full((sum(lengths), *parts[0].shape[1:]), fill)
    for part, start in zip(parts, starts_of(lengths), strict=True):
        row[start : start + len(part)] = part
    return row


def starts_of(lengths: Sequence[int]) -> list[int]:
    """Return the first index of each chain in a concatenation of chains of these lengths."""
    return [0, *accumulate(lengths)][:-1]


def joined(graphs: Sequence[Graph], lengths: Sequence[int]) -> Graph:
    """Return several graphs as one, each padded to a length with residues that have no neighbours."""
    shifted = [g.neighbour_LK + start for g, start in zip(graphs, starts_of(lengths), strict=True)]
    moved = [g._replace(neighbour_LK=neighbour) for g, neighbour in zip(graphs, shifted, strict=True)]
    return Graph(*(end_to_end(parts, lengths) for parts in zip(*moved, strict=True)))
