"""Rankings for comparison in `benchmarks/search.py`; they share only the corpus with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from protemb_sdk import Chain
from protemb_train.corpus.corpus import Corpus
from protemb_train.corpus.mmseqs import search as search_sequences
from protemb_train.encoders.three_di import ThreeDiEncoder
from protemb_train.encoders.vectors import find_vector_encoder
from protemb_train.network.protein import segment_distances
from protemb_train.protein_vector.features import chain_features
from protemb_train.protein_vector.linear_map import read_map

SIMILAR_LENGTH = 0.1  # relative difference of random chains
E_VALUE = 10.0  # largest E-value of a sequence hit
GAP_OPEN, GAP_EXTEND = 10, 1  # for 3Di sequences, as in Foldseek

Order = NDArray[np.int64]
Ranking = Callable[[int, Order], Order]
"""From a query's row and indices in the corpus without the query: these indices, best first."""


@dataclass(frozen=True)
class Task:
    """Queries and searched chains."""

    corpus: Corpus
    structures: list[Chain]
    asked: Order

    def relatives(self, row: int) -> NDArray[np.bool_]:
        """Return which chains of the corpus are in the query's cluster."""
        return np.asarray(self.corpus.clusters == self.corpus.clusters[self.asked[row]])

    def others(self, row: int) -> Order:
        """Return all chains but the query."""
        return np.delete(np.arange(len(self.structures)), self.asked[row])


def by_sequence(task: Task) -> Ranking:
    """Return the ranking of MMseqs2, by E-value; chains that it does not find follow in random order."""
    sequences = [chain.sequence for chain in task.structures]
    asked = [sequences[query] for query in task.asked]
    values = np.full((len(asked), len(sequences)), np.inf)
    first = {sequence: row for row, sequence in reversed(list(enumerate(asked)))}
    for hit in search_sequences(asked, sequences, identity=0.0, e_value=E_VALUE):
        values[hit.query, hit.target] = min(values[hit.query, hit.target], hit.e_value)
    values = values[[first[sequence] for sequence in asked]]
    behind = np.random.default_rng(0).random(values.shape)
    return lambda row, pool: pool[np.lexsort((behind[row, pool], values[row, pool]))]


def at_random(task: Task) -> Ranking:
    """Return a random ranking, with chains of similar length first."""
    lengths, chance = task.corpus.lengths, np.random.default_rng(1)

    def ranking(row: int, pool: Order) -> Order:
        pool = chance.permutation(pool)
        own = lengths[task.asked[row]]
        far = np.abs(lengths[pool] - own) > SIMILAR_LENGTH * own
        return np.asarray(pool[np.argsort(far, kind="stable")])

    return ranking


def by_three_di(task: Task) -> Ranking:
    """Return the ranking by local alignment of 3Di sequences, for all pairs."""
    from biotite.sequence.align import SubstitutionMatrix
    from pyopal import Aligner, Database
    from scoring_matrices import ScoringMatrix

    matrix = SubstitutionMatrix.std_3di_matrix()
    letters = "".join(matrix.get_alphabet1().get_symbols()).upper()
    encoder = ThreeDiEncoder()
    states = [encoder.letters(chain.ca_coords) for chain in task.structures]
    database = Database(states, alphabet=letters)
    aligner = Aligner(
        ScoringMatrix(matrix.score_matrix().tolist(), letters), gap_open=GAP_OPEN, gap_extend=GAP_EXTEND
    )
    scores = np.array(
        [
            [found.score for found in aligner.align(states[query], database, mode="score", algorithm="sw")]
            for query in task.asked
        ]
    )
    return lambda row, pool: pool[np.argsort(-scores[row, pool], kind="stable")]


def by_segments(task: Task) -> Ranking:
    """Return the ranking by distance of `segment_distances`."""
    with torch.inference_mode():
        vectors = np.concatenate(
            [
                segment_distances(torch.from_numpy(chain.ca_coords.astype(np.float32))[None]).numpy()
                for chain in task.structures
            ]
        )

    def ranking(row: int, pool: Order) -> Order:
        apart = np.square(vectors[pool] - vectors[task.asked[row]]).sum(axis=1)
        return np.asarray(pool[np.argsort(apart, kind="stable")])

    return ranking


def by_map(task: Task, path: Path, name: str) -> Ranking:
    """Return the ranking by cosine similarity of an encoder's vectors through its linear map.

    The map is from `protemb-train fit-map`, fitted for each encoder in the same way.
    """
    encoder, fitted = find_vector_encoder(name), read_map(path)
    traces = [task.corpus[position] for position in range(len(task.structures))]
    vectors = fitted(np.stack([chain_features(encoder, trace) for trace in traces]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return lambda row, pool: pool[np.argsort(-(vectors[pool] @ vectors[task.asked[row]]), kind="stable")]
