"""Superposition of `protemb search`: TM-scores compared with TM-align, short chains, and time of a query.

    python benchmarks/superposition.py CORPUS.arrow -o benchmarks/superposition.md --index INDEX

INDEX is an index of chains of the corpus (benchmarks/search_data.py, protemb index). One thread is used.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import processor
from benchmarks.search_data import chains, tm_align
from protemb_sdk import Chain, Embedder
from protemb_sdk._search.superpose import superpose_chains
from protemb_sdk.search import CANDIDATES, SUPERPOSED, Index, open_index
from protemb_train.corpus.corpus import Corpus

CLOSE = 0.02
LENGTHS = (40, 300)
BANDS = ((20, 29), (30, 39), (40, 59), (60, 79), (80, 119), (120, 200))
"""Lengths of unrelated chains; both chains of a pair are in the same band."""


@dataclass(frozen=True)
class Compared:
    """TM-scores of some pairs, ours and TM-align's, shape (P, 2) each, and milliseconds per pair."""

    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]
    times: NDArray[np.float64]

    def row(self, name: str, chosen: NDArray[np.bool_]) -> str:
        """Return a line of the table for some of the pairs."""
        gap = (self.ours - self.theirs)[chosen].ravel()
        ours, theirs = np.median(self.times[chosen], axis=0)
        shares = [float(np.mean(x)) for x in (np.abs(gap) <= CLOSE, gap < -CLOSE, gap > CLOSE)]
        line = " | ".join(f"{share:.3f}" for share in shares)
        return (
            f"| {name} | {int(chosen.sum())} | {line} | {np.median(gap):+.4f} | {ours:.1f} | {theirs:.1f} |"
        )


def compared(pairs: list[tuple[Chain, Chain]]) -> Compared:
    """Superpose pairs of chains with both programs."""
    ours, theirs, times = [], [], []
    superpose_chains(pairs[0][0].ca_coords, pairs[0][1].ca_coords)  # compiles
    for one, other in pairs:
        start = time.process_time()
        found = superpose_chains(one.ca_coords, other.ca_coords)
        between = time.process_time()
        theirs.append(tm_align(one, other))
        ours.append((found.tm_query, found.tm_target))
        times.append((1e3 * (between - start), 1e3 * (time.process_time() - between)))
    return Compared(np.array(ours), np.array(theirs), np.array(times))


def random_pairs(
    corpus: Corpus, structures: list[Chain], lengths: tuple[int, int], count: int, *, same: bool
) -> list[tuple[Chain, Chain]]:
    """Return pairs of chains of one 30% cluster, one pair per cluster, or of two clusters."""
    rng = np.random.default_rng(0)
    usable = np.flatnonzero((corpus.lengths >= lengths[0]) & (corpus.lengths <= lengths[1]))
    chosen: list[tuple[int, int]] = []
    if same:
        mates: dict[int, list[int]] = {}
        for n in rng.permutation(usable):
            mates.setdefault(int(corpus.clusters[n]), []).append(int(n))
        chosen = [(found[0], found[1]) for found in mates.values() if len(found) > 1][:count]
    else:
        while len(chosen) < count:
            one, other = map(int, rng.choice(usable, 2, replace=False))
            if corpus.clusters[one] != corpus.clusters[other]:
                chosen.append((one, other))
    return [(structures[one], structures[other]) for one, other in chosen]


def short_chains(corpus: Corpus, structures: list[Chain], count: int) -> list[str]:
    """Return lines of a table: TM-scores of unrelated chains by length."""
    lines = []
    for band in BANDS:
        pairs = random_pairs(corpus, structures, band, count, same=False)
        found = [superpose_chains(one.ca_coords, other.ca_coords) for one, other in pairs]
        scores = np.array([one.tm_score for one in found])
        numbers = [*np.percentile(scores, [50, 95, 99]), float(np.mean(scores >= 0.5))]
        lines.append(f"| {band[0]}-{band[1]} | {count} | " + " | ".join(f"{x:.3f}" for x in numbers) + " |")
    return lines


def query_time(index: Index, structures: list[Chain], count: int) -> float:
    """Return the median time of a search in seconds."""
    embedder = Embedder(index.header["provenance"]["model"], "cpu", threads=1)
    place = {chain.name: chain for chain in structures}
    known = [place[name] for name in index._chains["name"].to_pylist() if name in place]
    times = []
    for n in np.random.default_rng(0).choice(len(known), count, replace=False):
        query = embedder.embed(known[n])
        index.search(query)  # reads the candidates from disk
        start = time.process_time()
        index.search(query)
        times.append(time.process_time() - start)
    return statistics.median(times)


def main(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    index: Annotated[
        Path | None, typer.Option(help="Index of chains of the corpus, to measure the time of queries.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of pairs of each kind.")] = 300,
    queries: Annotated[int, typer.Option(min=1, help="Number of queries.")] = 40,
) -> None:
    """Compare, and write the page."""
    every = Corpus(corpus)
    structures = chains(every)
    related = compared(random_pairs(every, structures, LENGTHS, count, same=True))
    unrelated = compared(random_pairs(every, structures, LENGTHS, count, same=False))
    alike = related.theirs.max(axis=1) >= 0.5
    lines = [
        "# Superposition",
        "",
        f"Written by `python benchmarks/superposition.py` ({processor()}, one thread, CPU time).",
        "",
        "## TM-scores compared with TM-align",
        "",
        f"Chains of {LENGTHS[0]} to {LENGTHS[1]} residues, both normalisations. Unlike in `protemb search`, "
        "no initial alignment of residue embeddings is used, so that the results do not depend on a model.",
        "",
        f"| pairs | number | within {CLOSE} | lower by more | higher by more | median difference | "
        "ms per pair | TM-align, ms |",
        "|---|---|---|---|---|---|---|---|",
        related.row("one 30% cluster, TM-score from 0.5", alike),
        related.row("one 30% cluster, all", np.ones(len(alike), dtype=bool)),
        unrelated.row("two clusters", np.ones(len(unrelated.times), dtype=bool)),
        "",
        "## Short chains",
        "",
        "TM-scores (mean of both normalisations) of two chains of different 30% clusters, of about the same "
        "length. A TM-score above 0.5 usually means the same fold (Xu and Zhang 2010, "
        "doi:10.1093/bioinformatics/btq066), but not for short chains.",
        "",
        "| residues | pairs | median | 95th percentile | 99th percentile | share above 0.5 |",
        "|---|---|---|---|---|---|",
        *short_chains(every, structures, count),
    ]
    if index is not None:
        opened = open_index(index)
        seconds = query_time(opened, structures, queries)
        lines += [
            "",
            "## Time of a query",
            "",
            f"Median of {queries} queries in {len(opened):,} chains, without embedding the query, with "
            f"{CANDIDATES} candidates and {SUPERPOSED} superposed chains: {seconds:.2f} s.",
        ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
