"""Pairs of training chains with TM-scores: examples of similar folds with dissimilar sequences.

TM-align takes about 60 ms per pair, so only promising pairs are aligned: first, the nearest chains of other
clusters by a coarse description of shape and secondary structure; then chains that are both similar to a
third one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_sdk import ProtembError
from protemb_sdk._base.output import written_whole
from protemb_train.base.arrays import read_arrays
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.network.features import BaseFeatures, centred
from protemb_train.network.protein import SEGMENTS, ordered_parts, segment_distances
from protemb_train.protein_vector.alignment import tm_align

LENGTHS = (40, 300)
"""Range of the number of residues of paired chains."""
LEAST_RATIO = 0.6
"""Smallest ratio of the lengths of the two chains."""
ALIKE = 0.6
"""Smallest TM-score of similar folds, the mean of both normalisations."""
FIRST_SHARE = 2 / 3
"""Share of pairs that are nearest neighbours; the others have a similar chain in common."""
SAVED = 60.0
"""Seconds between writing the file."""

_ARRAYS = ("corpus_sha256", "id", "pair", "tm")


class PairsError(ProtembError):
    """Pairs cannot be made or read."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of chains of different clusters.

    Parameters
    ----------
    corpus_sha256 : str
        Hash of the corpus file.
    ids : ndarray of str, shape (N,)
        Chains of the split "train", one per cluster.
    pair : ndarray, int64, shape (P, 2)
        Indices in `ids`, the smaller first; pairs are unique.
    tm : ndarray, float32, shape (P, 2)
        TM-scores normalised by the length of the first and of the second chain; NaN if not computed yet.
    """

    corpus_sha256: str
    ids: NDArray[np.str_]
    pair: NDArray[np.int64]
    tm: NDArray[np.float32]

    @property
    def score(self) -> NDArray[np.float32]:
        """Mean of both TM-scores, shape (P,); NaN if not computed yet."""
        return np.asarray(self.tm.mean(axis=1))

    def alike(self, least: float = ALIKE) -> NDArray[np.int64]:
        """Return the pairs with a score of at least `least`, shape (A, 2)."""
        return self.pair[self.score >= least]


def read_pairs(path: Path) -> Pairs:
    """Read a file of `protemb-train pairs`.

    Raises
    ------
    ArrayFileError
        If the file is missing or damaged.
    """
    z = read_arrays(path, _ARRAYS, "pairs of protemb-train pairs")
    return Pairs(str(z["corpus_sha256"]), z["id"], z["pair"].astype(np.int64), z["tm"])


def write_pairs(pairs: Pairs, path: Path) -> None:
    """Write pairs atomically."""
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            corpus_sha256=np.array(pairs.corpus_sha256),
            id=pairs.ids,
            pair=pairs.pair.astype(np.int32),
            tm=pairs.tm,
        )


def coarse(trace: Trace) -> NDArray[np.float32]:
    """Return a description of a chain without a network, shape (85,).

    `segment_distances`, and for each of ten segments the mean virtual bond angle and torsion, which
    distinguish helices and strands.
    """
    coords = centred(torch.from_numpy(np.array(trace.ca_coords))[None])
    types = torch.zeros(1, len(trace.residue_type), dtype=torch.int64)
    geometry = BaseFeatures().residue(coords, types, torch.from_numpy(trace.residue_index)[None])
    angles = geometry[:, :, BaseFeatures.residue_types :][:, :, :3]
    of_segments = ordered_parts(len(trace.residue_type), SEGMENTS) @ angles
    both = torch.cat([segment_distances(coords), of_segments.flatten(1)], dim=1)
    return np.asarray(both[0].numpy())


def nearest_pairs(vectors: NDArray[np.floating], lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return pairs of near vectors, shape (at most `count`, 2): the nearest of every chain, then the next.

    Parameters
    ----------
    vectors : ndarray, shape (N, D)
        Vectors; they are standardised.
    lengths : ndarray, int64, shape (N,)
        Number of residues; pairs of very different lengths are excluded.
    count : int
        Largest number of pairs.
    """
    x = vectors.astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    found: dict[tuple[int, int], None] = {}
    squares = np.square(x).sum(axis=1)
    distance = squares[:, None] + squares[None] - 2 * x @ x.T
    ratio = lengths[:, None] / lengths[None]
    distance[np.minimum(ratio, 1 / ratio) < LEAST_RATIO] = np.inf
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    for rank in range(len(x) - 1):
        partner = order[:, rank]
        gap = distance[np.arange(len(x)), partner]
        for a in np.argsort(gap, kind="stable"):
            if len(found) >= count or not np.isfinite(gap[a]):
                break
            found[min(int(a), int(partner[a])), max(int(a), int(partner[a]))] = None
        if len(found) >= count or not np.isfinite(gap).any():
            break
    return np.array(list(found), dtype=np.int64).reshape(-1, 2)


