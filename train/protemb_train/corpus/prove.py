"""Check that no downstream sequence has a relative in a corpus, independent of how it was built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from protemb_train.corpus.alignment import LARGEST_E_VALUE, LEAST_COVERAGE, LEAST_IDENTITY, Hit, related
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.corpus.exact import exact_search
from protemb_train.corpus.mmseqs import search

# Alignments are reported up to this E-value, to show the closest ones.
_LOOSE = 10.0
_LISTED = 50


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of one search method.

    Parameters
    ----------
    name : str
        Name of the method.
    queries : int
        Number of downstream sequences searched.
    relatives : list of Hit
        Related pairs, the most significant first.
    alignments : int
        Number of alignments up to an E-value of 10.
    identity, coverage, e_value : float
        Closest values of other pairs: the largest identity or coverage, or the smallest E-value, among pairs
        for which the other two criteria are met; NaN if there is no such pair.
    """

    name: str
    queries: int
    relatives: list[Hit]
    alignments: int
    identity: float
    coverage: float
    e_value: float


def search_result(name: str, queries: int, hits: list[Hit]) -> SearchResult:
    """Evaluate the alignments of one search."""
    identical = [hit.identity >= LEAST_IDENTITY for hit in hits]
    covering = [hit.coverage >= LEAST_COVERAGE for hit in hits]
    significant = [hit.e_value <= LARGEST_E_VALUE for hit in hits]
    rows = list(zip(hits, identical, covering, significant, strict=True))
    return SearchResult(
        name=name,
        queries=queries,
        relatives=sorted((hit for hit in hits if related(hit)), key=lambda hit: hit.e_value),
        alignments=len(hits),
        identity=max((h.identity for h, i, c, s in rows if c and s and not i), default=np.nan),
        coverage=max((h.coverage for h, i, c, s in rows if i and s and not c), default=np.nan),
        e_value=min((h.e_value for h, i, c, s in rows if i and c and not s), default=np.nan),
    )


@dataclass(frozen=True, slots=True)
class Proof:
    """Searched data, and the results of the search methods."""

    corpus: Corpus
    queries: list[str]
    searches: tuple[SearchResult, ...]

    @property
    def clean(self) -> bool:
        """Whether no method found a relative."""
        return not any(result.relatives for result in self.searches)

    def as_markdown(self) -> str:
        """Return the result and all related pairs as printed."""
        found = {hit.target for result in self.searches for hit in result.relatives}
        chains = f"{len(found):,} of {len(self.corpus):,} chains"
        lines = [
            "**No relative found.**" if self.clean else f"**Relatives found: {chains} of the corpus.**",
            "",
            f"{len(self.queries):,} downstream sequences against all {len(self.corpus):,} chains "
            f"({int(self.corpus.lengths.sum()):,} residues) of {self.corpus.path.name}, sha256 "
            f"{self.corpus.sha256}. A relative is an alignment of at least {LEAST_IDENTITY:.0%} identity "
            f"over {LEAST_COVERAGE:.0%} of the shorter sequence, with an E-value up to {LARGEST_E_VALUE:g}.",
            "",
            "| searched by | sequences | alignments up to E-value 10 | related pairs | chains |",
            "|---|---|---|---|---|",
        ]
        for o in self.searches:
            chains = f"{len({hit.target for hit in o.relatives}):,}"
            lines.append(f"| {o.name} | {o.queries:,} | {o.alignments:,} | {len(o.relatives):,} | {chains} |")
        lines += [
            "",
            "Values closest to the limits: the extreme of each criterion among pairs that "
            "meet the two others.",
            "",
            "| searched by | largest identity | largest coverage | smallest E-value |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {o.name} | {o.identity:.2%} | {o.coverage:.2%} | {o.e_value:.2g} |" for o in self.searches
        ]
        for o in self.searches:
            if o.relatives:
                lines += ["", *self._listing(o)]
        return "\n".join(lines) + "\n"

    def _listing(self, result: SearchResult) -> list[str]:
        ids, splits = (self.corpus.table[name] for name in ("id", "split"))
        lines = [
            f"Related pairs found by {result.name}:",
            "",
            "| chain | split | downstream sequence | identity | coverage | E-value |",
            "|---|---|---|---|---|---|",
        ]
        for hit in result.relatives[:_LISTED]:
            query = self.queries[hit.query]
            lines.append(
                f"| {ids[hit.target]} | {splits[hit.target]} | {query[:20]}... ({len(query)} residues) "
                f"| {hit.identity:.1%} | {hit.coverage:.1%} | {hit.e_value:.2g} |"
            )
        if len(result.relatives) > _LISTED:
            lines += ["", f"and {len(result.relatives) - _LISTED:,} more."]
        return lines


def prove(corpus: Corpus, queries: Iterable[str], *, sample: int | None = None, threads: int = 1) -> Proof:
    """Search all downstream sequences in a corpus, by MMseqs2 and by exact alignment of all pairs.

    Parameters
    ----------
    corpus : Corpus
        All splits that were read are searched.
    queries : iterable of str
        Downstream sequences.
    sample : int, optional
        Number of sequences aligned exactly, evenly spaced by length; all by default.
    threads : int, default 1
        Number of CPU threads for exact alignment.

    Raises
    ------
    CorpusError
        If there is no sequence to search, or MMseqs2 is not installed or fails.
    """
    unique = [sequence for sequence in dict.fromkeys(queries) if sequence]
    if not unique:
        raise CorpusError("there is no downstream sequence to search; pass some")
    targets: list[str] = corpus.table["sequence"].to_pylist()
    first = search(unique, targets, identity=0.0, e_value=_LOOSE)
    by_length = np.argsort([len(sequence) for sequence in unique], kind="stable")
    places = np.unique(np.linspace(0, len(unique) - 1, min(sample or len(unique), len(unique))).astype(int))
    chosen = np.sort(by_length[places])
    second = exact_search([unique[i] for i in chosen], targets, e_value=_LOOSE, threads=threads)
    second = [Hit(int(chosen[h.query]), h.target, h.identity, h.coverage, h.e_value) for h in second]
    return Proof(
        corpus,
        unique,
        (
            search_result("MMseqs2 (sensitivity 7.5)", len(unique), first),
            search_result("exact alignment of all pairs (Smith-Waterman)", len(chosen), second),
        ),
    )
