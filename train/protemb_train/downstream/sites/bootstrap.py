"""How sure a score is: scores of a row on test chains drawn again and again, with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protemb_train.downstream.common.metrics import best_f_threshold
from protemb_train.downstream.sites.rows import Kept

DRAWS = 1000


def drawn_scores(row: Sequence[Kept]) -> dict[str, NDArray[np.float64]]:
    """Return AUPRC and MCC (clean) of a row, the mean over its seeds, in each draw of its test chains.

    The draws are a function of the number of chains: rows on the same chains can be subtracted.

    Parameters
    ----------
    row : sequence of Kept
        Its seeds, all on the same test chains.

    Returns
    -------
    dict of str to ndarray, shape (DRAWS,)
        "auprc" and "mcc"; NaN where a draw holds one class alone.
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
    """Return the area under the precision-recall curve in each draw of chains.

    It is scikit-learn's average_precision_score with residues weighted by draws, sorted once for all of them.

    Parameters
    ----------
    label, probability : ndarray, shape (residues,)
        Of all chains, one after the other.
    lengths : ndarray, int64, shape (N,)
        Residues of each chain.
    counts : ndarray, shape (draws, N)
        How often each draw holds each chain.

    Returns
    -------
    ndarray, shape (draws,)
        NaN where a draw holds no positive residue.
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


def _correlations(kept: Kept, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Matthews correlation at the threshold of validation, from the table of each chain."""
    threshold = best_f_threshold(kept.validation_label, kept.validation_probability)
    called, label = kept.test_probability >= threshold, kept.test_label
    starts = np.cumsum(kept.test_length) - kept.test_length
    tables = [called & label, called & ~label, ~called & label, ~called & ~label]
    tp, fp, fn, tn = (counts @ np.add.reduceat(table.astype(np.float64), starts) for table in tables)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((tp * tn - fp * fn) / np.sqrt(product))
