"""Where a chain parts in two most easily, and which residues of a piece touched the removed part.

Interfaces between domains of one chain are packed much like those between chains, and every structure has
some. So thousands of chains teach what an interface looks like without a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from protemb_train.corpus.corpus import Corpus, Trace

TOUCHING = 8.0
"""Angstrom between C-alphas of a contact."""
BONDED = 4
"""Residues along the chain that are near anyway: no contact of theirs counts."""
STEP = 4  # residues between the ends that are tried


@dataclass(frozen=True, slots=True)
class CutRule:
    """Which pieces of a chain are taken.

    Parameters
    ----------
    shortest, longest : int
        Residues of a piece.
    rest : int
        Residues of the rest, at least.
    sites : tuple of float
        Bounds of the share of its residues that touch the rest: less is no interface, more no surface.
    packed : float
        Contacts within the piece a residue, at least: a tail is no domain.
    pieces : int
        Of one chain, at most.
    overlap : float
        Residues that two pieces of a chain share, over those of both, at most.
    linker : int
        Residues left out on either side of a cut: an end that was bonded to the rest would give it away.
    one_cut : bool
        Whether a piece must hold one end of the chain: a run from within has two ends that no chain has.
    """

    shortest: int = 45
    longest: int = 350
    rest: int = 25
    sites: tuple[float, float] = (0.04, 0.45)
    packed: float = 2.0
    pieces: int = 2
    overlap: float = 0.5
    linker: int = 4
    one_cut: bool = True


DEFAULT = CutRule()


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A piece of a chain.

    Parameters
    ----------
    first, behind : int
        Its first residue, and the one behind its last.
    touching : ndarray, bool, shape (behind - first,)
        True where a C-alpha lies within 8 angstrom of one of the removed part, more than 4 residues away
        along the chain.
    """

    first: int
    behind: int
    touching: NDArray[np.bool_]


def find_cuts(trace: Trace, rule: CutRule = DEFAULT) -> list[Cut]:
    """Return the pieces of a chain that part from the rest most easily.

    A piece is a run of residues. Of all runs, those come first whose contacts with the rest are fewest for
    their size, to the power 2/3 as surfaces grow with volumes.

    Parameters
    ----------
    trace : Trace
        A chain of the corpus, L residues.
    rule : CutRule
        Which pieces count.

    Returns
    -------
    list of Cut
        Empty if the chain does not part.
    """
    length = len(trace.ca_coords)
    coords = trace.ca_coords.astype(np.float64)
    apart = np.abs(np.arange(length)[:, None] - np.arange(length)) > BONDED
    near = (cdist(coords, coords) < TOUCHING) & apart
    runs: list[tuple[int, int]] = []
    found: list[Cut] = []
    for a, b in _runs(near, rule):
        if all(_shared((a, b), other) <= rule.overlap for other in runs):
            touching = near[:, :a].any(axis=1) | near[:, b:].any(axis=1)
            first = a + rule.linker * (a > 0)
            behind = b - rule.linker * (b < length)
            if rule.sites[0] <= touching[first:behind].mean() <= rule.sites[1]:
                runs.append((a, b))
                found.append(Cut(first, behind, touching[first:behind]))
        if len(found) == rule.pieces:
            break
    return found


def cut_chains(
    corpus: Corpus, rule: CutRule = DEFAULT, *, per_cluster: int = 1, seed: int = 0
) -> Iterator[tuple[int, Trace, list[Cut]]]:
    """Yield chains of a corpus that part, at most `per_cluster` of a cluster, in random order.

    Parameters
    ----------
    corpus : Corpus
        Read with the splits wanted.
    rule : CutRule
        As in `find_cuts`.
    per_cluster : int, default 1
        Largest number of chains of one cluster; a thousand antibodies would otherwise dominate.
    seed : int
        Same seed, same chains.

    Yields
    ------
    tuple of int, Trace, list of Cut
        Position in the corpus, the chain, its pieces.
    """
    taken: Counter[int] = Counter()
    for position in np.random.default_rng(seed).permutation(len(corpus)).tolist():
        cluster = int(corpus.clusters[position])
        if corpus.lengths[position] >= rule.shortest + rule.rest and taken[cluster] < per_cluster:
            trace = corpus[position]
            pieces = find_cuts(trace, rule)
            taken[cluster] += bool(pieces)
            if pieces:
                yield position, trace, pieces


def _runs(near: NDArray[np.bool_], rule: CutRule) -> Iterator[tuple[int, int]]:
    """Yield runs (first, behind the last) that may be cut out, the easiest first."""
    length = len(near)
    # total[i, j]: contacts among the first i rows and j columns.
    total = np.zeros((length + 1, length + 1), dtype=np.int64)
    total[1:, 1:] = near.cumsum(axis=0).cumsum(axis=1)
    ends = np.unique(np.append(np.arange(0, length, STEP), length))
    a, b = (grid.ravel() for grid in np.meshgrid(ends, ends, indexing="ij"))
    size = b - a
    fits = (size >= rule.shortest) & (size <= rule.longest) & (length - size >= rule.rest)
    a, b, size = a[fits], b[fits], size[fits]
    inside = total[b, b] - total[a, b] - total[b, a] + total[a, a]
    crossing = total[b, length] - total[a, length] - inside
    packed = (inside >= rule.packed * size) & (crossing > 0)
    if rule.one_cut:
        packed &= (a == 0) | (b == length)
    a, b, size, crossing = a[packed], b[packed], size[packed], crossing[packed]
    surface = np.minimum(size, length - size) ** (2 / 3)
    for k in np.argsort(crossing / surface, kind="stable"):
        yield int(a[k]), int(b[k])


def _shared(one: tuple[int, int], other: tuple[int, int]) -> float:
    both = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return both / ((one[1] - one[0]) + (other[1] - other[0]) - both)
