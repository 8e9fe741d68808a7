"""Fold retrieval of a frozen encoder with the linear map of the protein vector, on validation chains."""

from __future__ import annotations

from pathlib import Path

from protemb_train.encoders.vectors import VectorEncoder
from protemb_train.evaluate.measures import Measure, mean_of
from protemb_train.protein_vector.alignment import SAME_FOLD
from protemb_train.protein_vector.fitting import maps_and_hits


def fold_retrieval(
    encoder: VectorEncoder | None,
    corpus: Path,
    pairs: Path,
    cache: Path,
    *,
    queries: int,
    chains: int,
    fitted: int | None = None,
) -> dict[str, Measure]:
    """Fit the linear map on training chains, and return its scores on validation chains, by width.

    Parameters are those of `maps_and_hits`.

    Returns
    -------
    dict of str to Measure
        For each width, as "mean_tm, 128": the mean TM-score of the first ten hits (`mean_tm`), of the first
        (`first_tm`), the share of queries whose first hit has a TM-score above .5, among those where such a
        chain is known (`first_fold`), and the mean TM-score of the ten best known (`best_mean_tm`).
    """
    measures: dict[str, Measure] = {}
    for fitted_map, hits in maps_and_hits(
        encoder, corpus, pairs, cache, fitted=fitted, queries=queries, chains=chains
    ):
        of_width = {
            "mean_tm": mean_of(hits.mean),
            "first_tm": mean_of(hits.first),
            "first_fold": mean_of(*(1.0 * (tm > SAME_FOLD) for tm in (hits.first, hits.best_first))),
            "best_mean_tm": mean_of(hits.best_mean),
        }
        width = fitted_map.matrix.shape[1]
        measures |= {f"{name}, {width}": measure for name, measure in of_width.items()}
    return measures
