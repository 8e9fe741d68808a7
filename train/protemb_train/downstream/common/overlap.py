"""Relatives within a published split, and folds without relatives in two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from protemb_train.corpus.alignment import LARGEST_E_VALUE, LEAST_COVERAGE, LEAST_IDENTITY, Hit, related
from protemb_train.corpus.exact import exact_search


class Sequenced(Protocol):
    """An object with a name and a sequence: a labelled chain or a model of a structure."""

    @property
    def id(self) -> str:
        """Name."""
        ...

    @property
    def sequence(self) -> str:
        """One-letter codes."""
        ...


def relatives(chains: Sequence[Sequenced], of: Sequence[Sequenced]) -> list[Hit]:
    """Return the best alignment of each pair of relatives, one from `of` (query), one from `chains` (target).

    All pairs are aligned exactly (Smith-Waterman), as for the corpus; a chain is not a relative of itself.
    """
    hits = exact_search([c.sequence for c in of], [c.sequence for c in chains], e_value=LARGEST_E_VALUE)
    return [hit for hit in hits if related(hit) and chains[hit.target] is not of[hit.query]]


def families(chains: Sequence[Sequenced]) -> list[int]:
    """Return a family number per chain, equal for relatives and for relatives of relatives."""
    hits = relatives(chains, chains)
    rows, columns = [hit.query for hit in hits], [hit.target for hit in hits]
    graph = coo_matrix(([1] * len(hits), (rows, columns)), shape=(len(chains), len(chains)))
    return [int(n) for n in connected_components(graph, directed=False)[1]]


def as_overlap(sides: Sequence[tuple[str, Sequence[Sequenced], str, Sequence[Sequenced]]]) -> str:
    """Return a page with the number of chains of one set that have a relative in another set.

    Parameters
    ----------
    sides : sequence of (name, chains, name, chains)
        The query set and the searched set; both may be the same.
    """
    lines = [
        f"Relatives: at least {LEAST_IDENTITY:.0%} identity over at least {LEAST_COVERAGE:.0%} of the "
        f"shorter sequence, E-value up to {LARGEST_E_VALUE:g}, by exact alignment of all pairs.",
        "",
        "| chains of | with a relative in | number | chains |",
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


def folds_by_family(family: Sequence[int], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each chain; families are not divided, and folds have about equal size.

    Parameters
    ----------
    family : sequence of int
        Family of each chain.
    folds : int
        Number of folds.
    seed : int
        The same seed gives the same folds.
    """
    names, sizes = np.unique(family, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, dtype=np.int64)
    fold_of: dict[int, int] = {}
    for n in order:
        fold = int(filled.argmin())
        fold_of[int(names[n])] = fold
        filled[fold] += sizes[n]
    return np.array([fold_of[int(name)] for name in family])
