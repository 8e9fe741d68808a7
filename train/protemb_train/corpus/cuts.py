"""Division of chains at their weakest interfaces, and the residues of a piece in contact with the rest.

Interfaces between domains of one chain resemble those between chains. Hence thousands of chains are examples
of interfaces without labels.
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
"""Largest C-alpha distance of a contact, angstrom."""
BONDED = 4
"""Smallest separation along the chain of a contact, residues."""
STEP = 4  # residues between candidate ends


@dataclass(frozen=True, slots=True)
class CutRule:
    """Criteria for pieces of a chain.

    Parameters
    ----------
    shortest, longest : int
        Range of the number of residues of a piece.
    rest : int
        Smallest number of residues of the rest.
    sites : tuple of float
        Range of the share of its residues in contact with the rest: an interface, but part of the surface.
    packed : float
        Smallest number of contacts within the piece per residue, which excludes extended tails.
    pieces : int
        Largest number of pieces per chain.
    overlap : float
        Largest overlap of two pieces of a chain (intersection over union).
    linker : int
        Residues removed on either side of a cut, since an end that was bonded to the rest reveals it.
    one_cut : bool
        Whether a piece must include one end of the chain: internal segments have two artificial ends.
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
        First residue, and one past the last.
    touching : ndarray, bool, shape (behind - first,)
        True where a C-alpha is within 8 angstrom of one of the removed part, and more than 4 residues away
        along the chain.
    """

    first: int
    behind: int
    touching: NDArray[np.bool_]


def find_cuts(trace: Trace, rule: CutRule = DEFAULT) -> list[Cut]:
    """Return the pieces of a chain that separate most easily from the rest.

    A piece is a segment of the chain. Segments are ranked by the number of contacts with the rest, relative
    to their size to the power 2/3, the scaling of surfaces with volumes.

    Parameters
    ----------
    trace : Trace
        A chain of the corpus, L residues.
    rule : CutRule
        Criteria.

    Returns
    -------
    list of Cut
        Empty if no piece is suitable.
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
    """Yield chains of a corpus with suitable pieces, at most `per_cluster` per cluster, in random order.

    Parameters
    ----------
    corpus : Corpus
        Corpus, read with the required splits.
    rule : CutRule
        As in `find_cuts`.
    per_cluster : int, default 1
        Largest number of chains per cluster, so that large families (antibodies) do not dominate.
    seed : int
        The same seed gives the same chains.

    Yields
    ------
    tuple of int, Trace, list of Cut
        Index in the corpus, chain, and its pieces.
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
    """Yield segments (first, one past the last) that may be cut out, in order of their ranking."""
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
