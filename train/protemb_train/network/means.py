"""The SDK's readouts that are means, in PyTorch, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from protemb_sdk._model.readouts import CONTACT_SCALE
from protemb_train.network.features import decay, squared_between


def mean_readouts(pair_BCLL: Tensor, coords_BL3: Tensor) -> dict[str, Tensor]:
    """Return the readouts mean, column, contact and column-contact of whole pair maps, each (B, C, L)."""
    squared_BLL = squared_between(coords_BL3, coords_BL3)
    near_BLL = decay(squared_BLL / -(CONTACT_SCALE**2))
    near_BLL = near_BLL / near_BLL.sum(dim=2, keepdim=True)
    return {
        "mean": pair_BCLL.mean(dim=3),
        "column": pair_BCLL.mean(dim=2),
        "contact": torch.einsum("bcij,bij->bci", pair_BCLL, near_BLL),
        "column-contact": torch.einsum("bcji,bij->bci", pair_BCLL, near_BLL),
    }
