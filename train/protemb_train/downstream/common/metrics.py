"""Scores of a two-class prediction, by scikit-learn, and the threshold with the best F-measure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from protemb_sdk import ProtembError


@dataclass(frozen=True, slots=True)
class BinaryScores:
    """ACC, precision, recall, F-measure and MCC at a threshold; areas under the two curves."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    mcc: float
    auprc: float
    auroc: float
    threshold: float

    def as_dict(self) -> dict[str, float]:
        """Return plain values."""
        return asdict(self)


def checked(label: NDArray[np.bool_], probability: NDArray[np.floating]) -> None:
    """Check that labels have both classes and that every probability is finite.

    Raises
    ------
    ProtembError
        If they do not.
    """
    if label.shape != probability.shape:
        raise ProtembError(
            f"{len(label)} labels and {len(probability)} predictions; the numbers must be equal"
        )
    if not np.isfinite(probability).all():
        raise ProtembError(f"{(~np.isfinite(probability)).sum()} of {len(label)} predictions are not finite")
    if label.all() or not label.any():
        raise ProtembError("the labels have only one class, which cannot be scored")


def best_f_threshold(label: NDArray[np.bool_], probability: NDArray[np.floating]) -> float:
    """Return the threshold with the best F-measure; residues at or above it are predicted sites.

    Raises
    ------
    ProtembError
        If there is only one class, or a prediction is not finite.
    """
    checked(label, probability)
    precision, recall, threshold = metrics.precision_recall_curve(label, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(threshold[f1[:-1].argmax()])


def binary_scores(
    label: NDArray[np.bool_], probability: NDArray[np.floating], threshold: float | NDArray[np.floating]
) -> BinaryScores:
    """Return every score of a prediction.

    Parameters
    ----------
    label : ndarray, bool, shape (N,)
        True labels.
    probability : ndarray, float, shape (N,)
        Predictions; the areas depend only on their order.
    threshold : float or ndarray, float, shape (N,)
        Values at or above it are predicted positive. Of several thresholds the median is returned.

    Raises
    ------
    ProtembError
        If there is only one class, or a prediction is not finite.
    """
    checked(label, probability)
    predicted = probability >= threshold
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        label, predicted, average="binary", zero_division=0
    )
    return BinaryScores(
        accuracy=float(metrics.accuracy_score(label, predicted)),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        mcc=float(metrics.matthews_corrcoef(label, predicted)),
        auprc=float(metrics.average_precision_score(label, probability)),
        auroc=float(metrics.roc_auc_score(label, probability)),
        threshold=float(np.median(threshold)),
    )
