"""Confidence intervals: scores of a row on bootstrap samples of the test chains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protemb_train.downstream.common.metrics import best_f_threshold
from protemb_train.downstream.sites.rows import SavedSeed

DRAWS = 1000


def drawn_scores(row: Sequence[SavedSeed]) -> dict[str, NDArray[np.float64]]:
    """Return AUPRC and MCC (clean) of a row, averaged over its seeds, for each sample of test chains.

    The samples depend only on the number of chains: rows on the same chains can be subtracted.

    Parameters
    ----------
    row : sequence of SavedSeed
        Seeds of the row, all on the same test chains.

    Returns
    -------
    dict of str to ndarray, shape (DRAWS,)
        "auprc" and "mcc"; NaN where a sample has only one class.
    """
    chains = len(row[0].test_id)
    drawn = np.random.default_rng(0).integers(0, chains, (DRAWS, chains))
    counts = np.stack([np.bincount(draw, minlength=chains) for draw in drawn])
    return {
        "auprc": np.mean(
            [
                average_precisions(kept.test_label, kept.test_probability, kept.test_length, counts)
                for kept in row
            ],
            axis=0,
        ),
        "mcc": np.mean([_correlations(kept, counts) for kept in row], axis=0),
    }


def average_precisions(
    label: NDArray[np.bool_],
    probability: NDArray[np.floating],
    lengths: NDArray[np.int64],
    counts: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return the area under the precision-recall curve for each sample of chains.

    Equals scikit-learn's average_precision_score with sample weights, but residues are sorted only once.

    Parameters
    ----------
    label, probability : ndarray, shape (residues,)
        Values of all chains, concatenated.
    lengths : ndarray, int64, shape (N,)
        Residues of each chain.
    counts : ndarray, shape (draws, N)
        Number of times each sample contains each chain.

    Returns
    -------
    ndarray, shape (draws,)
        NaN where a sample has no positive residue.
    """
    order = np.argsort(-probability, kind="stable")
    sorted_label, chain = label[order], np.repeat(np.arange(len(lengths)), lengths)[order]
    ties = np.append(np.diff(probability[order]) != 0, True)  # the last of equal predictions
    found = np.full(len(counts), np.nan)
    for n, count in enumerate(counts):
        weight = count[chain]
        true = np.cumsum(weight * sorted_label)[ties]
        if true[-1] > 0:
            precision = true / np.maximum(np.cumsum(weight)[ties], 1)
            found[n] = np.sum(np.diff(true, prepend=0) * precision) / true[-1]
    return found


def _correlations(kept: SavedSeed, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Matthews correlation at the validation threshold, from the confusion matrix of each chain."""
    threshold = best_f_threshold(kept.validation_label, kept.validation_probability)
    called, label = kept.test_probability >= threshold, kept.test_label
    starts = np.cumsum(kept.test_length) - kept.test_length
    tables = [called & label, called & ~label, ~called & label, ~called & ~label]
    tp, fp, fn, tn = (counts @ np.add.reduceat(table.astype(np.float64), starts) for table in tables)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((tp * tn - fp * fn) / np.sqrt(product))
