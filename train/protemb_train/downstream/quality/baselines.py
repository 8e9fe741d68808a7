"""Scores of models from a few numbers of the C-alpha trace, without a network; higher is better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from protemb_train.downstream.quality.decoys import Decoy
from protemb_train.downstream.quality.perturb import BOND

NEAR = 10.0  # angstrom, of a neighbour
TOLERANCE = 0.1  # angstrom, of a step between consecutive C-alphas
USUAL = (2.2, 0.38)
"""Radius of gyration of globular proteins, angstrom: 2.2 L^0.38 (Skolnick et al. 1997)."""


def neighbour_counts(decoy: Decoy) -> NDArray[np.float64]:
    """Return the number of C-alphas within 10 angstrom of each residue, shape (L,)."""
    tree = cKDTree(decoy.ca_coords)
    counts = tree.query_ball_point(decoy.ca_coords, NEAR, return_length=True)
    return np.asarray(counts, dtype=np.float64) - 1


def compactness(decoy: Decoy) -> float:
    """Return the usual radius of gyration of a chain of this length over that of the model."""
    centred = decoy.ca_coords - decoy.ca_coords.mean(axis=0)
    radius = float(np.sqrt(np.square(centred).sum(axis=1).mean()))
    scale, power = USUAL
    return float(scale * len(decoy) ** power / max(radius, 1e-6))


def regular_steps(decoy: Decoy) -> float:
    """Return the share of consecutive C-alphas that are about 3.8 angstrom apart."""
    steps = np.linalg.norm(np.diff(decoy.ca_coords, axis=0), axis=1)
    return float((np.abs(steps - BOND) < TOLERANCE).mean()) if len(steps) else 0.0


def baselines(decoys: Sequence[Decoy]) -> dict[str, NDArray[np.float64]]:
    """Return the scores of models by each baseline, shape (N,)."""
    return {
        "compactness": np.array([compactness(d) for d in decoys]),
        "neighbours per residue": np.array([neighbour_counts(d).mean() for d in decoys]),
        "C-alpha steps near 3.8 angstrom": np.array([regular_steps(d) for d in decoys]),
    }
