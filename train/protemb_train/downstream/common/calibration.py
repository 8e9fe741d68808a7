"""Features of calibration by chain length, shared by sites and quality."""

from __future__ import annotations

import torch
from torch import Tensor

USUAL = 150.0
"""Length in residues around which calibration depends on the length."""


def calibration_features(logit: Tensor, length: Tensor) -> Tensor:
    """Return the logit, the logarithm of the length and their product, in a new last axis of size 3."""
    size = torch.ones_like(logit) * torch.log(length / USUAL)
    return torch.stack([logit, size, logit * size], dim=-1)
