"""Scores of a probe on held-out chains, and their confidence intervals by bootstrap over chains.

A score is stored as sums per chain, so that a resampled set of chains is a row of weights. Shapes: N chains,
K classes, B bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import confusion_matrix

Floats = NDArray[np.float64]


class Scores(Protocol):
    """Interface of the scores of both kinds of labels."""

    def values(self, weight_BN: Floats) -> dict[str, Floats]:
        """Return each score for each row of weights, shape (B,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Accuracy, macro-F1 and likelihood of a classifier.

    Parameters
    ----------
    confusion_NKK : ndarray
        Number of residues by true class (rows) and predicted class, per chain.
    log_likelihood_N : ndarray
        Sum of the log-probability of the true class, in nats, per chain.
    """

    confusion_NKK: Floats
    log_likelihood_N: Floats

    @classmethod
    def of(cls, truth: Sequence[NDArray[np.int64]], log_probability: Sequence[Floats]) -> ClassScores:
        """Return the sums over chains from (L,) true classes and (L, K) log-probabilities."""
        kinds = np.arange(log_probability[0].shape[1])
        confusion = [
            confusion_matrix(t, p.argmax(axis=1), labels=kinds)
            for t, p in zip(truth, log_probability, strict=True)
        ]
        likelihood = [p[np.arange(len(t)), t].sum() for t, p in zip(truth, log_probability, strict=True)]
        return cls(np.array(confusion, dtype=np.float64), np.array(likelihood))

    def values(self, weight_BN: Floats) -> dict[str, Floats]:
        confusion_BKK = np.tensordot(weight_BN, self.confusion_NKK, axes=1)
        residues_B = confusion_BKK.sum(axis=(1, 2))
        hits_BK = np.diagonal(confusion_BKK, axis1=1, axis2=2)
        true_BK, predicted_BK = confusion_BKK.sum(axis=2), confusion_BKK.sum(axis=1)
        f1_BK = 2 * hits_BK / np.maximum(true_BK + predicted_BK, 1)
        likelihood_B = weight_BN @ self.log_likelihood_N / residues_B
        return {
            "accuracy": hits_BK.sum(axis=1) / residues_B,
            "macro_f1": f1_BK.mean(axis=1),
            "log_likelihood": likelihood_B,
            "perplexity": np.exp(-likelihood_B),
        }


@dataclass(frozen=True, slots=True, eq=False)
class NumberScores:
    """R2 over all residues, and Spearman's correlation within each chain, averaged over chains.

    Parameters
    ----------
    count_N, sum_N, squares_N : ndarray
        Number of residues, and sum and sum of squares of the true values, per chain.
    error_N : ndarray
        Sum of squared errors per chain.
    spearman_N : ndarray
        Correlation per chain; 0 if the prediction is constant.
    """

    count_N: Floats
    sum_N: Floats
    squares_N: Floats
    error_N: Floats
    spearman_N: Floats

    @classmethod
    def of(cls, truth: Sequence[Floats], prediction: Sequence[Floats]) -> NumberScores:
        """Return the sums over chains from (L,) arrays."""
        pairs = list(zip(truth, prediction, strict=True))
        return cls(
            np.array([len(t) for t in truth], dtype=np.float64),
            np.array([t.sum() for t in truth]),
            np.array([np.square(t).sum() for t in truth]),
            np.array([np.square(t - p).sum() for t, p in pairs]),
            np.array([_spearman(t, p) for t, p in pairs]),
        )

    def values(self, weight_BN: Floats) -> dict[str, Floats]:
        count_B, sum_B = weight_BN @ self.count_N, weight_BN @ self.sum_N
        spread_B = weight_BN @ self.squares_N - sum_B**2 / count_B
        return {
            "r2": 1 - weight_BN @ self.error_N / np.maximum(spread_B, 1e-12),
            "spearman": weight_BN @ self.spearman_N / weight_BN.sum(axis=1),
        }


def _spearman(truth: Floats, prediction: Floats) -> float:
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(truth), rankdata(prediction))[0, 1])


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95% confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return plain values, rounded."""
        return {name: round(getattr(self, name), 4) for name in ("value", "low", "high")}


def resampled(chains: int, samples: int, seed: int) -> Floats:
    """Return weights of all chains once (first row) and of bootstrap samples: shape (1 + samples, N)."""
    drawn = np.random.default_rng(seed).multinomial(chains, np.full(chains, 1 / chains), size=samples)
    return np.concatenate([np.ones((1, chains)), drawn])


def intervals(scores: Scores, weight_BN: Floats, minus: Scores | None = None) -> dict[str, Interval]:
    """Return each score, or its paired difference to another row's, with its interval.

    Parameters
    ----------
    scores, minus : ClassScores or NumberScores
        Scores on the same chains.
    weight_BN : ndarray
        Result of `resampled`.
    """
    found = scores.values(weight_BN)
    if minus is not None:
        other = minus.values(weight_BN)
        found = {name: value - other[name] for name, value in found.items()}
    return {
        name: Interval(float(value[0]), *(float(q) for q in np.quantile(value[1:], [0.025, 0.975])))
        for name, value in found.items()
    }
