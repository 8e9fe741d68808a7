"""Superposition and alignment of two chains by their TM-score, without a given alignment.

As TM-align does (Zhang and Skolnick 2005, doi:10.1093/nar/gki524): from many first placements, chains are
superposed and aligned anew by distance in turn. The best of them gives the alignment, the TM-scores and all
that is said about the two chains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.superposition import tm_distance

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Superposition:
    """A chain superposed on another one.

    Parameters
    ----------
    pairs : ndarray, int64, shape (P, 2)
        Aligned positions in the query and in the target, increasing.
    tm_query, tm_target : float
        Sum of 1 / (1 + (d / d0)^2) over the pairs, divided by the length of the query or the target, of which
        d0 depends too. Never above the number of pairs over that length.
    rmsd : float
        Of the pairs, in angstrom; NaN if there is none.
    rotation : ndarray, float64, shape (3, 3)
    shift : ndarray, float64, shape (3,)
        The target lies at ``target @ rotation + shift``.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> embedder = Embedder(device="cpu")
    >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> search.build_index("store", "index")
    1
    >>> (found,) = search.open_index("index").superpose(embedder.embed("1a8o.cif"), [0])
    >>> found.rotation.shape, found.pairs.shape
    ((3, 3), (70, 2))
    """

    pairs: NDArray[np.int64]
    tm_query: float
    tm_target: float
    rmsd: float
    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def tm_score(self) -> float:
        """Mean of `tm_query` and `tm_target`."""
        return (self.tm_query + self.tm_target) / 2


def aligned_within(length: int) -> float:
    """Return the distance in angstrom up to which superposed residues count as aligned, as in TM-align."""
    return 1.5 * math.pow(length, 0.3) + 3.5


def coarse_tm_scores(query: NDArray[np.floating], target: NDArray[np.floating]) -> tuple[float, float]:
    """Return estimates of `Superposition.tm_query` and `tm_target` from means of four residues.

    It takes a tenth of the time of `superpose_chains`.

    Parameters
    ----------
    query, target : ndarray, shape (Q, 3), (T, 3)
        C-alphas in angstrom.
    """
    from protemb_sdk._search.coarse import coarse_score

    short, long = sorted((query, target), key=len)
    fixed, moved = (_centred(coords)[0] for coords in (short, long))
    total = float(coarse_score(fixed, moved, tm_distance(len(short)))) * len(short)
    return total / len(query), total / len(target)


def _centred(coords_N3: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centred coordinates, shape (3, N), and the centre, shape (3,)."""
    centre = coords_N3.mean(axis=0, dtype=np.float64)
    return np.ascontiguousarray((coords_N3 - centre).T, dtype=np.float64), centre


def superpose_chains(
    query: NDArray[np.floating],
    target: NDArray[np.floating],
    seeds: Sequence[NDArray[np.int64]] = (),
) -> Superposition:
    """Superpose a chain on another one so that the TM-score by the shorter of them is largest.

    A heuristic, as all of its kind: a better superposition may exist. Both orders of the chains give the same
    result if their lengths differ.

    Parameters
    ----------
    query, target : ndarray, shape (Q, 3), (T, 3)
        C-alphas in angstrom.
    seeds : sequence of ndarray, int64, shape (P, 2)
        Alignments to start from besides, positions in the query and in the target.

    Returns
    -------
    Superposition
        Without pairs if a chain has fewer than three residues.
    """
    if len(query) > len(target):  # the same work in either order
        found = superpose_chains(target, query, [pairs[:, ::-1] for pairs in seeds])
        rotation = found.rotation.T
        return Superposition(
            found.pairs[:, ::-1],
            found.tm_target,
            found.tm_query,
            found.rmsd,
            rotation,
            -found.shift @ rotation,
        )
    if len(query) < 3:
        return Superposition(np.empty((0, 2), dtype=np.int64), 0.0, 0.0, np.nan, np.eye(3), np.zeros(3))
    from protemb_sdk._search.iterate import superpose_and_align

    (fixed, centre), (moved, other_centre) = _centred(query), _centred(target)
    usable = [pairs for pairs in seeds if len(pairs) >= 3]
    ends = np.cumsum([0, *map(len, usable)], dtype=np.int64)
    joined = np.ascontiguousarray(np.concatenate([np.empty((0, 2), dtype=np.int64), *usable]))
    placement = np.empty((3, 4))
    pairs, squared = superpose_and_align(fixed, moved, joined, ends, tm_distance(len(query)), placement)
    near = squared <= aligned_within(len(query)) ** 2
    pairs, squared = pairs[near], squared[near]
    by_query, by_target = (
        float((1 / (1 + squared / tm_distance(length) ** 2)).sum() / length)
        for length in (len(query), len(target))
    )
    rotation = placement[:, :3].T
    return Superposition(
        pairs,
        by_query,
        by_target,
        float(np.sqrt(squared.mean())) if len(squared) else np.nan,
        rotation,
        placement[:, 3] + centre - other_centre @ rotation,
    )
