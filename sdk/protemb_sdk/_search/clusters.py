"""Clusters of the chains of a store by their protein vectors."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, OutputError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._model.models import CONTRACT
from protemb_sdk._search.index import header_of, tables
from protemb_sdk._search.whitening import fit_whitening, unit

SIMILARITY = 0.5
"""Mean similarity down to which clusters are joined, if nothing else is asked for."""
LARGEST = 20_000
"""Chains at most: distances of all pairs are held in memory, 3 GB."""

_COLUMNS = ("id", "name", "chain", "source", "length", "protein")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMember:
    """A chain and its cluster.

    Parameters
    ----------
    cluster : int
        Number of the cluster, from 1; the largest comes first.
    size : int
        Chains in the cluster.
    representative : bool
        Whether this is the chain with the highest mean similarity to the others of the cluster.
    similarity : float
        Cosine similarity of the protein vectors of this chain and of the representative.
    id, name, chain_id, source : str
        As in the store.
    length : int
        Residues.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> summary = embed_into_store(Embedder(device="cpu"), ["1a8o.cif"], "store")
    >>> (member,) = search.cluster_store("store")
    >>> member.id, member.cluster, member.size, member.representative
    ('1a8o_A', 1, 1, True)
    """

    cluster: int
    size: int
    representative: bool
    similarity: float
    id: str
    name: str
    chain_id: str
    source: str
    length: int


def compared_vectors(protein_ND: NDArray[np.floating], contract: str) -> NDArray[np.float32]:
    """Return unit vectors whose products are similarities, shape (N, D).

    In contract 1 protein vectors are all alike before they are whitened, on the set itself.
    """
    plain = contract != CONTRACT
    return unit(np.asarray(protein_ND, dtype=np.float32) if plain else fit_whitening(protein_ND)(protein_ND))


def cluster_vectors(unit_ND: NDArray[np.floating], similarity: float) -> NDArray[np.int64]:
    """Return a cluster number for each vector, from 0, the largest cluster first, shape (N,).

    Average linkage (UPGMA): the two clusters with the highest mean similarity of their members are joined,
    while it is at least `similarity`.

    Raises
    ------
    EmbeddingError
        If `similarity` is not between -1 and 1, or SciPy is not installed.
    """
    if not -1 <= similarity <= 1:
        raise EmbeddingError(f"similarity={similarity}: give a number from -1 to 1")
    try:
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import pdist
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "scipy":
            raise
        raise EmbeddingError(f"clusters need scipy; {how_to_install('search')}") from None
    if len(unit_ND) == 1:
        return np.zeros(1, dtype=np.int64)
    # Half of the squared distance of unit vectors is one less their product, without negative rounding.
    distances = pdist(unit_ND.astype(np.float64), "sqeuclidean")
    distances /= 2
    label = fcluster(linkage(distances, "average"), 1 - similarity + 1e-9, "distance")
    _, first, number, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[number]


def cluster_store(store: str | PathLike[str], similarity: float = SIMILARITY) -> list[ClusterMember]:
    """Group the chains of a store by the similarity of their protein vectors.

    Average linkage: the two clusters with the highest mean similarity between their members are joined, while
    it is at least `similarity`. Needs ``pip install 'protemb-sdk[search]'``.

    Parameters
    ----------
    store : path
        Folder made by `protemb embed -o` or `protemb_sdk.ray`, or a `.parquet` file of `protemb embed -o`; at
        most 20,000 chains.
    similarity : float, default 0.5
        Cosine similarity, -1 to 1. The higher, the more and smaller clusters. What a value means depends on
        the model; it is not a TM-score.

    Returns
    -------
    list of ClusterMember
        One for each chain, cluster by cluster, the largest first; in a cluster the representative first, then
        by similarity.

    Raises
    ------
    OutputError
        If the store is none, damaged, empty or too large.
    EmbeddingError
        If `similarity` is not between -1 and 1, or SciPy is not installed.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> summary = embed_into_store(Embedder(device="cpu"), ["1a8o.cif"], "store")
    >>> [member.id for member in search.cluster_store("store", similarity=0.6)]
    ['1a8o_A']
    """
    path = Path(store)
    header = header_of(path)
    rows: list[dict[str, object]] = []
    proteins: list[NDArray[np.floating]] = []
    for table in tables(path, list(_COLUMNS)):
        proteins += [cell.values.to_numpy() for cell in table["protein"]]
        rows += table.drop_columns(["protein"]).to_pylist()
        if len(rows) > LARGEST:
            raise OutputError(f"has more than {LARGEST:,} chains; cluster a part of them", path)
    if not rows:
        raise OutputError("the store holds no chain; see _skipped.csv in it", path)
    vectors = compared_vectors(np.stack(proteins), header["provenance"]["contract"])
    number = cluster_vectors(vectors, similarity)
    found: list[ClusterMember] = []
    for cluster in range(number.max() + 1):
        members = np.flatnonzero(number == cluster)
        own = vectors[members]
        centre = int(np.argmax(own @ own.sum(axis=0)))
        near = own @ own[centre]
        near[centre] = 1
        order = np.lexsort((-near, np.arange(len(members)) != centre))
        for place in order:
            row = dict(rows[members[place]])
            found.append(
                ClusterMember(
                    cluster=cluster + 1,
                    size=len(members),
                    representative=bool(place == centre),
                    similarity=float(near[place]),
                    chain_id=row.pop("chain"),
                    **row,
                )
            )
    return found
