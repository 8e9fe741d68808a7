"""Calibration of predicted lDDT and GDT_TS: a function of each and of the length, fitted to held-out models.

Networks that are trained mostly on poor models predict values that are too low for good ones, and for short
chains. Here good models have together the weight `GOOD_WEIGHT`, because most models that people have today
are good. Among them each model has the same weight; below `GOOD` each tenth of true quality has. The order of
models of one length is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from protemb_train.downstream.common.calibration import calibration_features
from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL, Decoy
from protemb_train.downstream.quality.training import Predicted

OUTPUTS = ("residue_lddt", "lddt", "gdt_ts")
LIMIT = 1e-4
"""Predictions are limited to LIMIT and 1 - LIMIT before the logit is taken."""
BANDS = 10
GOOD, GOOD_WEIGHT = 7, 0.7
"""Tenth of true quality from which models are good, and their share of all weights. With equal weights of
all tenths the bias of GDT_TS is -.083 for good models and +.076 below .3; with these -.028 and +.087,
and with natives among the models -.021 and +.08."""
FOLDS = 2

Weights = list[tuple[float, float, float, float]]
"""For each of OUTPUTS, weights of the logit, of the logarithm of the length and of their product; offset."""


def fit_calibration(decoys: Sequence[Decoy], values: Predicted) -> Weights:
    """Return the weights, by logistic regression with the true values as soft labels.

    Parameters
    ----------
    decoys : sequence of Decoy
        Models that the networks were not trained on.
    values : Predicted
        Predictions for them.
    """
    length = np.array([len(d) for d in decoys], dtype=np.float64)
    k = LOCAL.index("lddt")
    outputs = [
        (
            np.concatenate([d.residue_quality[:, k] for d in decoys]),
            np.concatenate([v[:, k] for v in values.residue_quality]),
            np.repeat(length, length.astype(int)),
        )
    ]
    for name in OUTPUTS[1:]:
        k = GLOBAL.index(name)
        outputs.append((np.array([d.quality[k] for d in decoys]), values.quality[:, k], length))
    return [_fitted(*output) for output in outputs]


def calibrate(values: Predicted, weights: Weights) -> Predicted:
    """Return calibrated predictions; other scores are not changed."""
    length = np.array([len(residue) for residue in values.residue_quality], dtype=np.float64)
    quality = values.quality.copy()
    for name, of in zip(OUTPUTS[1:], weights[1:], strict=True):
        k = GLOBAL.index(name)
        quality[:, k] = _applied(quality[:, k], length, of)
    local = []
    k = LOCAL.index("lddt")
    for residue in values.residue_quality:
        changed = residue.copy()
        changed[:, k] = _applied(residue[:, k], np.full(len(residue), len(residue)), weights[0])
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


def _features(values: NDArray[np.floating], length: NDArray[np.number]) -> NDArray[np.float64]:
    inside = np.clip(np.asarray(values, dtype=np.float64), LIMIT, 1 - LIMIT)
    logit = torch.from_numpy(np.log(inside / (1 - inside)))
    return calibration_features(logit, torch.from_numpy(np.asarray(length, dtype=np.float64))).numpy()


def _applied(
    values: NDArray[np.floating], length: NDArray[np.number], of: Sequence[float]
) -> NDArray[np.float32]:
    z = _features(values, length) @ np.array(of[:-1]) + of[-1]
    return np.asarray(1 / (1 + np.exp(-z)), dtype=np.float32)


def _fitted(
    true: NDArray[np.floating], predicted: NDArray[np.floating], length: NDArray[np.number]
) -> tuple[float, float, float, float]:
    known = np.isfinite(true)
    true, predicted, length = (np.asarray(v[known], dtype=np.float64) for v in (true, predicted, length))
    band = np.minimum((true * BANDS).astype(int), BANDS - 1)
    count = np.bincount(band, minlength=BANDS)
    count[GOOD:] = count[GOOD:].sum()
    share = np.where(np.arange(BANDS) < GOOD, (1 - GOOD_WEIGHT) / GOOD, GOOD_WEIGHT)
    weight = len(true) * (share / np.maximum(count, 1))[band]
    x, label = np.tile(_features(predicted, length), (2, 1)), np.repeat([1, 0], len(true))
    found = LogisticRegression(C=np.inf).fit(x, label, np.concatenate([weight * true, weight * (1 - true)]))
    a, b, c = found.coef_[0].tolist()
    return a, b, c, float(found.intercept_[0])
