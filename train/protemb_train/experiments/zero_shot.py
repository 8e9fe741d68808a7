"""Quality scores without labels of quality: the score network alone, and predicted residue types.

For a native structure, gradients are small, and its residue types are likely for its fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import Embedder
from protemb_train.downstream.quality.decoys import Decoy
from protemb_train.downstream.quality.naming import KNOWN, Namer, names_of
from protemb_train.downstream.quality.scores import decoy_scores

LEVELS = (0.1, 0.3, 0.5, 1.0, 1.7, 3.0, 5.0, 8.0)
"""Noise levels, angstrom."""


def still(embedder: Embedder, decoy: Decoy, sigma: float) -> float:
    """Return minus the root mean square of sigma times the gradient, over residues: higher is better.

    In units of the noise level, the scale is the same at all levels: 1 per coordinate for pure noise.
    """
    gradient = embedder.denoising_gradient((decoy.ca_coords, decoy.sequence), sigma=sigma)
    return -float(sigma * np.sqrt(np.square(gradient, dtype=np.float64).mean()))


def fitting(namer: Namer, decoy: Decoy) -> float:
    """Return the mean log-odds of a model's residue types, given the types of the others, in nats."""
    return float(names_of(namer, decoy)[:, KNOWN].mean())


def scan(
    embedder: Embedder, decoys: Sequence[Decoy], levels: Sequence[float] = LEVELS
) -> dict[float, NDArray[np.float64]]:
    """Return `still` of every model at every noise level."""
    return {sigma: np.array([still(embedder, d, sigma) for d in decoys]) for sigma in levels}


def correlations(
    decoys: Sequence[Decoy], found: dict[float, NDArray[np.float64]]
) -> dict[float, tuple[float, float, float]]:
    """Return R, R_target and z of GDT_TS at every noise level."""
    target, true = np.array([d.target for d in decoys]), np.array([d.gdt_ts for d in decoys])
    scores = {sigma: decoy_scores(true, predicted, target) for sigma, predicted in found.items()}
    return {sigma: (s.r, s.r_target, s.z) for sigma, s in scores.items()}
