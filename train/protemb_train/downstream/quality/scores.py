"""Scores of predicted quality, as in GraphQA (doi:10.1093/bioinformatics/btaa714).

They compare GDT_TS, lDDT or CAD of decoys or of residues; entries without a true score (NaN) are excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from protemb_sdk import ProtembError

BEST = 5
"""Number of top-ranked decoys in FRL5."""


@dataclass(frozen=True, slots=True)
class DecoyScores:
    """Scores of decoys: rmse and r over all decoys, the others as means over targets.

    Parameters
    ----------
    rmse : float
        Root mean squared error.
    r, r_target : float
        Pearson correlation over all decoys, and within a target.
    z : float
        z-score (population standard deviation) of the top-ranked decoy within its target.
    frl, frl5 : float
        First rank loss: difference between the target's best decoy and the top-ranked one, or the best of the
        five top-ranked ones.
    """

    rmse: float
    r: float
    r_target: float
    z: float
    frl: float
    frl5: float


def decoy_scores(
    true: NDArray[np.floating], predicted: NDArray[np.floating], target: NDArray[np.generic]
) -> DecoyScores:
    """Score predictions of decoys.

    Parameters
    ----------
    true, predicted : ndarray, float, shape (N,)
        Score of each decoy; NaN in `true` excludes it.
    target : ndarray, shape (N,)
        Target of each decoy. Targets with one decoy, or with equal true scores, have no correlation and no
        z-score and are excluded from those means.

    Raises
    ------
    ProtembError
        If lengths differ, a prediction is not finite, or fewer than two decoys have a true score.
    """
    if not len(true) == len(predicted) == len(target):
        raise ProtembError(
            f"{len(true)} true scores, {len(predicted)} predictions and {len(target)} targets; "
            "the numbers must be equal"
        )
    known = np.isfinite(true)
    a, b, target = true[known].astype(np.float64), predicted[known].astype(np.float64), target[known]
    _check(b, "decoys")
    groups = [np.flatnonzero(target == name) for name in np.unique(target)]
    # Stable, so that the first of equal predictions is used, as in argmax.
    ranked = [group[np.argsort(-b[group], kind="stable")] for group in groups]
    losses = [a[group].max() - a[group] for group in ranked]
    correlations = [_pearson(a[group], b[group]) for group in groups]
    varied = [group for group in ranked if a[group].std() > 0]
    z = [float((a[g[0]] - a[g].mean()) / a[g].std()) for g in varied]
    return DecoyScores(
        rmse=float(np.sqrt(np.square(a - b).mean())),
        r=_pearson(a, b),
        r_target=_mean(correlations),
        z=_mean(z),
        frl=float(np.mean([loss[0] for loss in losses])),
        frl5=float(np.mean([loss[:BEST].min() for loss in losses])),
    )


@dataclass(frozen=True, slots=True)
class ResidueScores:
    """Spearman correlation over all residues, and the mean of the correlations within each decoy."""

    rho: float
    rho_decoy: float


def residue_scores(
    true: Sequence[NDArray[np.floating]], predicted: Sequence[NDArray[np.floating]]
) -> ResidueScores:
    """Score predictions of residues.

    Parameters
    ----------
    true, predicted : sequence of ndarray, float, shape (L,)
        Scores of each decoy's residues; NaN in `true` excludes a residue.

    Raises
    ------
    ProtembError
        If lengths differ, a prediction is not finite, or fewer than two residues have a true score.
    """
    pairs = []
    for n, (of_true, of_predicted) in enumerate(zip(true, predicted, strict=True)):
        if len(of_true) != len(of_predicted):
            raise ProtembError(f"decoy {n}: {len(of_true)} true scores and {len(of_predicted)} predictions")
        known = np.isfinite(of_true)
        pairs.append((of_true[known].astype(np.float64), of_predicted[known].astype(np.float64)))
    pooled = [np.concatenate(side) for side in zip(*pairs, strict=True)] if pairs else [np.zeros(0)] * 2
    _check(pooled[1], "residues")
    return ResidueScores(_spearman(*pooled), _mean([_spearman(*pair) for pair in pairs]))


def _check(predicted: NDArray[np.float64], what: str) -> None:
    """Raise an error if predictions are not finite or fewer than two."""
    if not np.isfinite(predicted).all():
        raise ProtembError(f"{(~np.isfinite(predicted)).sum()} predictions are not finite")
    if len(predicted) < 2:
        raise ProtembError(f"{len(predicted)} {what} have a true score; at least 2 are required")


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.pearsonr(a, b).statistic)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return _pearson(stats.rankdata(a), stats.rankdata(b))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
