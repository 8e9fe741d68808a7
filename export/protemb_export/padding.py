"""Chains of different lengths in one batch, padded to a common length, with results of the single chains.

Residues of the padding are placed far from the chain, with residue indices that are not consecutive: they are
no neighbours, have no local frames, and weigh nothing in means by contact. Maps are zero in their rows and
columns where a dilated convolution or a mean reads them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FAR = 1e6
"""Coordinate of the padding in angstrom; the SDK refuses chains wider than a tenth of it."""
NO_INDEX = -(2**40)
"""Residue index of the padding."""


class Padded(NamedTuple):
    """A batch of padded chains, with the contents of the padding replaced.

    Parameters
    ----------
    coords : Tensor, float32, shape (B, L, 3)
        C-alpha coordinates, each chain centred; `FAR` in the padding.
    near : Tensor, float32, shape (B, L, 3)
        The same with zeros in the padding.
    residue_index : Tensor, int64, shape (B, L)
        Residue indices; `NO_INDEX` in the padding.
    lengths : Tensor, int64, shape (B,)
        Number of residues of each chain.
    inside : Tensor, float32, shape (B, L)
        1 for residues of the chain, 0 for the padding.
    """

    coords: Tensor
    near: Tensor
    residue_index: Tensor
    lengths: Tensor
    inside: Tensor

    @classmethod
    def of(cls, coords_BL3: Tensor, index_BL: Tensor, lengths_B: Tensor) -> Padded:
        """Return a batch from the inputs of a graph; the contents of the padding have no effect."""
        inside_BL = torch.arange(index_BL.shape[1], device=index_BL.device) < lengths_B[:, None]
        inside_BL1 = inside_BL[..., None]
        known = torch.where(inside_BL1, coords_BL3, 0.0)
        centre = known.sum(dim=1, keepdim=True) / lengths_B[:, None, None]
        return cls(
            coords=torch.where(inside_BL1, known - centre, FAR),
            near=torch.where(inside_BL1, known - centre, 0.0),
            residue_index=torch.where(inside_BL, index_BL, NO_INDEX),
            lengths=lengths_B,
            inside=inside_BL.to(torch.float32),
        )

    def mask(self, rows_R: Tensor, dtype: torch.dtype) -> Tensor:
        """Return 1 for pairs of residues of a chain and 0 for others, shape (B, 1, R, L)."""
        rows = self.inside.index_select(1, rows_R)
        return (rows[:, None, :, None] * self.inside[:, None, None, :]).to(dtype)
