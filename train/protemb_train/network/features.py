"""Invariant features of a C-alpha trace, per residue and per residue pair, for both families.

Training and export use the same modules. Shapes: B batch, L length, R computed rows of the map, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from protemb_sdk import ALPHABET

UNKNOWN = ALPHABET.index("X")
PAPER_POSITION_SCALES = 12  # d_model = 24: 12 sines, 12 cosines (section 4)
SMALLEST_EXPONENT = -46.0


def decay(exponent: Tensor) -> Tensor:
    """Return exp(exponent), but at least 1e-20.

    Below 1e-38 numbers are subnormal, and products with them are slow on a CPU: the first convolution took
    eight times as long.
    """
    return exponent.clamp(min=SMALLEST_EXPONENT).exp()


def gaussian(x: Tensor) -> Tensor:
    """Return exp(-x^2), but at least 1e-20; see `decay`."""
    return decay(-(x * x))


def squared_between(rows_BR3: Tensor, columns_BL3: Tensor) -> Tensor:
    """Return squared distances, shape (B, R, L), one axis at a time: a third of the memory.

    The Gram matrix is faster, but has an error of 0.01 angstrom far from the origin.
    """
    squared_BRL = torch.zeros((), device=rows_BR3.device)
    for row, column in zip(rows_BR3.unbind(dim=2), columns_BL3.unbind(dim=2), strict=True):
        squared_BRL = squared_BRL + (column[:, None, :] - row[:, :, None]).square()
    return squared_BRL


def centred(coords_BL3: Tensor) -> Tensor:
    """Return the coordinates with each chain's centroid at the origin, where float32 is most precise."""
    return coords_BL3 - coords_BL3.mean(dim=1, keepdim=True)


def one_hot(index: Tensor, count: int) -> Tensor:
    """Return a float one-hot encoding along a new last axis; zeros for an index of `count` or more."""
    return (index[..., None] == torch.arange(count, device=index.device)).to(torch.float32)


class PaperFeatures(nn.Module):
    """The 149 input channels of the authors' code: column residue, row residue, distance bins.

    Soft distance bins have anchors 0..30 step 1, 32..70 step 2 and 73..100 step 3 angstrom and width 3;
    a residue has its one-hot encoding over 20 types and sines and cosines of index / 1000^(k/11).
    """

    channels = 2 * (20 + 2 * PAPER_POSITION_SCALES) + 61

    anchors: Tensor
    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        anchors = torch.cat([torch.arange(0, 31), torch.arange(32, 71, 2), torch.arange(73, 101, 3)])
        steps = torch.arange(PAPER_POSITION_SCALES) / (PAPER_POSITION_SCALES - 1)
        self.register_buffer("anchors", anchors.float()[:, None, None], persistent=False)
        self.register_buffer("scales", 1000.0**steps, persistent=False)

    def residue(self, type_BL: Tensor, index_BL: Tensor) -> Tensor:
        """Return one-hot type and positional encoding, shape (B, L, 44)."""
        angle = index_BL[..., None] / self.scales
        return torch.cat([one_hot(type_BL, UNKNOWN), angle.sin(), angle.cos()], dim=-1)

    def forward(self, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor, rows_R: Tensor) -> Tensor:
        """Return the input map, shape (B, 149, R, L)."""
        residue_BFL = self.residue(type_BL, index_BL).transpose(1, 2)
        row_BFR = residue_BFL.index_select(2, rows_R)
        batch, width, length = residue_BFL.shape
        height = rows_R.shape[0]
        squared = squared_between(coords_BL3.index_select(1, rows_R), coords_BL3)
        distance = squared.sqrt().clamp(max=100.0)[:, None]
        bins = torch.exp((distance - self.anchors).square() / -18.0)  # 2 * width^2, width 3
        bins = bins / (bins.sum(dim=1, keepdim=True) + 1e-6)
        column_map = residue_BFL[:, :, None, :].expand(batch, width, height, length)
        row_map = row_BFR[:, :, :, None].expand(batch, width, height, length)
        return torch.cat([column_map, row_map, bins], dim=1)


