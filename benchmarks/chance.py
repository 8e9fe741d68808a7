"""E-values of `protemb search`: the distribution of TM-scores of unrelated chains, fitted and tested.

    python benchmarks/chance.py CORPUS.arrow -o benchmarks/chance.md

Prints the constants of `protemb_sdk._search.chance`. Ten minutes on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import processor
from benchmarks.search_data import chains
from protemb_sdk import Chain
from protemb_sdk._search.chance import USUAL, p_value
from protemb_sdk._search.superpose import superpose_chains
from protemb_train.corpus.corpus import Corpus

LENGTHS = (25, 600)
CENSORED = 0.1
"""Share of the highest scores that is not fitted: some of these chains do have the same fold."""
P_VALUES = (0.5, 0.1, 0.01, 0.001)
BANDS = ((25, 60), (60, 100), (100, 200), (200, 600))
"""Lengths of the shorter chain."""

Pairs = list[tuple[Chain, Chain]]


def unrelated_pairs(corpus: Corpus, count: int) -> Pairs:
    """Return random pairs of chains of different 30% clusters, each cluster with one chain."""
    structures, rng = chains(corpus), np.random.default_rng(0)
    usable = corpus.one_per_cluster(len(corpus), LENGTHS, 0)
    drawn = [rng.choice(usable, 2, replace=False) for _ in range(count)]
    return [(structures[one], structures[other]) for one, other in drawn]


def related_pairs(corpus: Corpus) -> Pairs:
    """Return one pair of each 30% cluster."""
    structures = chains(corpus)
    mates: dict[int, list[Chain]] = {}
    for cluster, chain in zip(corpus.clusters.tolist(), structures, strict=True):
        if LENGTHS[0] <= len(chain) <= LENGTHS[1]:
            mates.setdefault(cluster, []).append(chain)
    return [(found[0], found[1]) for found in mates.values() if len(found) > 1]


def scores_of(pairs: Pairs) -> NDArray[np.float64]:
    """Return the TM-score of each pair, mean of both normalisations."""
    found = [superpose_chains(one.ca_coords, other.ca_coords) for one, other in pairs]
    return np.array([one.tm_score for one in found])


def lengths_of(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lengths of the shorter and the longer chains."""
    short, long = np.sort([(len(one), len(other)) for one, other in pairs], axis=1).T
    return short, long


def fitted(pairs: Pairs) -> NDArray[np.float64]:
    """Fit the distribution of `protemb_sdk._search.chance` to pairs of unrelated chains.

    Maximum likelihood; scores above the 90th percentile of the fitted distribution are censored.

    Returns
    -------
    ndarray, shape (6,)
        Its LOCATION and LOG_SCALE.
    """
    short, long = lengths_of(pairs)
    features = np.stack([np.ones(len(pairs)), np.log(short / USUAL), np.log(long / short)], axis=1)
    score = scores_of(pairs)
    censored_from = -np.log(-np.log(1 - CENSORED))  # in units of the scale
    weights = np.array([0.25, 0.0, 0.0, np.log(0.03), 0.0, 0.0])
    for _ in range(30):
        cut = features @ weights[:3] + censored_from * np.exp(features @ weights[3:])

        def loss(w: NDArray[np.float64], cut: NDArray[np.float64] = cut) -> float:
            log_scale = features @ w[3:]
            z = (np.minimum(score, cut) - features @ w[:3]) / np.exp(log_scale)
            above = -np.log(np.maximum(-np.expm1(-np.exp(-z)), 1e-300))
            return float(np.where(score > cut, above, z + np.exp(-z) + log_scale).sum())

        found = minimize(loss, weights, method="BFGS").x
        if np.abs(found - weights).max() < 1e-5:
            return np.asarray(found)
        weights = found
    return weights


def calibration(pairs: Pairs, name: str, bands: tuple[tuple[int, int], ...] = ()) -> list[str]:
    """Return lines of the table: shares of pairs with small P-values, of all and by length."""
    short, _ = lengths_of(pairs)
    values = np.array(
        [
            p_value(score, len(one), len(other))
            for score, (one, other) in zip(scores_of(pairs), pairs, strict=True)
        ]
    )
    parts = {name: np.ones(len(pairs), dtype=bool)}
    parts |= {
        f"{name}, shorter chain {low} to {high - 1}": (short >= low) & (short < high) for low, high in bands
    }
    lines = []
    for part, some in parts.items():
        shares = " | ".join(f"{np.mean(values[some] < limit):.4f}" for limit in P_VALUES)
        lines.append(f"| {part} | {int(some.sum())} | {shares} |")
    return lines


def main(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    count: Annotated[int, typer.Option(min=100, help="Number of pairs fitted, and tested.")] = 4000,
) -> None:
    """Fit, test, and write the page."""
    test = Corpus(corpus, ["test"])
    weights = fitted(unrelated_pairs(Corpus(corpus, ["train"]), count))
    print(f"LOCATION = {weights[:3].round(4)}, LOG_SCALE = {weights[3:].round(4)}")
    head = " | ".join(f"P-value below {limit:g}" for limit in P_VALUES)
    lines = [
        "# E-values of search",
        "",
        f"Written by `python benchmarks/chance.py` ({processor()}).",
        "",
        "TM-scores (mean of both normalisations) of unrelated chains follow a Gumbel distribution whose "
        f"location and scale depend on the lengths. It was fitted to {count:,} random pairs of training "
        f"chains of {LENGTHS[0]} to {LENGTHS[1]} residues, one per 30% cluster; the highest tenth was "
        "censored. The E-value of a hit is its P-value times the number of chains of the index. Below: "
        "shares of random pairs of test chains. For unrelated chains the share should equal the limit. Some "
        "chains of different clusters have the same fold, so that the lowest P-values are too frequent.",
        "",
        f"| pairs of test chains | number | {head} |",
        "|---" * (len(P_VALUES) + 2) + "|",
        *calibration(unrelated_pairs(test, count), "different clusters", BANDS),
        *calibration(related_pairs(test), "same cluster"),
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
