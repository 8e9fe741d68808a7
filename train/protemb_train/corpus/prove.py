"""Whether any downstream sequence has a relative in a corpus, however the corpus was made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from protemb_train.corpus.alignment import LARGEST_E_VALUE, LEAST_COVERAGE, LEAST_IDENTITY, Hit, related
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.corpus.exact import exact_search
from protemb_train.corpus.mmseqs import search

# Alignments are looked at up to this E-value, to show how near the nearest comes.
_LOOSE = 10.0
_LISTED = 50


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one way of searching says.

    Parameters
    ----------
    name : str
        What searched.
    queries : int
        Downstream sequences searched.
    relatives : list of Hit
        Pairs that are related, the most significant first.
    alignments : int
        All alignments up to an E-value of 10.
    identity, coverage, e_value : float
        The nearest that any other pair comes to being related: the largest identity or coverage, or the
        smallest E-value, where the other two say that it is; NaN where there is no such pair.
    """

    name: str
    queries: int
    relatives: list[Hit]
    alignments: int
    identity: float
    coverage: float
    e_value: float


def opinion_of(name: str, queries: int, hits: list[Hit]) -> Opinion:
    """Judge the alignments of one search."""
    identical = [hit.identity >= LEAST_IDENTITY for hit in hits]
    covering = [hit.coverage >= LEAST_COVERAGE for hit in hits]
    significant = [hit.e_value <= LARGEST_E_VALUE for hit in hits]
    rows = list(zip(hits, identical, covering, significant, strict=True))
    return Opinion(
        name=name,
        queries=queries,
        relatives=sorted((hit for hit in hits if related(hit)), key=lambda hit: hit.e_value),
        alignments=len(hits),
        identity=max((h.identity for h, i, c, s in rows if c and s and not i), default=np.nan),
        coverage=max((h.coverage for h, i, c, s in rows if i and s and not c), default=np.nan),
        e_value=min((h.e_value for h, i, c, s in rows if i and c and not s), default=np.nan),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was searched, and what each search says."""

    corpus: Corpus
    queries: list[str]
    opinions: tuple[Opinion, ...]

    @property
    def clean(self) -> bool:
        """Whether no method found a relative."""
        return not any(opinion.relatives for opinion in self.opinions)

    def as_markdown(self) -> str:
        """Return the result, and every pair found, as it is printed."""
        found = {hit.target for opinion in self.opinions for hit in opinion.relatives}
        chains = f"{len(found):,} of {len(self.corpus):,} chains"
        lines = [
            "**No relative found.**" if self.clean else f"**Relatives found: {chains} of the corpus.**",
            "",
            f"{len(self.queries):,} downstream sequences against all {len(self.corpus):,} chains "
            f"({int(self.corpus.lengths.sum()):,} residues) of {self.corpus.path.name}, sha256 "
            f"{self.corpus.sha256}. A relative is an alignment of at least {LEAST_IDENTITY:.0%} identity "
            f"over {LEAST_COVERAGE:.0%} of the shorter sequence, with an E-value up to {LARGEST_E_VALUE:g}.",
            "",
            "| searched by | sequences | alignments up to E-value 10 | pairs related | chains |",
            "|---|---|---|---|---|",
        ]
        for o in self.opinions:
            chains = f"{len({hit.target for hit in o.relatives}):,}"
            lines.append(f"| {o.name} | {o.queries:,} | {o.alignments:,} | {len(o.relatives):,} | {chains} |")
        lines += [
            "",
            "How near other pairs come, in one respect, where the two others say that they are related:",
            "",
            "| searched by | largest identity | largest coverage | smallest E-value |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {o.name} | {o.identity:.2%} | {o.coverage:.2%} | {o.e_value:.2g} |" for o in self.opinions
        ]
        for o in self.opinions:
            if o.relatives:
                lines += ["", *self._listing(o)]
        return "\n".join(lines) + "\n"

    def _listing(self, opinion: Opinion) -> list[str]:
        ids, splits = (self.corpus.table[name] for name in ("id", "split"))
        lines = [
            f"Related pairs found by {opinion.name}:",
            "",
            "| chain | split | downstream sequence | identity | coverage | E-value |",
            "|---|---|---|---|---|---|",
        ]
        for hit in opinion.relatives[:_LISTED]:
            query = self.queries[hit.query]
            lines.append(
                f"| {ids[hit.target]} | {splits[hit.target]} | {query[:20]}... ({len(query)} residues) "
                f"| {hit.identity:.1%} | {hit.coverage:.1%} | {hit.e_value:.2g} |"
            )
        if len(opinion.relatives) > _LISTED:
            lines += ["", f"and {len(opinion.relatives) - _LISTED:,} more."]
        return lines


def prove(corpus: Corpus, queries: Iterable[str], *, sample: int | None = None, threads: int = 1) -> Verdict:
    """Search all downstream sequences in a corpus, twice: by MMseqs2, and by exact alignment of all pairs.

    Parameters
    ----------
    corpus : Corpus
        All splits of it are searched that it shows.
    queries : iterable of str
        Downstream sequences.
    sample : int, optional
        Align so many of them exactly, evenly spaced by length; all by default.
    threads : int, default 1
        CPU threads of the exact alignment.

    Raises
    ------
    CorpusError
        If there is no sequence to search, or MMseqs2 is not installed or fails.
    """
    unique = [sequence for sequence in dict.fromkeys(queries) if sequence]
    if not unique:
        raise CorpusError("no downstream sequence to search, so nothing is proved; pass some")
    targets: list[str] = corpus.table["sequence"].to_pylist()
    first = search(unique, targets, identity=0.0, e_value=_LOOSE)
    by_length = np.argsort([len(sequence) for sequence in unique], kind="stable")
    places = np.unique(np.linspace(0, len(unique) - 1, min(sample or len(unique), len(unique))).astype(int))
    chosen = np.sort(by_length[places])
    second = exact_search([unique[i] for i in chosen], targets, e_value=_LOOSE, threads=threads)
    second = [Hit(int(chosen[h.query]), h.target, h.identity, h.coverage, h.e_value) for h in second]
    return Verdict(
        corpus,
        unique,
        (
            opinion_of("MMseqs2 (sensitivity 7.5)", len(unique), first),
            opinion_of("exact alignment of all pairs (Smith-Waterman)", len(chosen), second),
        ),
    )
