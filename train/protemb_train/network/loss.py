"""From the network's output to the loss: eq. 3 (reparametrised), eq. 4 and eq. 5."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

# Atoms never overlap; without a lower limit 1/d would diverge for a collapsed pair at high noise.
MIN_DISTANCE = 1.0
BOND_LENGTH = 3.8  # angstrom, between the C-alphas of a trans peptide


def distance_gradient(
    output_BLL: Tensor, distance_BLL: Tensor, sigma_B: Tensor, reach: Literal["length", "distance"]
) -> Tensor:
    """Eq. 3: gradient of log p on the squared distances, from a network output of unit size.

    h_ij = (f_ij + f_ji) / 2 / (4 sigma d_ij) * w_ij. The factors only change the parametrisation in eq. 3
    and 4: by eq. 4 they give every residue a gradient of size 1 / sigma at any noise level.

    Parameters
    ----------
    output_BLL : Tensor, shape (B, L, L)
        f, the output of the last layer of the network.
    distance_BLL : Tensor, shape (B, L, L)
        Distances of the perturbed coordinates in angstrom.
    sigma_B : Tensor, shape (B,)
        Noise levels in angstrom.
    reach : {"length", "distance"}
        How the sum over a whole chain is bounded. "length": w = 1 / sqrt(L), which weakens a bond in a long
        chain, although a convolution does not see the length. "distance": w = (b / d)^1.5 beyond b, with
        b^2 = 3.8^2 + sigma^2 / 2: all shells of a globule have equal weight. b is the length of a bond, and
        grows with the noise, since a noisy bond is longer, so that sums over residues keep their size.

    Returns
    -------
    Tensor, shape (B, L, L)
        h, symmetric, in 1/angstrom^2.
    """
    symmetric = (output_BLL + output_BLL.transpose(1, 2)) / 2
    distance_BLL = distance_BLL.clamp(min=MIN_DISTANCE)
    if reach == "length":
        weight = torch.full_like(distance_BLL, output_BLL.shape[-1] ** -0.5)
    else:
        bond = (BOND_LENGTH**2 + 0.5 * sigma_B.square()).sqrt()[:, None, None]
        weight = (bond / torch.maximum(distance_BLL, bond)) ** 1.5
    scaled: Tensor = symmetric * weight / (4.0 * sigma_B[:, None, None] * distance_BLL)
    return scaled


def coordinate_gradient(h_BLL: Tensor, coords_BL3: Tensor) -> Tensor:
    """Eq. 4: chain rule from squared distances to coordinates, g_i = sum_j 2 (h_ij + h_ji)(x_i - x_j).

    Parameters
    ----------
    h_BLL : Tensor, shape (B, L, L)
        Gradient of log p on the squared distances, in 1/angstrom^2; need not be symmetric.
    coords_BL3 : Tensor, shape (B, L, 3)
        Perturbed coordinates in angstrom, centred: far from the origin the two sums lose precision.

    Returns
    -------
    Tensor, shape (B, L, 3)
        Gradient of log p in 1/angstrom; net force and net torque are zero by construction.
    """
    weight: Tensor = 2.0 * (h_BLL + h_BLL.transpose(1, 2))
    gradient: Tensor = weight.sum(dim=2, keepdim=True) * coords_BL3 - weight @ coords_BL3
    return gradient


def score_matching_loss(gradient_BL3: Tensor, target_BL3: Tensor, sigma_B: Tensor) -> Tensor:
    """Eq. 5, one term per sample: sigma^2 times the squared Frobenius norm of the error.

    Parameters
    ----------
    gradient_BL3, target_BL3 : Tensor, shape (B, L, 3)
        Estimated (eq. 4) and true (eq. 2) gradient of log p, in 1/angstrom.
    sigma_B : Tensor, shape (B,)
        Noise levels in angstrom.

    Returns
    -------
    Tensor, shape (B,)
        Loss; predicting zero gives 3L on average at any noise level.
    """
    error = (sigma_B[:, None, None] * (gradient_BL3 - target_BL3)).square()
    return torch.sum(error, dim=(1, 2))
