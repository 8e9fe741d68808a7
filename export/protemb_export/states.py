"""The network with a single representation at one fixed noise level, as in contract 2.

Means of the map are calculated over the rows of a strip, so that the results of all strips add up to those
of the chain.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_export.fold import conv_without_effect, fold_conv, folded_block
from protemb_export.padding import Padded
from protemb_sdk._model.readouts import CONTACT_SCALE
from protemb_train.network.features import (
    BaseFeatures,
    centred,
    decay,
    one_hot,
    squared_between,
)
from protemb_train.network.neighbours import find_neighbours
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.single import States, WriteBack
from protemb_train.network.stems import BaseStem
from protemb_train.network.surroundings import surroundings
from protemb_train.network.vectors import ChainVectors


class Strip(NamedTuple):
    """The rows of the map that are computed, and which of them are requested.

    Parameters
    ----------
    rows : Tensor, int64, shape (R,)
        Consecutive rows, with the halo.
    wanted : Tensor, float32, shape (R,)
        1 for rows of the strip itself, 0 for the halo.
    position : Tensor, int64, shape (L,)
        Index of each residue in `rows`; arbitrary for residues outside.
    inside : Tensor, float32, shape (L,)
        1 for residues whose row is requested.
    near : Tensor, float32, shape (B, R, L)
        exp(-(distance / 8 angstrom)^2).
    total : Tensor, float32, shape (B, R)
        Sums of `near` over columns.
    """

    rows: Tensor
    wanted: Tensor
    position: Tensor
    inside: Tensor
    near: Tensor
    total: Tensor


def strip_of(coords_BL3: Tensor, rows_R: Tensor, first: Tensor, past: Tensor) -> Strip:
    """Return a strip from its rows with halo, and its first and past row, each int64 of shape (1,)."""
    residues = torch.arange(coords_BL3.shape[1], device=coords_BL3.device)
    squared = squared_between(coords_BL3.index_select(1, rows_R), coords_BL3)
    near = decay(squared / -(CONTACT_SCALE**2))
    return Strip(
        rows=rows_R,
        wanted=((rows_R >= first) & (rows_R < past)).to(torch.float32),
        position=(residues - rows_R[:1]).clamp(min=0).clamp(max=rows_R.shape[0] - 1),
        inside=((residues >= first) & (residues < past)).to(torch.float32),
        near=near,
        total=near.sum(dim=2),
    )


def strip_means(x_BCRL: Tensor, strip: Strip, lengths_B: Tensor | None = None) -> Tensor:
    """Return the contribution of the requested rows to the means of a map, shape (B, L, 4 C + 1).

    Channels are those of `MEANS`, the last of which is not yet divided by the sum of its weights, and that
    sum. Add the results of all strips of a chain, then divide with `finished`. Maps of padded chains, of
    `lengths_B` residues, must be zero in the padding.
    """
    weighted = x_BCRL * (strip.near * strip.wanted[:, None])[:, None]
    mean = x_BCRL.mean(dim=3) if lengths_B is None else x_BCRL.sum(dim=3) / lengths_B[:, None, None]
    contact = weighted.sum(dim=3) / strip.total[:, None]
    own = torch.cat([mean, contact, strip.total[:, None]], dim=1)
    own = own.index_select(2, strip.position) * strip.inside
    channels = x_BCRL.shape[1]
    column = (strip.wanted @ x_BCRL) / (x_BCRL.shape[3] if lengths_B is None else lengths_B[:, None, None])
    parts = [own[:, :channels], column, own[:, channels : 2 * channels], weighted.sum(dim=2)]
    return torch.cat([*parts, own[:, 2 * channels :]], dim=1).transpose(1, 2)


def finished(means_BLM: Tensor) -> Tensor:
    """Return the means of `four_means`, shape (B, L, 4 C), from the sum of `strip_means` of all strips."""
    channels = (means_BLM.shape[2] - 1) // 4
    numerator, total = means_BLM[:, :, 3 * channels : 4 * channels], means_BLM[:, :, 4 * channels :]
    return torch.cat([means_BLM[:, :, : 3 * channels], numerator / total], dim=-1)


class FoldedStem(nn.Module):
    """`BaseStem` without residue types at one noise level, as one convolution.

    The terms of rows and columns are further channels of its input: 52 of a pair in `base` and two times
    `WIDTH` are 64. ONNX Runtime computes 64 for 52, too; its blocked layout requires a multiple of 4.
    """

    WIDTH = BaseFeatures.geometry_channels + 1

    sigma: Tensor

    def __init__(self, stem: BaseStem, condition_1K: Tensor, sigma: float) -> None:
        super().__init__()
        self.features = copy.deepcopy(stem.features)
        pair = fold_conv(stem.conv, stem.affine, condition_1K)
        weight = torch.cat(
            [pair.weight.flatten(1), *map(self.padded, (stem.row.weight, stem.column.weight))], 1
        )
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        self.conv.weight.data.copy_(weight[:, :, None, None])
        self.conv.bias = pair.bias
        self.register_buffer("sigma", torch.full((1,), sigma))

    def forward(self, coords: Tensor, index: Tensor, rows: Tensor, geometry_BLG: Tensor) -> Tensor:
        """Return the map in front of the first block; `geometry_BLG` is from `BaseFeatures.geometry`."""
        geometry = self.padded(geometry_BLG).transpose(1, 2)
        height, length = rows.shape[0], index.shape[1]
        row = geometry.index_select(2, rows)[:, :, :, None].expand(-1, -1, -1, length)
        column = geometry[:, :, None, :].expand(-1, -1, height, -1)
        parts = [*self.features.pair(coords, index, self.sigma, rows), row, column]
        return torch.relu(self.conv(torch.cat(parts, dim=1)))

    @classmethod
    def padded(cls, x: Tensor) -> Tensor:
        """Return `x` with zeros up to `WIDTH` values."""
        return F.pad(x, (0, cls.WIDTH - x.shape[-1]))


class FoldedWrite(WriteBack):
    """`WriteBack` with an identity convolution around A s_i + B s_j.

    It turns the sum into the channel layout in which ONNX Runtime keeps a map between convolutions, so that
    the map itself is not converted twice; see `FoldedBaseStem`.
    """

    def __init__(self, write: WriteBack) -> None:
        super().__init__(write.row.out_features, write.row.in_features)
        self.load_state_dict(write.state_dict())
        self.same = conv_without_effect(write.row.out_features)

    def forward(self, x_BCRL: Tensor, state_BLH: Tensor, rows_R: Tensor) -> Tensor:
        row, column = self.terms(state_BLH, rows_R)
        return torch.relu(self.same(row + column) + x_BCRL.float())


class StatesNetwork(nn.Module):
    """All outputs of contract 2 of a `ScoreNetwork` with a single representation, at one noise level.

    Parameters
    ----------
    network : ScoreNetwork
        Network in eval mode, on the CPU; it is copied and not modified.
    sigma : float
        Noise level in angstrom.
    vectors : ChainVectors
        Contents of the residue and protein embeddings.
    half : bool, default False
        Whether the blocks compute in float16; features, means and states stay in float32.
    """

    def __init__(
        self, network: ScoreNetwork, sigma: float, vectors: ChainVectors, *, half: bool = False
    ) -> None:
        super().__init__()
        assert network.single is not None and network.config.exchanges is not None
        assert isinstance(network.stem, BaseStem)
        self.dtype = torch.float16 if half else torch.float32
        condition = network.condition(torch.tensor([sigma])).detach()
        self.stem = FoldedStem(network.stem, condition, sigma)
        blocks = [folded_block(block, condition) for block in network.blocks]
        borders = [0, *network.config.exchanges, len(blocks)]
        self.segments = nn.ModuleList(
            nn.Sequential(*blocks[first:past]) for first, past in zip(borders[:-1], borders[1:], strict=True)
        )
        self.segments.to(self.dtype)
        self.single, self.vectors = copy.deepcopy((network.single, vectors))
        self.writes = nn.ModuleList(FoldedWrite(cast(WriteBack, write)) for write in network.single.writes)
        self.requires_grad_(False).eval()

    def forward(
        self,
        ca_coords: Tensor,
        residue_type: Tensor,
        residue_index: Tensor,
        row_list: Tensor,
        first: Tensor,
        past: Tensor,
        *used: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return all outputs of the graph.

        Parameters
        ----------
        ca_coords, residue_type, residue_index
            As in `ScoreNetwork.embed`.
        row_list : Tensor, int64, shape (R,)
            Rows of the strip with its halo.
        first, past : Tensor, int64, shape (1,)
            First row of the strip and one past its last.
        *used : Tensor, float32, shape (B, L, 4 C + 1)
            For each exchange and for the end, `strip_means` of the whole chain; omitted for all rows.

        Returns
        -------
        tuple of Tensor
            The map of the given rows at each exchange and at the end, (B, C, R, L); `strip_means` of each,
            (B, L, 4 C + 1); then residue, protein and profile.
        """
        return self._outputs(
            centred(ca_coords), residue_type, residue_index, row_list, first, past, used, None
        )

    def _outputs(
        self,
        coords: Tensor,
        residue_type: Tensor,
        residue_index: Tensor,
        row_list: Tensor,
        first: Tensor,
        past: Tensor,
        used: tuple[Tensor, ...],
        padded: Padded | None,
    ) -> tuple[Tensor, ...]:
        """Return all outputs from centred coordinates."""
        strip = strip_of(coords, row_list, first, past)
        lengths, mask = None, None
        if padded is not None:
            lengths, mask = padded.lengths, padded.mask(row_list, self.dtype)
        known = self.stem.features.geometry(coords, residue_index)
        neighbours, state = None, None
        if self.single.enter is not None:
            neighbours = find_neighbours(self.stem.features, coords, residue_index, self.single.nearest)
            state = self.single.first(known, neighbours)
        x = self.stem(coords, residue_index, row_list, known)
        maps, means = [], []
        for k, segment in enumerate(self.segments):
            if k:
                assert state is not None  # computed at the previous exchange
                structure = state
                if k == len(self.writes):
                    types = one_hot(residue_type, BaseFeatures.residue_types)
                    state = self.single.with_types(state, types, neighbours)
                x = self.writes[k - 1](x, state, row_list)
            if mask is None:
                x = segment(x.to(self.dtype))
            else:
                x = x.to(self.dtype) * mask
                for block in cast(nn.Sequential, segment):
                    x = block(x, mask)
                x = x * mask
            maps.append(x)
            means.append(self._means(x, strip, k, lengths))
            if k < len(self.writes):
                state = self.single.structure(k, finished((used or means)[k]), state, known)
        assert state is not None  # there is an exchange
        last = finished((used or means)[-1])
        around = surroundings(self.stem.features, coords, residue_index)
        residue = self.vectors.residue(States(structure, self.single.last(last, state)), last, around)
        protein = self.vectors.protein(structure, coords if padded is None else padded.near, lengths)
        return *maps, *means, residue, protein, self.single.log_profile(structure)

    def _means(self, x: Tensor, strip: Strip, k: int, lengths_B: Tensor | None) -> Tensor:
        """Return `strip_means` of the map of exchange `k`, or of the last."""
        return strip_means(x.float(), strip, lengths_B)


class PaddedStatesNetwork(StatesNetwork):
    """`StatesNetwork` for chains of different lengths, padded to a common one; for parameters see there."""

    def forward(  # type: ignore[override]
        self,
        ca_coords: Tensor,
        residue_type: Tensor,
        residue_index: Tensor,
        lengths: Tensor,
        row_list: Tensor,
        first: Tensor,
        past: Tensor,
        *used: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return all outputs of the graph; for those without padding see `StatesNetwork.forward`.

        Parameters
        ----------
        ca_coords, residue_type, residue_index
            Of padded chains. The contents of the padding have no effect on the chains.
        lengths : Tensor, int64, shape (B,)
            Number of residues of each chain.
        row_list, first, past, *used
            As in `StatesNetwork.forward`.

        Returns
        -------
        tuple of Tensor
            As of `StatesNetwork.forward`; maps are zero in the padding, other outputs are arbitrary there.
        """
        padded = Padded.of(ca_coords, residue_index, lengths)
        return self._outputs(
            padded.coords, residue_type, padded.residue_index, row_list, first, past, used, padded
        )
