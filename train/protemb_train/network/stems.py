"""Stems of the score network: from a chain to the map in front of the first block.

Shapes: B batch, L length, R computed rows of the map, C channels, K conditions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.network.blocks import Affine, StandardisedConv
from protemb_train.network.features import BaseFeatures, PaperFeatures


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
