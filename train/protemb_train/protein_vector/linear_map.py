"""The linear map of the protein vector, fitted to similar chains.

Features of chains of one fold differ in directions that are unrelated to the fold. The map normalises by the
scatter within similar chains, so that cosine similarity weights each direction by its information
(within-class covariance normalisation, as in speaker recognition). It is linear because a small perceptron on
the same features overfits the training chains.

Shapes: N chains, F features, D width of the protein vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ProtembError
from protemb_sdk._base.output import written_whole
from protemb_train.base.arrays import ArrayFileError, read_arrays
from protemb_train.corpus.corpus import Corpus
from protemb_train.network.protein import DISTANCES
from protemb_train.protein_vector.pairs import LENGTHS, Pairs

SHRINK = 0.1
"""Regularisation: share of the mean that is added to every direction of a scatter matrix."""
SHAPE_WEIGHT = 0.7
"""Weight of the 55 numbers of `segment_distances` relative to the part means of the state."""
PER_CLUSTER = 3
"""Largest number of chains per cluster."""


class MapError(ProtembError):
    """A linear map cannot be fitted."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearMap:
    """protein = features @ matrix + bias.

    Parameters
    ----------
    matrix : ndarray, float32, shape (F, D)
        Standardises and maps.
    bias : ndarray, float32, shape (D,)
        Moves the mean of the training chains to the origin.
    record : dict
        Plain values: encoder, corpus, chains, pairs, settings.
    """

    matrix: NDArray[np.float32]
    bias: NDArray[np.float32]
    record: dict[str, Any]

    def __call__(self, features_NF: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return protein vectors of unit length, shape (N, D)."""
        mapped = features_NF.astype(np.float64) @ self.matrix + self.bias
        return np.asarray(mapped / np.linalg.norm(mapped, axis=1, keepdims=True), dtype=np.float32)

    def cut(self, width: int) -> LinearMap:
        """Return the map to the first `width` components, which are the most informative."""
        return LinearMap(self.matrix[:, :width], self.bias[:width], {**self.record, "width": width})


def read_map(path: Path) -> LinearMap:
    """Read a file of `protemb-train fit-map`.

    Raises
    ------
    ArrayFileError
        If the file is missing or damaged.
    """
    z = read_arrays(path, ("matrix", "bias", "record"), "a linear map of protemb-train fit-map")
    try:
        return LinearMap(z["matrix"], z["bias"], dict(json.loads(str(z["record"][()]))))
    except (TypeError, ValueError) as error:
        raise ArrayFileError(f"{path}: its record cannot be read ({error}); fit the map again") from error


def write_map(fitted: LinearMap, path: Path) -> None:
    """Write a map atomically."""
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, matrix=fitted.matrix, bias=fitted.bias, record=np.array(json.dumps(fitted.record)))


@dataclass(frozen=True, slots=True, eq=False)
class SimilarChains:
    """Chains for fitting a map, and their similarities.

    Parameters
    ----------
    positions : ndarray, int64, shape (N,)
        Indices in the corpus.
    clusters : ndarray, int64, shape (N,)
        Chains of one cluster are relatives.
    pairs : ndarray, int64, shape (P, 2)
        Indices in `positions` of chains with the same fold.
    """

    positions: NDArray[np.int64]
    clusters: NDArray[np.int64]
    pairs: NDArray[np.int64]


def similar_chains(corpus: Corpus, pairs: Pairs, most: int | None = None) -> SimilarChains:
    """Return the training chains with a relative or a pair, at most `most` of each kind.

    Parameters
    ----------
    corpus : Corpus
        Corpus of the pairs, read with split "train" only.
    pairs : Pairs
        Pairs; only similar ones are used.
    most : int, optional
        Largest numbers of chains with a pair, and with a relative; all by default.

    Raises
    ------
    MapError
        If the corpus is not that of the pairs, has another split, or no pair is similar.
    """
    if corpus.splits != ("train",):
        raise MapError(f"{corpus.path}: the map must be fitted on training chains only; read split train")
    if pairs.corpus_sha256 != corpus.sha256:
        raise MapError(f"{corpus.path}: the pairs are of another corpus; make pairs of this one")
    alike = pairs.alike()
    if not len(alike):
        raise MapError("none of the pairs is similar; align more pairs")
    place = {str(name): n for n, name in enumerate(corpus.table["id"].to_pylist())}
    chosen: dict[int, None] = {}
    for a, b in alike.tolist():
        for n in (a, b):
            if most is None or len(chosen) < most:
                chosen[place[str(pairs.ids[n])]] = None
    fitting = (corpus.lengths >= LENGTHS[0]) & (corpus.lengths <= LENGTHS[1])
    members: dict[int, list[int]] = {}
    # Chains that are already embedded come first.
    for p in [*chosen, *np.random.default_rng(0).permutation(np.flatnonzero(fitting)).tolist()]:
        of = members.setdefault(int(corpus.clusters[p]), [])
        if p not in of and len(of) < PER_CLUSTER:
            of.append(p)
    relatives: dict[int, None] = {}
    for of in members.values():
        if len(of) > 1 and (most is None or len(relatives) + len(of) <= most):
            relatives |= dict.fromkeys(of)
    positions = np.array(sorted({*chosen, *relatives}), dtype=np.int64)
    local = {int(p): n for n, p in enumerate(positions)}
    of_pair = [[local.get(place[str(pairs.ids[n])], -1) for n in pair] for pair in alike.tolist()]
    kept = np.array([pair for pair in of_pair if -1 not in pair], dtype=np.int64).reshape(-1, 2)
    return SimilarChains(positions, corpus.clusters[positions], kept)


def fit_map(
    features_NF: NDArray[np.floating],
    clusters: NDArray[np.int64],
    pairs: NDArray[np.int64],
    width: int,
    record: Mapping[str, Any] | None = None,
    *,
    shrink: float = SHRINK,
    shape_weight: float = SHAPE_WEIGHT,
) -> LinearMap:
    """Fit the linear map.

    Parameters
    ----------
    features_NF : ndarray, shape (N, F)
        Features of `protein_features`: the last 55 are `segment_distances`.
    clusters : ndarray, int64, shape (N,)
        Chains of one cluster are relatives.
    pairs : ndarray, int64, shape (P, 2)
        Indices of chains with the same fold.
    width : int
        D; at most F.
    record : mapping, optional
        Stored with the map.
    shrink : float
        Regularisation of both scatter matrices, relative to their mean.
    shape_weight : float
        Weight of `segment_distances`.

    Raises
    ------
    MapError
        If no two chains are similar, or the number of chains is not larger than the width.
    """
    count, dims = features_NF.shape
    if count <= width:
        raise MapError(f"{count} chains are too few for a map of width {width}; use more")
    width = min(width, dims)
    mean, spread = features_NF.mean(axis=0, dtype=np.float64), features_NF.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0.0)
    z = (features_NF - mean) * scale
    first = np.diag(scale) @ _whitening(z, dims - DISTANCES, shrink, shape_weight)
    x = (features_NF - mean) @ first
    within = _within(x, clusters, pairs)
    second = _power(_shrunk(within, shrink), -0.5)
    # The first directions have the largest scatter of all chains relative to that of similar chains.
    values, axes = np.linalg.eigh(np.cov((x @ second).T))
    matrix = first @ second @ axes[:, np.argsort(-values)[:width]]
    kept = {
        **(record or {}),
        "chains": count,
        "pairs": len(pairs),
        "width": width,
        "shrink": shrink,
        "shape_weight": shape_weight,
    }
    return LinearMap(matrix.astype(np.float32), (-mean @ matrix).astype(np.float32), kept)


def _whitening(
    z_NF: NDArray[np.float64], of_state: int, shrink: float, shape_weight: float
) -> NDArray[np.float64]:
    """Return the matrix that whitens part means and `segment_distances` separately: (F, F)."""
    found = np.zeros((z_NF.shape[1], z_NF.shape[1]))
    for part, weight in ((slice(0, of_state), 1.0), (slice(of_state, None), shape_weight)):
        size = z_NF[:, part].shape[1]
        if size:
            covariance = z_NF[:, part].T @ z_NF[:, part] / len(z_NF)
            found[part, part] = weight / np.sqrt(size) * _power(_shrunk(covariance, shrink), -0.5)
    return found


def _within(
    x_NF: NDArray[np.float64], clusters: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the scatter within similar chains: half from relatives, half from pairs."""
    found: list[NDArray[np.float64]] = []
    order = np.argsort(clusters, kind="stable")
    groups: Sequence[NDArray[np.int64]] = np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)
    scatters = [np.cov(x_NF[group].T) for group in groups if len(group) > 1]
    if scatters:
        found.append(np.mean(scatters, axis=0))
    if len(pairs):
        apart = x_NF[pairs[:, 0]] - x_NF[pairs[:, 1]]
        found.append(apart.T @ apart / (2 * len(pairs)))
    if not found:
        raise MapError("no two chains are similar; pass clusters of several chains, or pairs")
    return np.asarray(np.mean(found, axis=0))


def _shrunk(matrix: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return np.asarray(matrix + share * np.trace(matrix) / len(matrix) * np.eye(len(matrix)))


def _power(matrix: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Return a power of a symmetric positive definite matrix."""
    values, axes = np.linalg.eigh(matrix)
    return np.asarray((axes * np.maximum(values, 1e-12) ** power) @ axes.T)