def _shifted(x_BL3: Tensor, by: int) -> Tensor:
    """Return values of the residue `by` positions further; repeated at the ends (masked by `_linked`)."""
    length = x_BL3.shape[1]
    position = (torch.arange(length, device=x_BL3.device) + by).clamp(min=0).clamp(max=length - 1)
    return x_BL3.index_select(1, position)


def _linked(index_BL: Tensor, first: int, last: int) -> Tensor:
    """Return 1.0 where residues i+first..i+last exist and are consecutive, shape (B, L, 1)."""
    inside = torch.ones_like(index_BL, dtype=torch.bool)
    for by in range(first, last):
        inside = inside & (_shifted(index_BL, by + 1) - _shifted(index_BL, by) == 1)
    return inside.to(torch.float32)[..., None]


def _unit(vector: Tensor, soft: float) -> Tensor:
    """Return the direction; vectors much shorter than `soft` become zero instead of unstable."""
    return vector / (vector.square().sum(dim=-1, keepdim=True) + soft * soft).sqrt()


class BaseFeatures(nn.Module):
    """Multi-scale distances, separation and chirality, without one-hot encodings of positions.

    Per pair: radial bins whose width grows with the distance (of 32, 0.4 angstrom at 4, 6 at 50), the
    deviation of a bonded distance from 3.8 angstrom in units of the noise, the separation along the chain,
    and the direction to the partner in each residue's own C-alpha frame. Per residue: type, virtual bond
    angle and signed virtual torsion. Frames and torsions distinguish a structure from its mirror image.

    Parameters
    ----------
    radial_bins : int
        Number of radial bins, at least 2.
    """

    residue_types = len(ALPHABET)
    geometry_channels = 5
    residue_channels = residue_types + geometry_channels

    centres: Tensor
    separations: Tensor

    def __init__(self, radial_bins: int = 32) -> None:
        super().__init__()
        self.radial_bins = radial_bins
        self.pair_channels = radial_bins + 1 + 2 + 11 + 6
        centres = torch.linspace(math.log(3.0), math.log(100.0), radial_bins)
        self.per_width = math.sqrt(0.5) / float(centres[1] - centres[0])
        self.register_buffer("centres", centres[:, None, None] * self.per_width, persistent=False)
        self.register_buffer("separations", torch.arange(5)[:, None, None], persistent=False)

    def frames(self, coords_BL3: Tensor, index_BL: Tensor) -> Tensor:
        """Return each residue's right-handed frame from CA i-1, i, i+1, shape (B, L, 3 axes, 3).

        Zero at chain ends and breaks, where the frame is undefined.
        """
        arriving = coords_BL3 - _shifted(coords_BL3, -1)
        leaving = _shifted(coords_BL3, 1) - coords_BL3
        tangent = _unit(arriving + leaving, soft=0.5)
        binormal = _unit(torch.linalg.cross(arriving, leaving), soft=2.0)
        normal = torch.linalg.cross(binormal, tangent)
        axes = torch.stack([tangent, normal, binormal], dim=2)
        return axes * _linked(index_BL, -1, 1)[..., None]

    def geometry(self, coords_BL3: Tensor, index_BL: Tensor) -> Tensor:
        """Return cosine of the bond angle, sine and cosine of the torsion, two masks, shape (B, L, 5)."""
        b0 = coords_BL3 - _shifted(coords_BL3, -1)
        b1 = _shifted(coords_BL3, 1) - coords_BL3
        b2 = _shifted(coords_BL3, 2) - _shifted(coords_BL3, 1)
        n0 = _unit(torch.linalg.cross(b0, b1), soft=2.0)
        n1 = _unit(torch.linalg.cross(b1, b2), soft=2.0)
        has_angle = _linked(index_BL, -1, 1)
        has_torsion = _linked(index_BL, -1, 2)
        angle = (_unit(b0, soft=0.5) * _unit(b1, soft=0.5)).sum(dim=-1, keepdim=True)
        cosine = (n0 * n1).sum(dim=-1, keepdim=True)
        sine = (torch.linalg.cross(n0, n1) * _unit(b1, soft=0.5)).sum(dim=-1, keepdim=True)
        parts = [angle * has_angle, sine * has_torsion, cosine * has_torsion, has_angle, has_torsion]
        return torch.cat(parts, dim=-1)

    def residue(self, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor) -> Tensor:
        """Return type one-hot and `geometry`, shape (B, L, 26)."""
        types = one_hot(type_BL, self.residue_types)
        return torch.cat([types, self.geometry(coords_BL3, index_BL)], dim=-1)

    def _separation(self, gap_B1RL: Tensor) -> Tensor:
        """Return indicators of |gap| = 0..4 and soft bins of its logarithm: 11 channels.

        Without sign: with it, a mean over a row would mainly encode the position along the chain.
        """
        distance = gap_B1RL.abs()
        near = (distance == self.separations).to(torch.float32)
        octave = torch.log2(distance.to(torch.float32).clamp(min=1.0))
        far = torch.cat([gaussian(octave - k) for k in range(3, 9)], dim=1)
        return torch.cat([near, far], dim=1)

    def forward(
        self, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor, sigma_B: Tensor, rows_R: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return pair features (B, pair_channels, R, L) and residue features (B, L, 26)."""
        pair = torch.cat(self.pair(coords_BL3, index_BL, sigma_B, rows_R), dim=1)
        return pair, self.residue(coords_BL3, type_BL, index_BL)

    def towards(self, coords_BL3: Tensor, index_BL: Tensor, rows_R: Tensor) -> Tensor:
        """Return the vector between two residues in the frame of either, shape (B, 3 + 3, R, L).

        From the row to the column in the frame of the row, then back in the frame of the column. Coordinates
        must be centred: errors are 1e-7 of the distance from the origin.
        """
        frames_BALK = self.frames(coords_BL3, index_BL).transpose(1, 2)
        rows_B1R3, columns_B1L3 = coords_BL3.index_select(1, rows_R)[:, None], coords_BL3[:, None]
        row_frames_BARK = frames_BALK.index_select(2, rows_R)
        own_row = (row_frames_BARK * rows_B1R3).sum(dim=3)
        own_column = (frames_BALK * columns_B1L3).sum(dim=3)
        # Differences of products: a map of differences would have three channels last.
        from_row = row_frames_BARK @ columns_B1L3.transpose(2, 3) - own_row[..., None]
        from_column = rows_B1R3 @ frames_BALK.transpose(2, 3) - own_column[:, :, None]
        return torch.cat([from_row, from_column], dim=1)

    def pair(self, coords_BL3: Tensor, index_BL: Tensor, sigma_B: Tensor, rows_R: Tensor) -> list[Tensor]:
        """Return the pair features in six parts, each of shape (B, ..., R, L)."""
        rows_BR3 = coords_BL3.index_select(1, rows_R)
        distance = squared_between(rows_BR3, coords_BL3).clamp(min=1.0).sqrt()[:, None]
        log_distance = distance.log()
        radial = gaussian(log_distance * self.per_width - self.centres)

        gap = (index_BL[:, None, :] - index_BL.index_select(1, rows_R)[:, :, None])[:, None]
        bonded = (gap.abs() == 1).to(torch.float32)
        stretch = distance - 3.8
        in_noise_units = torch.tanh(stretch / (2.0 * sigma_B[:, None, None, None])) * bonded
        in_angstrom = torch.tanh(stretch / 0.5) * bonded

        directions = self.towards(coords_BL3, index_BL, rows_R) / distance
        return [radial, log_distance - 3.0, in_noise_units, in_angstrom, self._separation(gap), directions]
