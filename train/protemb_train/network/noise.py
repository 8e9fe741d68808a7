"""Noise: the levels, the perturbation of coordinates (eq. 1) and its score (eq. 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def geometric_levels(count: int, sigma_max: float, sigma_min: float) -> Tensor:
    """Return noise levels in geometric progression, largest first.

    Parameters
    ----------
    count : int
        K, number of levels.
    sigma_max, sigma_min : float
        First and last level in angstrom.

    Returns
    -------
    Tensor, float32, shape (count,)
    """
    return torch.logspace(math.log10(sigma_max), math.log10(sigma_min), count)


def stratified_levels(batch: int, levels_K: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one noise level per sample, evenly distributed over the levels within the batch.

    Parameters
    ----------
    batch : int
        Number of samples; a multiple of K has every level equally often.
    levels_K : Tensor, shape (K,)
        Noise levels in angstrom.
    generator : torch.Generator, optional
        CPU generator; torch's global one by default.

    Returns
    -------
    Tensor, float32, shape (batch,)
    """
    count = len(levels_K)
    offset = torch.rand(1, generator=generator)
    position = (torch.arange(batch) + offset) * count / batch
    order = torch.randperm(batch, generator=generator)
    return levels_K[position.long().clamp_(max=count - 1)[order].to(levels_K.device)]


def perturb(coords_BL3: Tensor, sigma_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Eq. 1: add isotropic Gaussian noise to the coordinates (never to the distances).

    Parameters
    ----------
    coords_BL3 : Tensor, shape (B, L, 3)
        C-alpha coordinates in angstrom.
    sigma_B : Tensor, shape (B,)
        Standard deviations in angstrom.
    generator : torch.Generator, optional
        CPU generator, so that the noise is the same on every device; torch's global one by default.

    Returns
    -------
    Tensor, shape (B, L, 3)
    """
    noise = torch.randn(coords_BL3.shape, generator=generator, dtype=coords_BL3.dtype)
    return coords_BL3 + sigma_B[:, None, None] * noise.to(coords_BL3.device)


def denoising_score(coords_BL3: Tensor, noisy_BL3: Tensor, sigma_B: Tensor) -> Tensor:
    """Eq. 2: gradient of log p(noisy | coords, sigma) on the noisy coordinates.

    Parameters
    ----------
    coords_BL3, noisy_BL3 : Tensor, shape (B, L, 3)
        Coordinates before and after `perturb`, in angstrom.
    sigma_B : Tensor, shape (B,)
        Standard deviations in angstrom.

    Returns
    -------
    Tensor, shape (B, L, 3)
        In 1/angstrom.
    """
    return (coords_BL3 - noisy_BL3) / sigma_B[:, None, None].square()
