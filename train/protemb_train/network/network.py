"""The score network, in two families with a common structure.

`paper` is the published network: pre-activation bottlenecks, ELU, conditional batch normalisation, 149
input channels. `base` is designed for export: weights are standardised instead of activations normalised
(Brock et al. 2021, arXiv:2101.08692), so that there are no batch statistics that differ between crops and
whole chains; every gain and bias follows a convolution and is folded into it; and the input is the sum of a
row term, a column term and a convolution of pair features.

Shapes: B batch, L length, R computed rows of the map, C channels, K conditions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.network.config import NetworkConfig
from protemb_train.network.features import (
    BaseFeatures,
    PaperFeatures,
    centred,
    one_hot,
    pair_differences,
)
from protemb_train.network.loss import coordinate_gradient, distance_gradient
from protemb_train.network.neighbours import Neighbours, find_neighbours
from protemb_train.network.noise import geometric_levels
from protemb_train.network.single import SingleRepresentation, States, four_means
from protemb_train.network.surroundings import surroundings

BASE_CONDITIONS = 8  # soft bins of log sigma: similar noise levels share parameters


class Affine(nn.Module):
    """Per-channel gain and bias selected by the noise level, after batch normalisation if `normalise`."""

    def __init__(self, channels: int, conditions: int, *, normalise: bool, gain: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False) if normalise else nn.Identity()
        self.gain = nn.Parameter(torch.full((conditions, channels), gain))
        self.bias = nn.Parameter(torch.zeros(conditions, channels))

    def forward(self, x_BCRL: Tensor, condition_BK: Tensor) -> Tensor:
        gain, bias = condition_BK @ self.gain, condition_BK @ self.bias
        normalised: Tensor = self.norm(x_BCRL)
        return normalised * gain[:, :, None, None] + bias[:, :, None, None]


class StandardisedConv(nn.Conv2d):
    """A convolution without bias whose weights have mean 0 and variance 1 / fan-in per output."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels_in, channels_out, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        )

    def standardised(self) -> Tensor:
        """Return the standardised weight."""
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = (self.weight - mean).square().mean(dim=(1, 2, 3), keepdim=True)
        fan_in = self.weight[0].numel()
        return (self.weight - mean) / ((variance + 1e-6) * fan_in).sqrt()

    def forward(self, input: Tensor) -> Tensor:
        return self._apply_weight(input, self.standardised(), None)

    def with_affine(self, input: Tensor, affine: Affine, condition_1K: Tensor) -> Tensor:
        """Return `affine(self(input), condition)` for a batch of one, in one pass over the map."""
        gain_C, bias_C = (condition_1K @ affine.gain)[0], (condition_1K @ affine.bias)[0]
        return self._apply_weight(input, self.standardised() * gain_C[:, None, None, None], bias_C)

    def _apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size == (1, 1):  # as a matrix product 1.5 times faster on the CPU
            return F.linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation)


class PaperBlock(nn.Module):
    """x + conv3(ELU(norm3(conv2(ELU(norm2(conv1(ELU(norm1(x)))))))))."""

    def __init__(self, channels: int, bottleneck: int, dilation: int, conditions: int) -> None:
        super().__init__()
        self.norm1 = Affine(channels, conditions, normalise=True)
        self.conv1 = nn.Conv2d(channels, bottleneck, 1)
        self.norm2 = Affine(bottleneck, conditions, normalise=True)
        self.conv2 = nn.Conv2d(bottleneck, bottleneck, 3, padding=dilation, dilation=dilation)
        self.norm3 = Affine(bottleneck, conditions, normalise=True)
        self.conv3 = nn.Conv2d(bottleneck, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv1(F.elu(self.norm1(x, condition)))
        y = self.conv2(F.elu(self.norm2(y, condition)))
        branch: Tensor = self.conv3(F.elu(self.norm3(y, condition)))
        return x + branch


class BaseBlock(nn.Module):
    """ReLU(x + affine3(conv3(ReLU(affine2(conv2(ReLU(affine1(conv1(x))))))))).

    After folding (`protemb_export.fold`) it has only Conv, Relu and Add.
    """

    def __init__(self, channels: int, bottleneck: int, dilation: int, conditions: int) -> None:
        super().__init__()
        self.conv1 = StandardisedConv(channels, bottleneck)
        self.affine1 = Affine(bottleneck, conditions, normalise=False)
        self.conv2 = StandardisedConv(bottleneck, bottleneck, 3, dilation)
        self.affine2 = Affine(bottleneck, conditions, normalise=False)
        self.conv3 = StandardisedConv(bottleneck, channels)
        # A small initial value keeps the sum of many branches near its input, as normalisation would.
        self.affine3 = Affine(channels, conditions, normalise=False, gain=0.3)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        if x.shape[0] == 1:  # one noise level: 10% faster than separate gains and biases
            y = F.relu(self.conv1.with_affine(x, self.affine1, condition))
            y = F.relu(self.conv2.with_affine(y, self.affine2, condition))
            return F.relu(x + self.conv3.with_affine(y, self.affine3, condition))
        y = F.relu(self.affine1(self.conv1(x), condition))
        y = F.relu(self.affine2(self.conv2(y), condition))
        return F.relu(x + self.affine3(self.conv3(y), condition))


class PaperStem(nn.Module):
    """149 channels through a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = PaperFeatures()
        self.conv = nn.Conv2d(PaperFeatures.channels, channels, 3, padding=1)

    def forward(
        self, coords: Tensor, types: Tensor, index: Tensor, sigma: Tensor, condition: Tensor, rows: Tensor
    ) -> Tensor:
        x: Tensor = self.conv(self.features(coords, types, index, rows))
        return x


class BaseStem(nn.Module):
    """Pair features through a 1x1 convolution, plus one term per row and one per column.

    Without `types` the terms have the virtual angles of a residue, but not its type.
    """

    def __init__(self, channels: int, conditions: int, radial_bins: int, *, types: bool) -> None:
        super().__init__()
        self.features = BaseFeatures(radial_bins)
        self.first = 0 if types else BaseFeatures.residue_types  # first residue feature used
        residue_channels = BaseFeatures.residue_channels - self.first
        self.conv = StandardisedConv(self.features.pair_channels, channels)
        self.affine = Affine(channels, conditions, normalise=False, gain=2.0)
        self.row = nn.Linear(residue_channels, channels, bias=False)
        self.column = nn.Linear(residue_channels, channels, bias=False)

    def forward(
        self, coords: Tensor, types: Tensor, index: Tensor, sigma: Tensor, condition: Tensor, rows: Tensor
    ) -> Tensor:
        pair, residue = self.features(coords, types, index, sigma, rows)
        residue = residue[:, :, self.first :]
        row = self.row(residue.index_select(1, rows)).transpose(1, 2)[:, :, :, None]
        column = self.column(residue).transpose(1, 2)[:, :, None, :]
        return F.relu(self.affine(self.conv(pair), condition) + row + column)


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
        distance_BLL = pair_differences(coords_BL3, coords_BL3).square().sum(dim=-1).sqrt()
        h_BLL = distance_gradient(output_BLL, distance_BLL, sigma_B, self.config.reach)
        return coordinate_gradient(h_BLL, coords_BL3)
