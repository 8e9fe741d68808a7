"""What a published split has in common with itself: relatives of test chains among those learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from protemb_train.corpus.alignment import LARGEST_E_VALUE, LEAST_COVERAGE, LEAST_IDENTITY, Hit, related
from protemb_train.corpus.exact import exact_search


class Sequenced(Protocol):
    """What has a name and a sequence: a labelled chain, a model of a structure."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def sequence(self) -> str:
        """One-letter codes."""
        ...


def relatives(chains: Sequence[Sequenced], of: Sequence[Sequenced]) -> list[Hit]:
    """Return the best alignment of each pair of relatives, one from `of` (query), one from `chains` (target).

    Exact Smith-Waterman alignment of all pairs, as for the corpus; a chain is no relative of itself.
    """
    hits = exact_search([c.sequence for c in of], [c.sequence for c in chains], e_value=LARGEST_E_VALUE)
    return [hit for hit in hits if related(hit) and chains[hit.target] is not of[hit.query]]


def families(chains: Sequence[Sequenced]) -> list[int]:
    """Return a number for each chain, the same for relatives and for relatives of relatives."""
    hits = relatives(chains, chains)
    rows, columns = [hit.query for hit in hits], [hit.target for hit in hits]
    graph = coo_matrix(([1] * len(hits), (rows, columns)), shape=(len(chains), len(chains)))
    return [int(n) for n in connected_components(graph, directed=False)[1]]


def as_overlap(sides: Sequence[tuple[str, Sequence[Sequenced], str, Sequence[Sequenced]]]) -> str:
    """Return a page: for each pair of sets, how many chains of the first have a relative in the second.

    Parameters
    ----------
    sides : sequence of (name, chains, name, chains)
        The set asked about and the set searched; the same set twice asks within it.
    """
    lines = [
        f"Relatives: at least {LEAST_IDENTITY:.0%} identity over at least {LEAST_COVERAGE:.0%} of the "
        f"shorter sequence, E-value up to {LARGEST_E_VALUE:g}, by exact alignment of all pairs.",
        "",
        "| chains of | with a relative in | | which |",
        "|---|---|---|---|",
    ]
    for asked, of, searched, chains in sides:
        best: dict[int, Hit] = {}
        for hit in relatives(chains, of):
            if hit.query not in best or hit.identity > best[hit.query].identity:
                best[hit.query] = hit
        listed = [
            f"{of[q].id} ~ {chains[hit.target].id} ({hit.identity:.0%})" for q, hit in sorted(best.items())
        ]
        shown = ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")
        lines.append(f"| {asked} | {searched} | {len(best)} of {len(of)} | {shown} |")
    return "\n".join(lines) + "\n"
