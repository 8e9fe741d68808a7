"""The score network, in two families with a common structure: a stem, blocks, an output layer.

`paper` is the published network. `base` is designed for export (`blocks`) and has states of residues beside
the map (`single`).

Shapes: B batch, L length, R computed rows of the map, C channels, K conditions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.network.blocks import Affine, BaseBlock, PaperBlock
from protemb_train.network.config import NetworkConfig
from protemb_train.network.features import (
    BaseFeatures,
    centred,
    one_hot,
    squared_between,
)
from protemb_train.network.loss import coordinate_gradient, distance_gradient
from protemb_train.network.neighbours import Neighbours, find_neighbours
from protemb_train.network.noise import geometric_levels
from protemb_train.network.single import SingleRepresentation, States, four_means
from protemb_train.network.stems import BaseStem, PaperStem
from protemb_train.network.surroundings import surroundings

BASE_CONDITIONS = 8  # soft bins of log sigma: similar noise levels share parameters


def states_of_messages(
    features: BaseFeatures,
    single: SingleRepresentation,
    coords_BL3: Tensor,
    types_BLT: Tensor,
    index_BL: Tensor,
) -> States:
    """Return the states of residues computed by messages alone.

    Parameters
    ----------
    features : BaseFeatures
        Computes the geometry of residues.
    single : SingleRepresentation
        With messages.
    coords_BL3 : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    types_BLT : Tensor, float32, shape (B, L, 21)
        Residue types as one-hot.
    index_BL : Tensor, int64, shape (B, L)
        Residue indices.
    """
    coords_BL3 = centred(coords_BL3)
    neighbours = find_neighbours(features, coords_BL3, index_BL, single.nearest)
    structure = single.first(features.geometry(coords_BL3, index_BL), neighbours)
    state: Tensor = single.norm_out(single.with_types(structure, types_BLT, neighbours))
    return States(structure, state)


class ScoreNetwork(nn.Module):
    """h_theta of eq. 3 and the embedding in front of its output layer.

    Parameters
    ----------
    config : NetworkConfig
        Family, widths, dilations and noise levels.
    """

    levels_K: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.autocast_blocks = False  # a training option, not part of the network
        levels = geometric_levels(config.noise_levels, config.sigma_max, config.sigma_min)
        self.register_buffer("levels_K", levels, persistent=False)
        paper = config.family == "paper"
        conditions = config.noise_levels if paper else BASE_CONDITIONS
        channels, block = config.channels, PaperBlock if paper else BaseBlock
        self.stem = (
            PaperStem(channels)
            if paper
            else BaseStem(channels, conditions, config.radial_bins, types=not config.exchanges)
        )
        self.blocks = nn.ModuleList(
            block(channels, config.bottleneck, d, conditions) for d in config.dilations
        )
        self.single = (
            SingleRepresentation(
                channels,
                config.single_channels,
                len(config.exchanges),
                BaseFeatures.geometry_channels,
                BaseFeatures.residue_types,
                config.messages or (),
                config.neighbours,
            )
            if config.exchanges
            else None
        )
        self.norm_out = Affine(channels, conditions, normalise=True) if paper else None
        kernel = 3 if paper else 1
        self.conv_out = nn.Conv2d(channels, 1, kernel, padding=kernel // 2)
        # Training starts at the zero predictor, with a loss of 3L.
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @property
    def radius(self) -> int:
        """Receptive field: residues on either side that an entry of the pair embedding depends on."""
        stem = 1 if self.config.family == "paper" else 0
        return stem + sum(self.config.dilations)

    @property
    def multiplications(self) -> int:
        """Multiplications of all convolutions per residue pair."""
        return sum(conv.weight.numel() for conv in self.modules() if isinstance(conv, nn.Conv2d))

    def condition(self, sigma_B: Tensor) -> Tensor:
        """Return the weights that select gains and biases, shape (B, K).

        `paper`: one-hot of the nearest trained level. `base`: soft bins of log sigma, which sum to 1.
        """
        log_sigma = sigma_B.log()[:, None]
        if self.config.family == "paper":
            nearest = (log_sigma - self.levels_K.log()).abs().argmin(dim=1)
            return (nearest[:, None] == torch.arange(len(self.levels_K), device=sigma_B.device)).to(
                torch.float32
            )
        low, high = math.log(self.config.sigma_min), math.log(self.config.sigma_max)
        centres = torch.linspace(low, high, BASE_CONDITIONS, device=sigma_B.device)
        spacing = (high - low) / (BASE_CONDITIONS - 1)
        return torch.softmax(((log_sigma - centres) / spacing).square() * -0.5, dim=1)

    def embed(
        self,
        coords_BL3: Tensor,
        type_BL: Tensor,
        index_BL: Tensor,
        sigma_B: Tensor,
        rows_R: Tensor | None = None,
    ) -> Tensor:
        """Return the pair embedding: the last feature map before the output layer.

        Parameters
        ----------
        coords_BL3 : Tensor, float32, shape (B, L, 3)
            C-alpha coordinates in angstrom; all chains of a batch have the same length.
        type_BL, index_BL : Tensor, int64, shape (B, L)
            Residue types (indices in `ALPHABET`) and residue indices.
        sigma_B : Tensor, float32, shape (B,)
            Noise levels in angstrom.
        rows_R : Tensor, int64, shape (R,), optional
            Consecutive rows to compute, all by default. Rows closer than `radius` to either end of
            `rows_R` are wrong unless it is an end of the chain.

        Returns
        -------
        Tensor, float32, shape (B, C, R, L)
        """
        if self.single is not None:
            return self.embed_all(coords_BL3, type_BL, index_BL, sigma_B)[0]
        if rows_R is None:
            rows_R = torch.arange(coords_BL3.shape[1], device=coords_BL3.device)
        condition = self.condition(sigma_B)
        x = self.stem(centred(coords_BL3), type_BL, index_BL, sigma_B, condition, rows_R)
        x = self._through(x, condition, 0, len(self.blocks))
        return x if self.norm_out is None else F.elu(self.norm_out(x, condition))

    def embed_all(
        self, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor, sigma_B: Tensor
    ) -> tuple[Tensor, States]:
        """Return the pair embedding and the states of residues; parameters are those of `embed`.

        Returns
        -------
        tuple of Tensor, float32, shape (B, C, L, L), and States
        """
        assert self.single is not None and self.config.exchanges is not None
        condition = self.condition(sigma_B)
        neighbours = self.neighbours(coords_BL3, index_BL)
        x, structure_BLH = self._structure(coords_BL3, type_BL, index_BL, sigma_B, condition, neighbours)
        rows_R = torch.arange(coords_BL3.shape[1], device=coords_BL3.device)
        types_BLT = one_hot(type_BL, BaseFeatures.residue_types)
        state = self.single.with_types(structure_BLH, types_BLT, neighbours)
        x = self.single.writes[-1](x, state, rows_R)
        x = self._through(x, condition, self.config.exchanges[-1], len(self.blocks))
        return x, States(structure_BLH, self.single.last(four_means(x, coords_BL3), state))

    def structure_state(self, coords_BL3: Tensor, index_BL: Tensor, sigma_B: Tensor) -> Tensor:
        """Return the state of residues without residue types, shape (B, L, H); faster than `embed_all`."""
        unused = torch.zeros_like(index_BL)
        condition = self.condition(sigma_B)
        neighbours = self.neighbours(coords_BL3, index_BL)
        return self._structure(coords_BL3, unused, index_BL, sigma_B, condition, neighbours)[1]

    def neighbours(self, coords_BL3: Tensor, index_BL: Tensor) -> Neighbours | None:
        """Return the neighbours for message passing; None for a network without messages."""
        if self.single is None or not self.config.messages:
            return None
        assert isinstance(self.stem, BaseStem)  # guaranteed by the configuration
        return find_neighbours(self.stem.features, centred(coords_BL3), index_BL, self.single.nearest)

    def surroundings(self, coords_BL3: Tensor, index_BL: Tensor) -> Tensor:
        """Return `surroundings.surroundings` of a network with states, shape (B, L, 11)."""
        assert isinstance(self.stem, BaseStem)  # guaranteed by the configuration
        return surroundings(self.stem.features, centred(coords_BL3), index_BL)

    def states_without_map(self, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor) -> States:
        """Return the states computed by messages alone, without a pair map.

        Parameters are those of `embed`.
        """
        assert self.single is not None and isinstance(self.stem, BaseStem)
        types = one_hot(type_BL, BaseFeatures.residue_types)
        return states_of_messages(self.stem.features, self.single, coords_BL3, types, index_BL)

    def _structure(
        self,
        coords_BL3: Tensor,
        type_BL: Tensor,
        index_BL: Tensor,
        sigma_B: Tensor,
        condition: Tensor,
        neighbours: Neighbours | None,
    ) -> tuple[Tensor, Tensor]:
        """Return map and state at the last exchange, before residue types are added."""
        assert self.single is not None and self.config.exchanges is not None
        assert isinstance(self.stem, BaseStem)
        coords_BL3 = centred(coords_BL3)
        rows_R = torch.arange(coords_BL3.shape[1], device=coords_BL3.device)
        geometry = self.stem.features.geometry(coords_BL3, index_BL)
        x = self.stem(coords_BL3, type_BL, index_BL, sigma_B, condition, rows_R)
        state = None if neighbours is None else self.single.first(geometry, neighbours)
        done = 0
        for k, until in enumerate(self.config.exchanges):
            if k:
                assert state is not None  # computed at the previous exchange
                x = self.single.writes[k - 1](x, state, rows_R)
            x = self._through(x, condition, done, until)
            state, done = self.single.structure(k, four_means(x, coords_BL3), state, geometry), until
        assert state is not None  # there is an exchange
        return x, state

    def _through(self, x: Tensor, condition: Tensor, first: int, behind: int) -> Tensor:
        """Return the map after the blocks `first` to `behind` - 1."""
        # Features, means and eq. 3-4 stay in float32: bfloat16 has steps of 0.25 angstrom at 60 angstrom.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast_blocks):
            for block in self.blocks[first:behind]:
                x = block(x, condition)
        return x.float()

    def forward(self, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor, sigma_B: Tensor) -> Tensor:
        """Return the estimated gradient of log p on the coordinates (eq. 3-4).

        Parameters are those of `embed`.

        Returns
        -------
        Tensor, float32, shape (B, L, 3)
            In 1/angstrom.
        """
        return self.gradient(self.embed(coords_BL3, type_BL, index_BL, sigma_B), coords_BL3, sigma_B)

    def gradient(self, pair_BCLL: Tensor, coords_BL3: Tensor, sigma_B: Tensor) -> Tensor:
        """Return the estimated gradient of log p (eq. 3-4) from the pair embedding of `embed`."""
        coords_BL3 = centred(coords_BL3)
        output_BLL = self.conv_out(pair_BCLL)[:, 0]
        distance_BLL = squared_between(coords_BL3, coords_BL3).sqrt()
        h_BLL = distance_gradient(output_BLL, distance_BLL, sigma_B, self.config.reach)
        return coordinate_gradient(h_BLL, coords_BL3)