def pairs_of_relatives(pairs: Pairs, count: int) -> NDArray[np.int64]:
    """Return new pairs of chains that are similar to a third chain, shape (at most `count`, 2).

    Pairs with most such chains in common come first.
    """
    friends: dict[int, list[int]] = {}
    for a, b in pairs.alike().tolist():
        friends.setdefault(a, []).append(b)
        friends.setdefault(b, []).append(a)
    there = {(a, b) for a, b in pairs.pair.tolist()}
    common: Counter[tuple[int, int]] = Counter()
    for of in friends.values():
        of = sorted(of)
        common.update((a, b) for n, a in enumerate(of) for b in of[n + 1 :] if (a, b) not in there)
    best = sorted(common, key=lambda pair: (-common[pair], pair))[:count]
    return np.array(best, dtype=np.int64).reshape(-1, 2)


def make_pairs(
    corpus: Corpus,
    out: Path,
    count: int,
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Pairs:
    """Align pairs of training chains and write them; an existing file is continued or extended.

    Parameters
    ----------
    corpus : Corpus
        Corpus, read with the split "train" only.
    out : Path
        File to write (npz), once per minute.
    count : int
        Total number of pairs.
    seed : int, default 0
        Seed of the chains, one per cluster.
    say : callable
        Called with a message each time the file is written.

    Returns
    -------
    Pairs
        All are computed. Fewer than `count` if there are not enough of similar length.

    Raises
    ------
    PairsError
        If the corpus has another split than "train", or the existing file is of another corpus or of other
        chains.
    """
    if corpus.splits != ("train",):
        raise PairsError(f"{corpus.path}: pairs must be of training chains only; read split train")
    positions = np.sort(corpus.one_per_cluster(len(corpus), LENGTHS, seed))
    names = np.array([str(corpus.table["id"][int(p)]) for p in positions])
    pairs = _begun(corpus, out, names)
    chains: dict[int, Trace] = {}

    def chain(n: int) -> Trace:
        return chains.setdefault(n, corpus[int(positions[n])])

    first = round(FIRST_SHARE * count)
    if len(pairs.pair) < first:
        vectors = np.stack([coarse(chain(n)) for n in range(len(names))])
        pairs = _with(pairs, nearest_pairs(vectors, corpus.lengths[positions], first))
    pairs = _aligned(pairs, chain, out, say)
    while len(pairs.pair) < count:
        more = pairs_of_relatives(pairs, count - len(pairs.pair))
        if not len(more):
            vectors = np.stack([coarse(chain(n)) for n in range(len(names))])
            more = nearest_pairs(vectors, corpus.lengths[positions], count)
        before = len(pairs.pair)
        pairs = _with(pairs, more, count)
        if len(pairs.pair) == before:
            break
        pairs = _aligned(pairs, chain, out, say)
    return pairs


def _begun(corpus: Corpus, out: Path, names: NDArray[np.str_]) -> Pairs:
    if not out.exists():
        none = np.zeros((0, 2))
        return Pairs(corpus.sha256, names, none.astype(np.int64), none.astype(np.float32))
    before = read_pairs(out)
    if before.corpus_sha256 != corpus.sha256 or not np.array_equal(before.ids, names):
        raise PairsError(
            f"{out}: contains pairs of another corpus or of other chains; use another file, or remove it"
        )
    return before


def _with(pairs: Pairs, more: NDArray[np.int64], most: int | None = None) -> Pairs:
    there = {(a, b) for a, b in pairs.pair.tolist()}
    new = [pair for pair in more.tolist() if tuple(pair) not in there]
    new = new[: None if most is None else most - len(pairs.pair)]
    pair = np.concatenate([pairs.pair, np.array(new, dtype=np.int64).reshape(-1, 2)])
    tm = np.concatenate([pairs.tm, np.full((len(new), 2), np.nan, dtype=np.float32)])
    return Pairs(pairs.corpus_sha256, pairs.ids, pair, tm)


def _aligned(pairs: Pairs, chain: Callable[[int], Trace], out: Path, say: Callable[[str], None]) -> Pairs:
    write_pairs(pairs, out)
    saved = time.monotonic()
    for n in np.flatnonzero(np.isnan(pairs.tm[:, 0])):
        pairs.tm[n] = tm_align(*(chain(int(k)) for k in pairs.pair[n]))
        if time.monotonic() - saved > SAVED:
            write_pairs(pairs, out)
            saved = time.monotonic()
            say(f"{n + 1} of {len(pairs.pair)} pairs, {len(pairs.alike())} similar")
    write_pairs(pairs, out)
    return pairs
