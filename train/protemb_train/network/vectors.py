"""The vectors of contract 2: residue and protein embedding of a network with a single representation.

Training and export run these modules, so that a linear map is applied to the features that it was trained on.
Shapes: B batch, L length, H state, M width of the four means of the last map.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.network.features import centred
from protemb_train.network.presets import ConfigError
from protemb_train.network.single import MEANS, States

STATE, STRUCTURE = "state", "structure"
CONTENTS = (STATE, *MEANS)
"""What a residue embedding holds by default, in this order."""

PARTS = 5
"""Ordered parts of the chain whose mean states a protein vector is made from."""

SEGMENTS = 10
DISTANCES = SEGMENTS * (SEGMENTS - 1) // 2 + SEGMENTS
"""Distances between the centroids of ten ordered segments, and the ten radii of gyration."""

# Mean and standard deviation of log(1 + distance in angstrom) over 600 chains of the corpus, rounded.
_APART, _APART_SPREAD = 2.9, 0.5
_RADIUS, _RADIUS_SPREAD = 2.2, 0.4


def ordered_parts(length: Tensor | int, parts: int, device: torch.device | None = None) -> Tensor:
    """Return the weight of each residue in the mean of each ordered part, shape (parts, L).

    A residue of a chain of L takes 1 / L of its length, and a part takes 1 / parts; a residue counts in a part
    by what the two have in common. Residues inside a part have equal weights, one on a border counts in both,
    and no part is empty, however short the chain.

    Parameters
    ----------
    length : int
        L.
    parts : int
        How many.
    device : torch.device, optional
        Of the result.

    Returns
    -------
    Tensor, float32, shape (parts, L)
        Each row sums to 1.

    Examples
    --------
    >>> ordered_parts(3, 2)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]])
    """
    # In units of 1 / (L parts), which float32 counts exactly: a residue is `parts` wide, and a part L.
    residue = torch.arange(length, device=device).to(torch.float32)[None, :] * parts  # type: ignore[arg-type]
    part = torch.arange(parts, device=device).to(torch.float32)[:, None] * length
    common = torch.minimum(residue + parts, part + length) - torch.maximum(residue, part)
    return common.clamp(min=0.0) / length


def segment_distances(coords_BL3: Tensor) -> Tensor:
    """Return the shape of a chain as 55 numbers: 45 distances and ten radii of its ten ordered segments.

    First the distances between the centroids of segments i < j in the order (0, 1), (0, 2) to (8, 9), then the
    radii of gyration of segments 0 to 9; of each the logarithm of 1 + x / angstrom, shifted and scaled by
    constants so that chains have mean 0 and standard deviation 1, about.

    Parameters
    ----------
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.

    Returns
    -------
    Tensor, float32, shape (B, 55)
    """
    coords_BL3 = centred(coords_BL3)
    weights_SL = ordered_parts(coords_BL3.shape[1], SEGMENTS, coords_BL3.device)
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


def protein_features(structure_BLH: Tensor, coords_BL3: Tensor) -> Tensor:
    """Return what a linear map makes the protein vector from, shape (B, 5 H + 55).

    The means of the state before types are known over five ordered parts of the chain, part after part, and
    `segment_distances`. Neither depends on residue types.

    Parameters
    ----------
    structure_BLH : Tensor, float32, shape (B, L, H)
        `States.structure`.
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    """
    weights_PL = ordered_parts(structure_BLH.shape[1], PARTS, structure_BLH.device)
    means_BF = (weights_PL @ structure_BLH).flatten(1)
    return torch.cat([means_BF, segment_distances(coords_BL3)], dim=-1)


class ChainVectors(nn.Module):
    """Residue and protein embedding from the states of a network and the means of its last map.

    Parameters
    ----------
    channels, hidden : int
        C of the map and H of the states.
    contents : sequence of str
        What a residue embedding is made of, in this order: "state" (the single representation), "structure"
        (the state before types are known), and the means of `MEANS`.
    matrix : Tensor, float32, shape (5 H + 55, P), optional
        Linear map of `protein_features`. Without one the protein vector is the layer-normalised mean of the
        structure states.
    bias : Tensor, float32, shape (P,), optional
        Added after it.

    Raises
    ------
    ConfigError
        If the contents are none of these, or the map has another shape.
    """

    matrix: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        channels: int,
        hidden: int,
        contents: Sequence[str] = CONTENTS,
        matrix: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        known = (STATE, STRUCTURE, *MEANS)
        if not contents or len(set(contents)) < len(contents) or not set(contents) <= set(known):
            raise ConfigError(f"a residue embedding is made of different ones of {', '.join(known)}")
        wanted = PARTS * hidden + DISTANCES
        if matrix is not None and (matrix.dim() != 2 or matrix.shape[0] != wanted):
            raise ConfigError(
                f"the linear map of the protein vector has shape {tuple(matrix.shape)}; this network needs "
                f"({wanted}, any width)"
            )
        if bias is not None and (matrix is None or bias.shape != matrix.shape[1:]):
            raise ConfigError(
                f"the bias of the protein vector has shape {tuple(bias.shape)}, which is not the linear map's"
            )
        self.channels, self.hidden, self.contents = channels, hidden, tuple(contents)
        self.register_buffer("matrix", matrix)
        self.register_buffer("bias", bias)

    @property
    def residue_width(self) -> int:
        """Width of a residue embedding."""
        return sum(self.channels if name in MEANS else self.hidden for name in self.contents)

    @property
    def protein_width(self) -> int:
        """Width of a protein vector."""
        return self.hidden if self.matrix is None else self.matrix.shape[1]

    def residue(self, states: States, means_BLM: Tensor) -> Tensor:
        """Return the residue embedding, shape (B, L, residue_width), `means_BLM` being `four_means`."""
        c = self.channels
        found = {name: means_BLM[:, :, k * c : (k + 1) * c] for k, name in enumerate(MEANS)}
        found |= {STATE: states.state, STRUCTURE: states.structure}
        return torch.cat([found[name] for name in self.contents], dim=-1)

    def protein(self, structure_BLH: Tensor, coords_BL3: Tensor) -> Tensor:
        """Return the protein vector, shape (B, protein_width), of length 1: dot products are cosines."""
        if self.matrix is None:
            vector = F.layer_norm(structure_BLH.mean(dim=1), (self.hidden,))
        else:
            vector = protein_features(structure_BLH, coords_BL3) @ self.matrix
            if self.bias is not None:
                vector = vector + self.bias
        return vector / vector.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()
