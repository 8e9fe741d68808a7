"""Fold retrieval of a frozen encoder with the linear map of the protein vector, on validation chains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protemb_train.corpus.corpus import Corpus
from protemb_train.encoders.vectors import VectorEncoder
from protemb_train.evaluate.measures import Measure, mean_of
from protemb_train.protein_vector.alignment import SAME_FOLD
from protemb_train.protein_vector.features import features_of
from protemb_train.protein_vector.linear_map import alike_chains, fit_map
from protemb_train.protein_vector.pairs import read_pairs
from protemb_train.protein_vector.retrieval import (
    Retrieved,
    TMScores,
    align_likely,
    retrieval_task,
    retrieved,
)

WIDTHS = (128, 256)


def fold_retrieval(
    encoder: VectorEncoder | None,
    corpus: Path,
    pairs: Path,
    cache: Path,
    *,
    queries: int,
    chains: int,
    fitted: int | None = None,
    widths: Sequence[int] = WIDTHS,
) -> dict[str, Measure]:
    """Fit the linear map on training chains, and return what it finds on validation chains, by width.

    Parameters
    ----------
    encoder : VectorEncoder or None
        None: the course of the chain alone.
    corpus, pairs : Path
        Corpus, and file of `protemb-train pairs`.
    cache : Path
        Folder of features and TM-scores.
    queries, chains : int
        As in `retrieval_task`.
    fitted : int, optional
        Chains with a pair, and with a relative, that the map is fitted on, at most each.
    widths : sequence of int
        Of the protein vector; those wider than the features are left out.

    Returns
    -------
    dict of str to Measure
        For each width, as "mean_tm, 128": the mean TM-score of the first ten hits; the same of the first hit;
        and the share of queries whose first hit scores above .5, of those where such a chain is known.
    """
    task = retrieval_task(corpus, queries, chains)
    tm = TMScores(task, cache / "tm.npz")
    align_likely(task, tm)
    training = Corpus(corpus, ["train"])
    alike = alike_chains(training, read_pairs(pairs), fitted)
    learnt = features_of(encoder, [training[int(p)] for p in alike.positions], cache)
    searched = features_of(encoder, task.traces, cache)
    measures = {}
    for width in widths:
        if width <= learnt.shape[1] or width == min(widths):
            found = fit_map(learnt, alike.clusters, alike.pairs, width)
            hits = retrieved(task, found(searched), tm)
            measures |= {f"{name}, {width}": m for name, m in _measures(hits).items()}
    return measures


def _measures(hits: Retrieved) -> dict[str, Measure]:
    findable = hits.best_first > SAME_FOLD
    return {
        "mean_tm": mean_of(hits.mean),
        "first_tm": mean_of(hits.first),
        "first_fold": mean_of(hits.first > SAME_FOLD, findable),
        "best_mean_tm": mean_of(hits.best_mean),
    }
