"""Calibration of predicted lDDT and GDT_TS: a monotone function of each, fitted to held-out models.

Networks that are trained mostly on poor models predict values that are too low for good ones. Here every
tenth of true quality has the same weight. The order of models is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL, Decoy
from protemb_train.downstream.quality.training import Predicted

OUTPUTS = ("residue lDDT", "lDDT", "GDT_TS")
LIMIT = 1e-4
"""Predictions are limited to LIMIT and 1 - LIMIT before the logit is taken."""
BANDS = 10
FOLDS = 2

Floats = NDArray[np.floating]
Weights = list[tuple[float, float]]
"""Slope and offset of the logit of each of OUTPUTS."""


def fit_calibration(decoys: Sequence[Decoy], values: Predicted) -> Weights:
    """Return slopes and offsets, by logistic regression with the true values as soft labels.

    Parameters
    ----------
    decoys : sequence of Decoy
        Models that the networks were not trained on.
    values : Predicted
        Predictions for them.
    """
    true, predicted = _outputs(decoys, values)
    return [_fitted(t, p) for t, p in zip(true, predicted, strict=True)]


def calibrate(values: Predicted, weights: Weights) -> Predicted:
    """Return calibrated predictions; CAD-scores are not changed."""
    quality = values.quality.copy()
    for name, of in (("lddt", weights[1]), ("gdt_ts", weights[2])):
        k = GLOBAL.index(name)
        quality[:, k] = _applied(quality[:, k], of)
    local = []
    for residue in values.residue_quality:
        changed = residue.copy()
        changed[:, LOCAL.index("lddt")] = _applied(residue[:, LOCAL.index("lddt")], weights[0])
        local.append(changed)
    return Predicted(quality, local)


def cross_calibrated(decoys: Sequence[Decoy], values: Predicted) -> Predicted:
    """Return predictions, each calibrated on models of other targets, to evaluate the calibration."""
    targets = sorted({d.target for d in decoys})
    fold_of = {target: n % FOLDS for n, target in enumerate(targets)}
    fold = np.array([fold_of[d.target] for d in decoys])
    quality, local = values.quality.copy(), list(values.residue_quality)
    for n in range(FOLDS):
        rest, held = (np.flatnonzero(side).tolist() for side in (fold != n, fold == n))
        if not (rest and held):
            continue
        weights = fit_calibration([decoys[k] for k in rest], values.of(rest))
        changed = calibrate(values.of(held), weights)
        quality[held] = changed.quality
        for k, residue in zip(held, changed.residue_quality, strict=True):
            local[k] = residue
    return Predicted(quality, local)


def _outputs(decoys: Sequence[Decoy], values: Predicted) -> tuple[list[Floats], list[Floats]]:
    """Return true and predicted values of each of OUTPUTS, without those that are not known."""
    k = LOCAL.index("lddt")
    true = [np.concatenate([d.residue_quality[:, k] for d in decoys])]
    predicted = [np.concatenate([v[:, k] for v in values.residue_quality])]
    for name in ("lddt", "gdt_ts"):
        true.append(np.array([d.quality[GLOBAL.index(name)] for d in decoys]))
        predicted.append(values.quality[:, GLOBAL.index(name)])
    known = [np.isfinite(t) for t in true]
    true, predicted = ([v[k] for v, k in zip(side, known, strict=True)] for side in (true, predicted))
    return true, predicted


def _logit(values: NDArray[np.floating]) -> Floats:
    inside = np.clip(np.asarray(values, dtype=np.float64), LIMIT, 1 - LIMIT)
    return np.asarray(np.log(inside / (1 - inside)))


def _applied(values: NDArray[np.floating], of: tuple[float, float]) -> NDArray[np.float32]:
    slope, offset = of
    return np.asarray(1 / (1 + np.exp(-(slope * _logit(values) + offset))), dtype=np.float32)


def _fitted(true: Floats, predicted: Floats) -> tuple[float, float]:
    band = np.minimum((true * BANDS).astype(int), BANDS - 1)
    weight = 1 / np.bincount(band, minlength=BANDS)[band]
    x = np.tile(_logit(predicted), 2)[:, None]
    label = np.repeat([1, 0], len(true))
    found = LogisticRegression(C=np.inf).fit(x, label, np.concatenate([weight * true, weight * (1 - true)]))
    return float(found.coef_[0, 0]), float(found.intercept_[0])
