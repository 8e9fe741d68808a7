"""Modifications of native structures that imitate errors of models.

Each function takes C-alpha coordinates in angstrom, float64, (L, 3), and returns modified ones; NaN marks a
residue without a position. `regularised` then closes the chain and removes clashes, so that the model differs
from the native by the error alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

BOND = 3.8
"""Angstrom between C-alphas of a trans peptide."""
TURN = (5.0, 7.3)
"""Range of the distance between residues two apart."""
CLASH = 4.0
SWEEPS = 120

Coords = NDArray[np.float64]


def regularised(coords_L3: Coords, sweeps: int = SWEEPS) -> Coords:
    """Return a nearby chain without gaps, kinks or clashes.

    Bonds, distances of residues two apart and contacts closer than 4 angstrom are corrected in turn, by
    moving both ends (projections as in position-based dynamics). Residues without a position (NaN) start
    on a line between their neighbours.

    Raises
    ------
    ValueError
        If no residue has a position.
    """
    x = _interpolated(coords_L3)
    length = len(x)
    for _ in range(sweeps):
        step, count = np.zeros_like(x), np.zeros(length)
        for apart, low, high in ((1, BOND, BOND), (2, *TURN)):
            _pull(x, np.arange(length - apart), np.arange(apart, length), low, high, step, count)
        squared = np.square(x[:, None] - x[None, :]).sum(axis=2)
        i, j = np.nonzero(np.triu(squared < CLASH**2, k=3))
        _pull(x, i, j, CLASH, np.inf, step, count)
        x = x + step / np.maximum(count, 1)[:, None]
    return x


def _interpolated(coords_L3: Coords) -> Coords:
    known = np.flatnonzero(np.isfinite(coords_L3[:, 0]))
    if not len(known):
        raise ValueError("no residue has a position")
    every = np.arange(len(coords_L3))
    x = np.stack([np.interp(every, known, coords_L3[known, axis]) for axis in range(3)], axis=1)
    # Ends are extended; points on a line would stay on it, hence a small zigzag.
    lost = np.setdiff1d(every, known)
    outside = np.where(lost < known[0], known[0] - lost, np.where(lost > known[-1], lost - known[-1], 0))
    away = x[known[[0, -1]]] - x[known].mean(axis=0)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    x[lost] += outside[:, None] * BOND * 0.8 * np.where((lost < known[0])[:, None], away[0], away[1])
    x[lost] += np.stack([np.cos(1.7 * lost), np.sin(1.7 * lost), np.cos(2.9 * lost)], axis=1)
    return x


def _pull(
    x: Coords,
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    low: float,
    high: float,
    step: Coords,
    count: NDArray[np.float64],
) -> None:
    between = x[j] - x[i]
    distance = np.maximum(np.linalg.norm(between, axis=1), 1e-6)
    wrong = distance - np.clip(distance, low, high)
    off = np.abs(wrong) > 0.05
    push = 0.5 * (wrong / distance)[off, None] * between[off]
    np.add.at(step, i[off], push)
    np.subtract.at(step, j[off], push)
    np.add.at(count, i[off], 1)
    np.add.at(count, j[off], 1)


def hinged(coords_L3: Coords, degrees: float, rng: np.random.Generator) -> Coords:
    """Rotate all residues after one about the bond before it: a changed torsion."""
    at = int(rng.integers(2, len(coords_L3) - 2))
    axis = coords_L3[at] - coords_L3[at - 1]
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
    # A torsion alone changes the direction little, so the angle is changed as well.
    turn = turn * Rotation.from_rotvec(np.radians(degrees / 4) * _direction(rng))
    moved = coords_L3.copy()
    moved[at:] = turn.apply(coords_L3[at:] - coords_L3[at]) + coords_L3[at]
    return moved


def segment_moved(coords_L3: Coords, angstrom: float, degrees: float, rng: np.random.Generator) -> Coords:
    """Move and rotate a segment as a rigid body; two residues on either side lose their positions."""
    a, b = _run(len(coords_L3), rng)
    moved = coords_L3.copy()
    centre = coords_L3[a:b].mean(axis=0)
    turn = Rotation.from_rotvec(np.radians(degrees) * _direction(rng))
    moved[a:b] = turn.apply(coords_L3[a:b] - centre) + centre + angstrom * _direction(rng)
    for edge in (slice(max(a - 2, 0), a), slice(b, b + 2)):
        moved[edge] = np.nan
    return moved


def register_shifted(coords_L3: Coords, shift: int, rng: np.random.Generator) -> Coords:
    """Place the residues of a segment at those `shift` further along the chain: an alignment error."""
    length = len(coords_L3)
    a, b = _run(length, rng)
    moved = coords_L3.copy()
    source = np.arange(a, b) + shift
    inside = (source >= 0) & (source < length)
    moved[a:b] = np.nan
    moved[np.arange(a, b)[inside]] = coords_L3[source[inside]]
    # Residues that the segment overlaps lose their positions.
    room = abs(shift) + 1
    taken = slice(b, b + room) if shift > 0 else slice(max(a - room, 0), a)
    moved[taken] = np.nan
    if not np.isfinite(moved[:, 0]).any():
        return coords_L3.copy()
    return moved


def grafted(coords_L3: Coords, donor_M3: Coords, rng: np.random.Generator) -> Coords:
    """Replace a segment by one of the same length from another chain, superposed on its two ends."""
    longest = min(len(coords_L3), len(donor_M3))
    a, b = _run(longest, rng, longest=40)
    start = int(rng.integers(0, len(donor_M3) - (b - a) + 1))
    at = int(rng.integers(0, len(coords_L3) - (b - a) + 1))
    piece = donor_M3[start : start + b - a]
    ends = np.r_[0:3, b - a - 3 : b - a]
    here = coords_L3[at : at + b - a]
    turn, _ = Rotation.align_vectors(
        here[ends] - here[ends].mean(axis=0), piece[ends] - piece[ends].mean(axis=0)
    )
    moved = coords_L3.copy()
    moved[at : at + b - a] = turn.apply(piece - piece[ends].mean(axis=0)) + here[ends].mean(axis=0)
    return moved


def threaded(positions_L: NDArray[np.int64], template_M3: Coords) -> Coords:
    """Place each residue at its aligned position in a template; -1 means none."""
    placed = np.full((len(positions_L), 3), np.nan)
    placed[positions_L >= 0] = template_M3[positions_L[positions_L >= 0]]
    return placed


def _run(length: int, rng: np.random.Generator, longest: int = 60) -> tuple[int, int]:
    """Return a segment (first, one past the last) of 8 residues to half a chain."""
    size = int(rng.integers(min(8, length), max(min(longest, length // 2), min(8, length)) + 1))
    first = int(rng.integers(0, length - size + 1))
    return first, first + size


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    v = rng.normal(size=3)
    return np.asarray(v / np.linalg.norm(v))
