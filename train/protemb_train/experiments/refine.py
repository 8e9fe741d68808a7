"""Refinement by annealed Langevin sampling: perturbed natives are denoised with the score (paper, eq. 1).

The spacing of levels depends on the length: by Song & Ermon 2020 (arXiv:2006.09011, technique 2) the noise
distributions of adjacent levels must overlap, and they separate with the dimension D = 3L. Step sizes are
chosen by their technique 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from protemb_train.downstream.quality.labels import superpose

OVERLAP = 0.5
"""Share of the mass of one level covered by the next."""
STEPS = 3
"""Number of Langevin steps at each level."""
FINEST = 0.3
"""Angstrom; below it bond lengths dominate the score."""

Coords = NDArray[np.float64]
Score = Callable[[Coords, float], NDArray[np.floating]]


def level_ratio(length: int) -> float:
    """Return the largest ratio of adjacent noise levels for a chain (technique 2)."""
    dimensions = 3 * length

    def overlap(ratio: float) -> float:
        away = math.sqrt(2 * dimensions) * (ratio - 1)
        return float(norm.cdf(away + 3 * ratio) - norm.cdf(away - 3 * ratio)) - OVERLAP

    return float(brentq(overlap, 1.0, 3.0))


def levels_for(length: int, coarsest: float, finest: float = FINEST) -> NDArray[np.float64]:
    """Return noise levels from coarsest to finest in angstrom, with the spacing required for a chain.

    Raises
    ------
    ValueError
        If the coarsest is not above the finest.
    """
    if not coarsest > finest > 0:
        raise ValueError(
            f"levels must decrease, but are {coarsest:g} to {finest:g} angstrom: use a coarser start"
        )
    count = math.ceil(math.log(coarsest / finest) / math.log(level_ratio(length))) + 1
    return np.geomspace(coarsest, finest, max(count, 2))


def step_size(ratio: float, steps: int = STEPS) -> float:
    """Return epsilon / sigma^2 for which the variance after all steps is that of the level (technique 4).

    Without a network, for data at one point: with n = 1 - e, the variance after `steps` steps from the
    previous level, relative to this level's, is n^(2T) (r^2 - 2e / (1 - n^2)) + 2e / (1 - n^2); it should
    be 1.
    """

    def off(epsilon: float) -> float:
        kept = (1 - epsilon) ** 2
        rest = 2 * epsilon / (1 - kept)
        return kept**steps * (ratio**2 - rest) + rest - 1

    # From 0 the excess r^2 - 1 decreases to zero or near it; beyond 1 a step would overshoot.
    grid = np.geomspace(1e-4, 0.9, 400)
    values = np.array([off(e) for e in grid])
    below = np.flatnonzero(values <= 0)
    if len(below):
        return float(brentq(off, grid[below[0] - 1], grid[below[0]])) if below[0] else float(grid[0])
    return float(grid[np.abs(values).argmin()])


def langevin(
    coords: Coords, score: Score, levels: NDArray[np.float64], seed: int = 0, steps: int = STEPS
) -> Coords:
    """Return coordinates after annealed Langevin sampling and a final denoising step.

    Parameters
    ----------
    coords : ndarray, float64, shape (L, 3)
        Perturbed coordinates, in angstrom.
    score : callable
        Gradient of log p in 1/angstrom at coordinates and a noise level.
    levels : ndarray, float64
        Result of `levels_for`.
    seed : int
        Seed of the noise.
    steps : int
        Number of steps at each level.
    """
    rng = np.random.default_rng(seed)
    epsilon = step_size(float(levels[0] / levels[1]), steps)
    x = np.asarray(coords, dtype=np.float64)
    for sigma in levels.tolist():
        step = epsilon * sigma**2
        for _ in range(steps):
            x = x + step * score(x, sigma) + math.sqrt(2 * step) * rng.normal(size=x.shape)
    return np.asarray(x + levels[-1] ** 2 * score(x, float(levels[-1])))


def flow(coords: Coords, score: Score, levels: NDArray[np.float64]) -> Coords:
    """Return coordinates after the probability flow: one Euler step per level, without noise."""
    x = np.asarray(coords, dtype=np.float64)
    for sigma, after in zip(levels.tolist(), [*levels[1:].tolist(), 0.0], strict=True):
        x = x + sigma * (sigma - after) * score(x, sigma)
    return x


def rmsd(model: Coords, native: Coords) -> float:
    """Return the C-alpha RMSD after superposition, angstrom."""
    moved = superpose(model, native, np.ones((1, len(native))))[0]
    return float(np.sqrt(np.square(moved - native).sum(axis=1).mean()))


@dataclass(frozen=True, slots=True)
class Refined:
    """RMSD of one perturbed native, angstrom: before, after sampling, and after the flow."""

    length: int
    noise: float
    levels: int
    before: float
    sampled: float
    flowed: float


def refine_native(native: Coords, noise: float, score: Score, seed: int = 0) -> Refined:
    """Perturb a native by noise of a level, and denoise it in both ways."""
    rng = np.random.default_rng((seed, len(native)))
    start = native + noise * rng.normal(size=native.shape)
    levels = levels_for(len(native), noise)
    return Refined(
        len(native),
        noise,
        len(levels),
        rmsd(start, native),
        rmsd(langevin(start, score, levels, seed), native),
        rmsd(flow(start, score, levels), native),
    )


def as_table(found: list[Refined]) -> str:
    """Return a page: medians for each noise level."""
    lines = [
        "| noise, angstrom | chains | residues | levels | RMSD before | Langevin | better | flow | better |",
        "|---|" + "---|" * 8,
    ]
    for noise in sorted({f.noise for f in found}):
        of = [f for f in found if f.noise == noise]
        before, sampled, flowed = (
            np.array([getattr(f, name) for f in of]) for name in ("before", "sampled", "flowed")
        )
        spans = [f"{min(v)} to {max(v)}" for v in ([f.length for f in of], [f.levels for f in of])]
        cells = [f"{noise:g}", str(len(of)), *spans, f"{np.median(before):.2f}"]
        for after in (sampled, flowed):
            cells += [f"{np.median(after):.2f}", f"{int((after < before).sum())} of {len(of)}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "Medians; C-alpha RMSD to the native in angstrom.\n\n" + "\n".join(lines) + "\n"
