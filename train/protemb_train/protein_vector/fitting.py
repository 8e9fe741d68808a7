"""Fitting of the linear map of an encoder, and its fold retrieval on validation chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from protemb_train.corpus.corpus import Corpus
from protemb_train.encoders.vectors import VectorEncoder
from protemb_train.protein_vector.features import features_of, make_folder
from protemb_train.protein_vector.linear_map import LinearMap, fit_map, similar_chains
from protemb_train.protein_vector.pairs import read_pairs
from protemb_train.protein_vector.retrieval import (
    Retrieved,
    TMScores,
    align_likely,
    retrieval_task,
    retrieved,
)

WIDTHS = (128, 256)
"""Candidate widths of the protein vector."""


def maps_and_hits(
    encoder: VectorEncoder | None,
    corpus: Path,
    pairs: Path,
    cache: Path,
    *,
    widths: Sequence[int] = WIDTHS,
    fitted: int | None = None,
    queries: int,
    chains: int,
) -> list[tuple[LinearMap, Retrieved]]:
    """Fit the map on training chains, and search validation chains with it, for each width.

    Parameters
    ----------
    encoder : VectorEncoder or None
        None for `segment_distances` alone.
    corpus, pairs : Path
        Corpus, and file of `protemb-train pairs`.
    cache : Path
        Cache folder of features and TM-scores.
    widths : sequence of int
        Widths of the protein vector: at most the number of features, and less than the number of chains.
    fitted : int, optional
        Largest numbers of chains with a pair, and with a relative, used for fitting; all by default.
    queries, chains : int
        As in `retrieval_task`.
    """
    make_folder(cache)
    task = retrieval_task(corpus, queries, chains)
    tm = TMScores(task, cache / "tm.npz")
    align_likely(task, tm)
    training = Corpus(corpus, ["train"])
    alike = similar_chains(training, read_pairs(pairs), fitted)
    features = features_of(encoder, [training[int(p)] for p in alike.positions], cache)
    searched = features_of(encoder, task.traces, cache)
    record = {
        "encoder": {"encoder": "course of the chain"} if encoder is None else encoder.about,
        "vectors": [] if encoder is None else list(encoder.structural),
        "corpus_sha256": training.sha256,
    }
    found = []
    most = min(features.shape[1], len(features) - 1)
    for width in sorted({min(width, most) for width in widths}):
        fitted_map = fit_map(features, alike.clusters, alike.pairs, width, record)
        found.append((fitted_map, retrieved(task, fitted_map(searched), tm)))
    return found


def fit_and_evaluate(
    encoder: VectorEncoder,
    corpus: Path,
    pairs: Path,
    cache: Path,
    *,
    width: int | None = None,
    fitted: int | None = None,
    queries: int,
    chains: int,
    say: Callable[[str], None] = lambda line: None,
) -> LinearMap:
    """Return the map of an encoder; of several widths, the one with the best mean score of ten hits.

    Parameters as in `maps_and_hits`; its scores on validation chains are in the record of the map.
    """
    best: tuple[LinearMap, Retrieved] | None = None
    for fitted_map, hits in maps_and_hits(
        encoder,
        corpus,
        pairs,
        cache,
        widths=WIDTHS if width is None else [width],
        fitted=fitted,
        queries=queries,
        chains=chains,
    ):
        say(
            f"width {fitted_map.matrix.shape[1]}: mean TM-score of the first ten hits "
            f"{hits.mean.mean():.3f}, of the first {hits.first.mean():.3f}; of the ten best known "
            f"{hits.best_mean.mean():.3f}"
        )
        if best is None or hits.mean.mean() > best[1].mean.mean():
            best = fitted_map, hits
    assert best is not None  # at least one width
    chosen, hits = best
    validation = {
        "queries": len(hits.first),
        "chains": chains,
        "mean_tm": round(float(hits.mean.mean()), 4),
        "first_tm": round(float(hits.first.mean()), 4),
        "best_mean_tm": round(float(hits.best_mean.mean()), 4),
    }
    return LinearMap(chosen.matrix, chosen.bias, {**chosen.record, "validation": validation})
