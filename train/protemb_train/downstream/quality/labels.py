"""Similarity of a model to its native from C-alphas: GDT_TS, GDT_HA, TM-score, and lDDT of each residue.

GDT and TM-score are maxima over superpositions, found by the search of the TM-score program (Zhang & Skolnick
2004, doi:10.1002/prot.20264): superpositions of fragments, each repeated on the residues within a distance.

Shapes: L shared residues of native and model, S superpositions evaluated at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from protemb_sdk import ProtembError
from protemb_sdk._base.superposition import superpose as kabsch
from protemb_sdk._base.superposition import tm_distance

GDT_TS = (1.0, 2.0, 4.0, 8.0)
GDT_HA = (0.5, 1.0, 2.0, 4.0)
"""Distance thresholds, angstrom; Zemla 2003 (doi:10.1093/nar/gkg571)."""
LDDT = (0.5, 1.0, 2.0, 4.0)
RADIUS = 15.0
"""lDDT inclusion radius, angstrom (Mariani et al. 2013, doi:10.1093/bioinformatics/btt473)."""
ROUNDS = 20
SHORTEST = 4
STARTS = 40
"""Number of fragments of one length, evenly distributed over the chain."""

Coords = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Superposed:
    """Best scores over superpositions, relative to the length of the native."""

    gdt_ts: float
    gdt_ha: float
    tm_score: float


def superpose(model_S3: Coords, native_S3: Coords, weight_SL: NDArray[np.float64]) -> Coords:
    """Return the model superposed on the native, once for each set of weights (Kabsch 1976).

    Parameters
    ----------
    model_S3, native_S3 : ndarray, float64, shape (L, 3)
        Residues in the same order.
    weight_SL : ndarray, float, shape (S, L)
        Weight of each residue.

    Returns
    -------
    ndarray, float64, shape (S, L, 3)
    """
    rotation_S33, shift_S3 = kabsch(native_S3[None], model_S3[None], weight_SL)
    return np.asarray(model_S3 @ rotation_S33 + shift_S3[:, None])


def superposed_scores(model: Coords, native: Coords, native_length: int | None = None) -> Superposed:
    """Return GDT_TS, GDT_HA and TM-score of a model.

    Parameters
    ----------
    model, native : ndarray, float, shape (L, 3)
        C-alpha coordinates in angstrom of the shared residues, in the same order.
    native_length : int, optional
        Residues of the native; those missing from the model count as wrong. L by default.

    Raises
    ------
    ProtembError
        If shapes differ, a coordinate is not finite, or fewer than 3 residues are shared.
    """
    model, native = checked(model, native)
    total = len(native) if native_length is None else native_length
    if total < len(native):
        raise ProtembError(f"the native has {total} residues, but {len(native)} are shared; check the length")
    d0 = tm_distance(total)
    thresholds = np.unique([*GDT_TS, *GDT_HA])
    counts, tm = np.zeros(len(thresholds)), 0.0
    reaches = [*thresholds, min(max(d0, 4.5), 8.0)]
    for reach in reaches:
        weight_SL = _fragments(len(native))
        for _ in range(ROUNDS):
            distance_SL = np.linalg.norm(superpose(model, native, weight_SL) - native, axis=2)
            within = distance_SL[:, :, None] <= thresholds
            counts = np.maximum(counts, within.sum(axis=1).max(axis=0))
            tm = max(tm, float((1 / (1 + (distance_SL / d0) ** 2)).sum(axis=1).max()))
            closer_SL = _near(distance_SL, reach)
            changed = (closer_SL != (weight_SL > 0)).any(axis=1)
            if not changed.any():
                break
            weight_SL = closer_SL[changed].astype(np.float64)
    shares = dict(zip(thresholds.tolist(), counts / total, strict=True))
    ts, ha = (float(np.mean([shares[t] for t in of])) for of in (GDT_TS, GDT_HA))
    return Superposed(ts, ha, tm / total)


def _fragments(length: int) -> NDArray[np.float64]:
    """Return weights that select segments: the whole chain, halves, quarters, down to four residues."""
    rows = []
    size = length
    while True:
        last = length - size
        for start in np.unique(np.linspace(0, last, min(last + 1, STARTS)).round().astype(int)):
            row = np.zeros(length)
            row[start : start + size] = 1
            rows.append(row)
        if size <= SHORTEST:
            return np.stack(rows)
        size = max(SHORTEST, size // 2)


def _near(distance_SL: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Return residues within a distance, which is increased until it includes three."""
    third = np.partition(distance_SL, 2, axis=1)[:, 2]
    return np.asarray(distance_SL <= np.maximum(reach, third)[:, None])


def lddt(model: Coords, native: Coords) -> NDArray[np.float64]:
    """Return the lDDT of each residue from C-alphas: share of native distances that the model preserves.

    Parameters
    ----------
    model, native : ndarray, float, shape (L, 3)
        As in `superposed_scores`; all distances up to 15 angstrom in the native are used, at any separation
        along the chain.

    Returns
    -------
    ndarray, float64, shape (L,)
        Mean over thresholds of .5, 1, 2 and 4 angstrom; NaN for a residue without neighbours in that radius.

    Raises
    ------
    ProtembError
        See `superposed_scores`.
    """
    model, native = checked(model, native)
    there = cdist(native, native)
    counted = (there < RADIUS) & ~np.eye(len(native), dtype=np.bool_)
    off = np.abs(cdist(model, model) - there)
    kept = np.mean([(off < threshold) & counted for threshold in LDDT], axis=0).sum(axis=1)
    pairs = counted.sum(axis=1)
    return np.asarray(np.where(pairs > 0, kept / np.maximum(pairs, 1), np.nan))


def checked(model: Coords, native: Coords) -> tuple[Coords, Coords]:
    """Return both in double precision, centred separately.

    Raises
    ------
    ProtembError
        If they cannot be compared.
    """
    model, native = np.asarray(model, dtype=np.float64), np.asarray(native, dtype=np.float64)
    if model.shape != native.shape or model.ndim != 2 or model.shape[1] != 3:
        raise ProtembError(
            f"model {model.shape} and native {native.shape}: pass (L, 3) each, of the shared residues"
        )
    if len(native) < 3:
        raise ProtembError(f"model and native share {len(native)} residues; at least 3 are required")
    if not (np.isfinite(model).all() and np.isfinite(native).all()):
        raise ProtembError("a coordinate of the model or of its native is not finite")
    return model - model.mean(axis=0), native - native.mean(axis=0)
