"""Fold retrieval on held-out chains: nearest protein vectors, scored by TM-align.

Queries are validation chains; they are searched among validation and test chains of the corpus, one per 30%
cluster, so that no hit is related by sequence. The corpus contains no downstream test chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.output import written_whole
from protemb_train.base.arrays import read_arrays
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.protein_vector.alignment import tm_align
from protemb_train.protein_vector.pairs import LENGTHS, coarse

HITS = 10
"""Number of hits per query whose TM-scores are averaged."""
COARSE = 20
"""Number of chains aligned with each query in any case: nearest in a description without a network."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Queries and the chains among which they are searched.

    Parameters
    ----------
    traces : list of Trace
        Chains, one per cluster.
    queries : ndarray, int64, shape (Q,)
        Indices in `traces`.
    """

    traces: list[Trace]
    queries: NDArray[np.int64]


def retrieval_task(path: Path, queries: int, chains: int, seed: int = 0) -> Task:
    """Return queries from split val, and chains from splits val and test.

    Parameters
    ----------
    path : Path
        Corpus file.
    queries, chains : int
        Largest numbers; queries are among the chains.
    seed : int
        Seed of the chains.
    """
    held_out = Corpus(path, ["val", "test"])
    split = held_out.table["split"].to_numpy(zero_copy_only=False)
    positions = held_out.one_per_cluster(chains, LENGTHS, seed)
    asked = [n for n, p in enumerate(positions) if split[p] == "val"][:queries]
    return Task([held_out[p] for p in positions], np.array(asked, dtype=np.int64))


class TMScores:
    """TM-scores of queries with other chains, normalised by the query's length; pairs are aligned once.

    Parameters
    ----------
    task : Task
        Task with the queries.
    path : Path, optional
        Cache file.
    """

    def __init__(self, task: Task, path: Path | None = None) -> None:
        self.task, self.path = task, path
        self.known: dict[tuple[str, str], float] = {}
        if path is not None and path.exists():
            z = read_arrays(path, ("query", "other", "tm"), "a cache of TM-scores of protemb-train")
            pairs = zip(z["query"].tolist(), z["other"].tolist(), strict=True)
            self.known = dict(zip(pairs, z["tm"].tolist(), strict=True))

    def of(self, row: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the TM-scores of a query (a row of `task.queries`) with other chains."""
        query = self.task.traces[int(self.task.queries[row])]
        found = []
        for n in others:
            other = self.task.traces[int(n)]
            if (query.id, other.id) not in self.known:
                self.known[query.id, other.id] = tm_align(query, other)[0]
            found.append(self.known[query.id, other.id])
        return np.array(found)

    def best(self, row: int, count: int) -> NDArray[np.float64]:
        """Return the highest known TM-scores of a query."""
        query = self.task.traces[int(self.task.queries[row])].id
        known = [tm for (asked, _), tm in self.known.items() if asked == query]
        return np.sort(known)[::-1][:count]

    def save(self) -> None:
        """Write the file."""
        if self.path is None:
            return
        pairs = sorted(self.known)
        with written_whole(self.path) as part, part.open("wb") as file:
            np.savez_compressed(
                file,
                query=np.array([query for query, _ in pairs]),
                other=np.array([other for _, other in pairs]),
                tm=np.array([self.known[pair] for pair in pairs], dtype=np.float32),
            )


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """Scores of each query, float64, shape (Q,) each.

    Parameters
    ----------
    first : ndarray
        TM-score of the first hit.
    mean : ndarray
        Mean TM-score of the first ten hits.
    best_first, best_mean : ndarray
        Highest possible values among all hits known so far; pairs that were never aligned are not included.
    """

    first: NDArray[np.float64]
    mean: NDArray[np.float64]
    best_first: NDArray[np.float64]
    best_mean: NDArray[np.float64]


def retrieved(task: Task, vectors_ND: NDArray[np.floating], tm: TMScores) -> Retrieved:
    """Rank all chains by cosine similarity with each query, and align the first ten.

    Parameters
    ----------
    task : Task
        Queries and chains.
    vectors_ND : ndarray, shape (N, D)
        Protein vectors of `task.traces`.
    tm : TMScores
        Known scores; missing ones are computed, and written at the end.
    """
    unit = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    hits = _ranked(unit @ unit[task.queries].T, task)[:, :HITS]
    scores = np.stack([tm.of(row, hits[row]) for row in range(len(task.queries))])
    tm.save()
    best = np.stack([tm.best(row, HITS) for row in range(len(task.queries))])
    return Retrieved(scores[:, 0], scores.mean(axis=1), best[:, 0], best.mean(axis=1))


def align_likely(task: Task, tm: TMScores, count: int = COARSE) -> None:
    """Align each query with the chains that are likely to be similar, so that the best hits are known."""
    x = np.stack([coarse(trace) for trace in task.traces]).astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    distance = np.square(x[:, None] - x[task.queries][None]).sum(axis=-1)
    near = _ranked(-distance, task)[:, :count]
    for row in range(len(task.queries)):
        tm.of(row, near[row])
        if row % 20 == 19:
            tm.save()
    tm.save()


def _ranked(similarity_NQ: NDArray[np.floating], task: Task) -> NDArray[np.int64]:
    """Return indices of chains for each query, most similar first, without the query: (Q, N - 1)."""
    found = similarity_NQ.copy()
    found[task.queries, np.arange(len(task.queries))] = -np.inf
    return np.asarray(np.argsort(-found, axis=0, kind="stable")[:-1].T)
