"""The vectors of contract 2: residue and protein embeddings of a network with a single representation.

Shapes: B batch, L length, H state, M width of the four means of the last map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.network.config import ConfigError
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.protein import DISTANCES, PARTS, ordered_parts, protein_features
from protemb_train.network.single import MEANS, States, four_means
from protemb_train.network.surroundings import SURROUNDINGS

STATE, STRUCTURE, AROUND = "state", "structure", "surroundings"
CONTENTS = (STATE, *MEANS, AROUND)
"""Default contents of a residue embedding, in order."""


class ChainVectors(nn.Module):
    """Residue and protein embedding from the states of a network and the means of its last map.

    Parameters
    ----------
    channels, hidden : int
        C of the map and H of the states.
    contents : sequence of str
        Contents of a residue embedding, in order: "state" (the single representation), "structure" (the state
        without residue types), the means of `MEANS`, and "surroundings" (`surroundings.surroundings`).
    matrix : Tensor, float32, shape (5 H + 55, P), optional
        Linear map of `protein_features`. Without one the protein vector is the layer-normalised mean of the
        structure states.
    bias : Tensor, float32, shape (P,), optional
        Added after the map.

    Raises
    ------
    ConfigError
        If a content is unknown or repeated, or the map has another shape.
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
        known = (STATE, STRUCTURE, *MEANS, AROUND)
        if not contents or len(set(contents)) < len(contents) or not set(contents) <= set(known):
            raise ConfigError(f"a residue embedding consists of different ones of {', '.join(known)}")
        wanted = PARTS * hidden + DISTANCES
        if matrix is not None and (matrix.dim() != 2 or matrix.shape[0] != wanted):
            raise ConfigError(
                f"the linear map of the protein vector has shape {tuple(matrix.shape)}; this network needs "
                f"({wanted}, any width)"
            )
        if bias is not None and (matrix is None or bias.shape != matrix.shape[1:]):
            raise ConfigError(
                f"the bias of the protein vector has shape {tuple(bias.shape)}, unlike the linear map"
            )
        self.channels, self.hidden, self.contents = channels, hidden, tuple(contents)
        self.register_buffer("matrix", matrix)
        self.register_buffer("bias", bias)

    @property
    def residue_width(self) -> int:
        """Width of a residue embedding."""
        width = {STATE: self.hidden, STRUCTURE: self.hidden, AROUND: SURROUNDINGS}
        return sum(width.get(name, self.channels) for name in self.contents)

    @property
    def protein_width(self) -> int:
        """Width of a protein vector."""
        return self.hidden if self.matrix is None else self.matrix.shape[1]

    def residue(self, states: States, means_BLM: Tensor, around_BLS: Tensor) -> Tensor:
        """Return the residue embedding, shape (B, L, residue_width), from `four_means` and `surroundings`."""
        c = self.channels
        found = {name: means_BLM[:, :, k * c : (k + 1) * c] for k, name in enumerate(MEANS)}
        found |= {STATE: states.state, STRUCTURE: states.structure, AROUND: around_BLS}
        return torch.cat([found[name] for name in self.contents], dim=-1)

    def protein(self, structure_BLH: Tensor, coords_BL3: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Return the protein vector, shape (B, protein_width), of length 1: dot products are cosines.

        `lengths_B` is for padded chains, as in `ordered_parts`.
        """
        if self.matrix is not None:
            vector = protein_features(structure_BLH, coords_BL3, lengths_B) @ self.matrix
            if self.bias is not None:
                vector = vector + self.bias
        elif lengths_B is None:
            vector = F.layer_norm(structure_BLH.mean(dim=1), (self.hidden,))
        else:
            whole = ordered_parts(structure_BLH.shape[1], 1, structure_BLH.device, lengths_B)
            vector = F.layer_norm((whole @ structure_BLH)[:, 0], (self.hidden,))
        return vector / vector.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()


def residue_vectors(
    network: ScoreNetwork, pair_BCLL: Tensor, states: States, coords_BL3: Tensor, index_BL: Tensor
) -> Tensor:
    """Return the residue vectors of a network with states, as its exported model gives them by default.

    Parameters
    ----------
    network : ScoreNetwork
        Network with states.
    pair_BCLL, states
        As `ScoreNetwork.embed_all` returned them.
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    index_BL : Tensor, int64, shape (B, L)
        Residue indices.

    Returns
    -------
    Tensor, float32, shape (B, L, E)
    """
    vectors = ChainVectors(network.config.channels, network.config.single_channels)
    around_BLS = network.surroundings(coords_BL3, index_BL)
    return vectors.residue(states, four_means(pair_BCLL, coords_BL3), around_BLS)
