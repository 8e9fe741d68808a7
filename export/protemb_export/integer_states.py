"""The network with a single representation, with its pair map in 8-bit integers, for the CPU.

Features of pairs are looked up in tables of integers and never computed in float32; convolutions, residual
sums and the means of the map read and write integers with channels last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_export.errors import ExportError
from protemb_export.fold import FoldedBaseBlock
from protemb_export.integers import STEPS, Grid, IntegerConv, added, product
from protemb_export.states import FoldedStem, FoldedWrite, StatesNetwork, Strip
from protemb_train.network.features import squared_between
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.vectors import ChainVectors

Range = tuple[float, float]
Inputs = tuple[Tensor, Tensor, Tensor]

FARTHEST = 6.0
"""Logarithm of the largest distance of the table in angstrom; farther residues are as far as that (403)."""
DISTANCES = 8192
"""Entries of the table over `FARTHEST`."""
GAPS = 4096
"""Largest separation along the chain of the table."""
SIGNED = (-128 / 127, 1.0)
"""Range of a feature from -1 to 1; 128 is exactly zero."""


class PairTables(nn.Module):
    """Features of residue pairs as integers, (B, R, L, 64), from two tables, directions and geometry."""

    of_distance: Tensor
    of_gap: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, stem: FoldedStem) -> None:
        super().__init__()
        self.features = stem.features
        log_distance = torch.arange(DISTANCES) * (FARTHEST / DISTANCES)
        coords = torch.zeros(2 * DISTANCES, 2, 3)
        coords[:, 1, 0] = log_distance.exp().repeat(2)
        # Residue indices 0 and 1 are bonded, 0 and 9 are not.
        index = torch.tensor([0, 9]).repeat(2 * DISTANCES, 1)
        index[DISTANCES:, 1] = 1
        first = torch.zeros(1, dtype=torch.int64)
        sigma = stem.sigma.expand(2 * DISTANCES)
        *of_distance, _, _ = self.features.pair(coords, index, sigma, first)
        chain = torch.arange(GAPS + 1)[None]
        *_, of_gap, _ = self.features.pair(torch.zeros(1, GAPS + 1, 3), chain, stem.sigma, first)
        near = torch.cat(of_distance, dim=1)[:, :, 0, 1]
        gap = of_gap[0, :, 0].T
        around = 2 * stem.WIDTH + 6
        limits = [(0.0, 1.0)] * self.features.radial_bins + [(-3.0, FARTHEST - 3.0)] + [SIGNED] * 2
        limits += [(0.0, 1.0)] * gap.shape[1] + [SIGNED] * around
        low, high = torch.tensor(limits).T
        self.register_buffer("low", low)
        self.register_buffer("width", high - low)
        self.grid = Grid(0.0, 1.0)
        self.around = Grid(*SIGNED)
        self.register_buffer("of_distance", self._whole(near, 0))
        self.register_buffer("of_gap", self._whole(gap, near.shape[1]))

    def _whole(self, x: Tensor, first: int) -> Tensor:
        past = first + x.shape[1]
        share = (x - self.low[first:past]) / self.width[first:past]
        return (share * STEPS).round().clamp(0, STEPS).to(torch.uint8)

    def forward(self, coords: Tensor, index: Tensor, rows: Tensor, geometry_BLG: Tensor) -> Tensor:
        """Return the integers; values are `low` + `width` times those of `grid`."""
        height, length = rows.shape[0], index.shape[1]
        rows_BR3 = coords.index_select(1, rows)
        squared_BRL = squared_between(rows_BR3, coords).clamp(min=1.0)
        gap_BRL = (index[:, None, :] - index.index_select(1, rows)[:, :, None]).abs()
        place = (squared_BRL.log() * (DISTANCES / FARTHEST / 2) + 0.5).clamp(max=DISTANCES - 1)
        place = place.to(torch.int32) + (gap_BRL == 1).to(torch.int32) * DISTANCES
        directions = self.features.towards(coords, index, rows) * squared_BRL.rsqrt()[:, None]
        geometry = self.around.quantised(geometry_BLG)
        return torch.cat(
            [
                F.embedding(place, self.of_distance),
                F.embedding(gap_BRL.clamp(max=GAPS), self.of_gap),
                self.around.quantised(directions).permute(0, 2, 3, 1),
                geometry.index_select(1, rows)[:, :, None].expand(-1, -1, length, -1),
                geometry[:, None].expand(-1, height, -1, -1),
            ],
            dim=3,
        )


class IntegerStem(nn.Module):
    """`FoldedStem` with integers as result."""

    def __init__(self, stem: FoldedStem, target: Grid) -> None:
        super().__init__()
        self.features, self.tables = stem.features, PairTables(stem)
        weight, bias = stem.conv.weight.detach().flatten(1), stem.conv.bias
        assert bias is not None  # of `fold_conv`
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        conv.weight.data.copy_((weight * self.tables.width)[:, :, None, None])
        conv.bias.data.copy_(bias.detach() + weight @ self.tables.low)  # type: ignore[union-attr]
        self.conv = IntegerConv(conv, self.tables.grid, target)

    def forward(self, coords: Tensor, index: Tensor, rows: Tensor, geometry_BLG: Tensor) -> Tensor:
        x: Tensor = self.conv(self.tables(coords, index, rows, FoldedStem.padded(geometry_BLG)))
        return x


class IntegerBlock(nn.Module):
    """`FoldedBaseBlock` on integers."""

    def __init__(self, block: FoldedBaseBlock, source: Grid, ranges: dict[nn.Module, Range]) -> None:
        super().__init__()
        convs = [part for part in block.branch if isinstance(part, nn.Conv2d)]
        targets = [Grid(*ranges[block.branch[place]]) for place in (1, 3, 4)]
        self.source, self.target = source, Grid(*ranges[block])
        grids = zip([source, *targets[:2]], targets, strict=True)
        self.branch = nn.Sequential(
            *(IntegerConv(conv, *pair) for conv, pair in zip(convs, grids, strict=True))
        )
        self.branch_grid = targets[2]

    def forward(self, x_BRLC: Tensor) -> Tensor:
        return added(self.branch(x_BRLC), self.branch_grid, x_BRLC, self.source, self.target)


class IntegerWrite(nn.Module):
    """`FoldedWrite` on a map of integers."""

    def __init__(self, write: FoldedWrite, source: Grid, ranges: dict[nn.Module, Range]) -> None:
        super().__init__()
        self.write = write
        self.row, self.column, self.both = (
            Grid(*ranges[part]) for part in (write.row, write.column, write.same)
        )
        self.source, self.target = source, Grid(*ranges[write])

    def forward(self, x_BRLC: Tensor, state_BLH: Tensor, rows_R: Tensor) -> Tensor:
        row, column = self.write.terms(state_BLH, rows_R)
        row, column = row.permute(0, 2, 3, 1), column.permute(0, 2, 3, 1)
        both = added(self.row.quantised(row), self.row, self.column.quantised(column), self.column, self.both)
        return added(both, self.both, x_BRLC, self.source, self.target)


@torch.no_grad()
def observed(network: StatesNetwork, chains: Iterable[Inputs]) -> dict[nn.Module, Range]:
    """Return the smallest and the largest value of every part of the network on real chains."""
    found: dict[nn.Module, Range] = {}

    def watch(part: nn.Module, _: object, out: Tensor) -> None:
        low, high = found.get(part, (torch.inf, -torch.inf))
        found[part] = min(low, float(out.min())), max(high, float(out.max()))

    kinds = (nn.Conv2d, nn.ReLU, nn.Linear, FoldedStem, FoldedBaseBlock, FoldedWrite)
    handles = [part.register_forward_hook(watch) for part in network.modules() if isinstance(part, kinds)]
    for coords, types, index in chains:
        residues = torch.arange(index.shape[1])
        network(coords, types, index, residues, residues[:1], residues[-1:] + 1)
    for handle in handles:
        handle.remove()
    if not found or not all(abs(value) < torch.inf for pair in found.values() for value in pair):
        raise ExportError("no chain to calibrate on, or maps that are not finite")
    return found


class IntegerStatesNetwork(StatesNetwork):
    """`StatesNetwork` with its map in integers; its maps are uint8 with channels last.

    Parameters
    ----------
    network, sigma, vectors
        As for `StatesNetwork`.
    chains : iterable of tuple of Tensor
        Coordinates, residue types and residue indices of real chains, from which the ranges of the integers
        are taken.

    Raises
    ------
    ExportError
        If there is no chain, or a value is not finite.
    """

    def __init__(
        self, network: ScoreNetwork, sigma: float, vectors: ChainVectors, chains: Iterable[Inputs]
    ) -> None:
        super().__init__(network, sigma, vectors)
        exact = StatesNetwork(network, sigma, vectors)
        ranges = observed(exact, chains)
        grid = Grid(*ranges[exact.stem])
        self.stem = IntegerStem(exact.stem, grid)  # type: ignore[assignment]
        segments, writes, self.grids = [], [], nn.ModuleList()
        for k, segment in enumerate(exact.segments):
            if k:
                writes.append(IntegerWrite(cast(FoldedWrite, exact.writes[k - 1]), grid, ranges))
                grid = writes[-1].target
            blocks = []
            for block in cast(nn.Sequential, segment):
                assert isinstance(block, FoldedBaseBlock)  # of the family base
                blocks.append(IntegerBlock(block, grid, ranges))
                grid = blocks[-1].target
            segments.append(nn.Sequential(*blocks))
            self.grids.append(grid)
        self.segments, self.writes = nn.ModuleList(segments), nn.ModuleList(writes)
        self.weights = Grid(0.0, 1.0)
        self.dtype = torch.uint8
        self.eval()

    def grid_of(self, k: int) -> Grid:
        """Return the grid of the map at exchange `k`, or of the last map."""
        return cast(Grid, self.grids[k])

    def _means(self, x: Tensor, strip: Strip, k: int, lengths_B: Tensor | None) -> Tensor:
        """Return `strip_means` of a map of integers."""
        grid = self.grid_of(k)
        batch, height, length, channels = x.shape
        near = self.weights.quantised(strip.near)
        ones = torch.ones((), dtype=torch.uint8).expand(batch, height, length)
        rows = product(torch.stack([ones, near], dim=2), x, grid)
        wanted = strip.wanted.to(torch.uint8)
        seen = self.weights.quantised((strip.near * strip.wanted[:, None]).transpose(1, 2))
        columns = product(
            torch.stack([wanted.expand(batch, length, height), seen], dim=2), x.transpose(1, 2), grid
        )
        total = (near.to(torch.float32) / STEPS).sum(dim=2)
        own = torch.cat(
            [rows[:, :, 0] / length, rows[:, :, 1] / (STEPS * total)[..., None], total[..., None]], dim=2
        )
        own = own.index_select(1, strip.position) * strip.inside[:, None]
        return torch.cat(
            [
                *(own[:, :, :channels], columns[:, :, 0] / length),
                *(own[:, :, channels : 2 * channels], columns[:, :, 1] / STEPS, own[:, :, 2 * channels :]),
            ],
            dim=2,
        )
