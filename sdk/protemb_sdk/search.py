"""Structure search: chains of a store with a fold similar to that of a query.

>>> from protemb_sdk import Embedder
>>> from protemb_sdk.search import build_index, open_index
>>> build_index("store", "index")
>>> index = open_index("index")
>>> hits = index.search(Embedder().embed("1a8o.cif"), k=10)

Candidates are the chains with the most similar protein vectors. Those with the best coarse superposition on
the query are superposed with all residues, and hits are sorted by TM-score. Needs
``pip install 'protemb-sdk[search]'``.
"""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, OutputError
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._search.chance import p_value
from protemb_sdk._search.clusters import ClusterMember, cluster_store
from protemb_sdk._search.hits import SORTS, Hit, Hits
from protemb_sdk._search.index import (
    CHAINS,
    COORDS,
    FORMAT,
    FORMATS,
    HEADER,
    RESIDUES,
    VECTORS,
    WHITENINGS,
    build_index,
    check_extra,
    load_whitenings,
)
from protemb_sdk._search.superpose import Superposition, coarse_tm_scores, superpose_chains

if TYPE_CHECKING:
    import pyarrow
    import usearch.index

    from protemb_sdk._search.index import Whitenings

__all__ = ["ClusterMember", "Hit", "Index", "Superposition", "build_index", "cluster_store", "open_index"]

CANDIDATES = 400
"""Chains that are compared with the query by a coarse superposition."""
SUPERPOSED = 30
"""Of them, those that are superposed with all residues, if no more hits are wanted."""
# Chains up to which all are compared: 8 ms then, and the alignments take more
# (benchmarks/experiments/vector_index.md).
ALL = 200_000
# How wide the graph is searched where there are more.
LOOK = 256
# Two residues are alike if their cosine is above it; what gaps cost (benchmarks/search.md).
ALIKE, OPENING, EXTENSION = 0.5, 1.0, 0.1

# What must be equal for embeddings to be compared.
_MUST_AGREE = ("model_sha256", "contract", "noise_level")


class Index:
    """An open index, made by `open_index`. Threads may share it.

    Attributes
    ----------
    path : Path
        Its folder.
    header : dict
        Counts, levels, and the provenance of its embeddings.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> embedder = Embedder(device="cpu")
    >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> search.build_index("store", "index")
    1
    >>> index = search.open_index("index")
    >>> len(index), index.descriptors.shape
    (1, (1, 128))
    """

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        whitenings: Whitenings,
        graph: usearch.index.Index,
        chains: pyarrow.Table,
        residues: NDArray[np.float16] | None,
        coords: NDArray[np.float32] | None,
    ) -> None:
        self.path, self.header = path, header
        self._whitenings, self._graph, self._chains = whitenings, graph, chains
        self._residues, self._coords = residues, coords
        lengths = chains["length"].to_numpy()
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._chains)

    def __repr__(self) -> str:
        return f"Index({self.path}: {len(self)} chains, model {self.header['provenance']['model']})"

    @property
    def ids(self) -> list[str]:
        """Id of each chain."""
        ids: list[str] = self._chains["id"].to_pylist()
        return ids

    @property
    def descriptors(self) -> NDArray[np.float32]:
        """Unit vectors whose cosines find candidates, shape (chains, D)."""
        return np.asarray(self._graph.get(np.arange(len(self)))).astype(np.float32)

    def descriptor(self, query: Embedding) -> NDArray[np.float32]:
        """Return the unit vector of a query, shape (D,).

        Parameters
        ----------
        query : Embedding
            Of the model of the index.

        Returns
        -------
        ndarray, float32, shape (D,)

        Examples
        --------
        >>> from protemb_sdk import Embedder, embed_into_store, search
        >>> embedder = Embedder(device="cpu")
        >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
        >>> search.build_index("store", "index")
        1
        >>> index = search.open_index("index")
        >>> index.descriptor(embedder.embed("1a8o.cif")).shape
        (128,)
        """
        residue = None if self._whitenings.residue is None else query.readout("residue")
        return self._whitenings.descriptor(query.protein, residue)

    def search(
        self, query: Embedding, k: int = 20, candidates: int = CANDIDATES, sort: str | None = None
    ) -> list[Hit]:
        """Return the chains most like a query, best first.

        Parameters
        ----------
        query : Embedding
            By the index's model. If the chain is itself in the index, it is among the hits.
        k : int, default 20
            How many hits.
        candidates : int, default 400
            How many chains, those with the most similar protein vectors, are compared with the query by a
            coarse superposition; at least `k`. The best 30 of them, or `k` if that is more, are superposed
            with all residues. More of them find more, and take more time.
        sort : str, optional
            "tm" (the default; mean of both TM-scores), "tm-query" (finds the query within
            larger chains), "tm-target" (finds chains that are part of the query) or "similarity" (protein
            vectors; the default in an index of proteins alone).

        Returns
        -------
        list of Hit
            Fewer than `k` if the index has fewer.

        Raises
        ------
        EmbeddingError
            If the query was embedded by another model, `k` or `candidates` is below 1, `sort` is unknown, or
            the index has only proteins and `sort` is a TM-score.

        Examples
        --------
        >>> from protemb_sdk import Embedder, embed_into_store, search
        >>> embedder = Embedder(device="cpu")
        >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
        >>> search.build_index("store", "index")
        1
        >>> index = search.open_index("index")
        >>> [hit.id for hit in index.search(embedder.embed("1a8o.cif"), k=1)]
        ['1a8o_A']
        """
        self._check(query)
        if k < 1 or candidates < 1:
            raise EmbeddingError(f"k={k} and candidates={candidates}: both must be at least 1")
        if sort is not None and sort not in SORTS:
            raise EmbeddingError(f"hits cannot be sorted by {sort!r}; choose one of {', '.join(SORTS)}")
        found, cosines = self._candidates(query, max(k, candidates))
        if self._coords is None:
            if sort not in (None, "similarity"):
                raise EmbeddingError(
                    f"has only protein vectors, so that there is no TM-score to sort by ({sort!r}); make the "
                    "index of a store with residues, or sort by similarity",
                    self.path,
                )
            some = zip(found[:k], cosines[:k], strict=True)
            return Hits((self._hit(query, int(n), float(c)) for n, c in some), len(query))
        best = self._best(query, found, k, sort or "tm")
        found, cosines = found[best], cosines[best]
        superposed = self.superpose(query, found)
        hits = [
            self._hit(query, int(n), float(cosine), one)
            for n, cosine, one in zip(found, cosines, superposed, strict=True)
        ]
        return Hits(sorted(hits, key=SORTS[sort or "tm"], reverse=True)[:k], len(query))

    def superpose(self, query: Embedding, numbers: NDArray[np.integer]) -> list[Superposition]:
        """Superpose some chains on a query, whatever their protein vectors.

        Parameters
        ----------
        query : Embedding
            By the index's model.
        numbers : ndarray, int, shape (N,)
            Positions of the chains in `ids`.

        Returns
        -------
        list of Superposition
            With `pairs`, `tm_query`, `tm_target` and `rmsd` as in `Hit`.

        Raises
        ------
        EmbeddingError
            If the query was embedded by another model, or the index has only proteins.

        Examples
        --------
        >>> from protemb_sdk import Embedder, embed_into_store, search
        >>> embedder = Embedder(device="cpu")
        >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
        >>> search.build_index("store", "index")
        1
        >>> index = search.open_index("index")
        >>> (found,) = index.superpose(embedder.embed("1a8o.cif"), [0])
        >>> round(found.tm_query, 3), abs(round(found.rmsd, 3))
        (1.0, 0.0)
        """
        _, seeds = self.align(query, numbers)
        own = query.chain.centred_coords
        return [
            superpose_chains(own, self._coords_of(n), [seed]) for n, seed in zip(numbers, seeds, strict=True)
        ]

    def _coords_of(self, number: np.integer) -> NDArray[np.float32]:
        assert self._coords is not None
        return self._coords[self._offsets[number] : self._offsets[number + 1]]

    def _best(self, query: Embedding, numbers: NDArray[np.integer], k: int, sort: str) -> NDArray[np.int64]:
        """Return the places in `numbers` of the chains to superpose, for the first `k` hits."""
        count = k if sort == "similarity" else max(k, SUPERPOSED)
        if sort == "similarity" or len(numbers) <= count:
            return np.arange(min(count, len(numbers)))
        own = query.chain.centred_coords
        scores_N2 = np.array([coarse_tm_scores(own, self._coords_of(n)) for n in numbers])
        scores_N = {"tm-query": scores_N2[:, 0], "tm-target": scores_N2[:, 1]}.get(
            sort, scores_N2.mean(axis=1)
        )
        return np.sort(np.argsort(-scores_N, kind="stable")[:count])

    def align(
        self, query: Embedding, numbers: NDArray[np.integer]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
        """Align the residue embeddings of a query with those of some chains, whatever their protein vectors.

        Superpositions start from this alignment; it is not the one of a `Hit`. Local alignment of whitened
        residues: a pair counts its cosine less 0.5, the first residue of a gap costs 1.0 and each further one
        0.1.

        Parameters
        ----------
        query : Embedding
            By the index's model.
        numbers : ndarray, int, shape (N,)
            Positions of the chains in `ids`.

        Returns
        -------
        ndarray, float64, shape (N,)
            Scores: 1 for the query itself, 0 where nothing is alike.
        list of ndarray, int64, shape (P, 2)
            Aligned positions in the query and in each chain.

        Raises
        ------
        EmbeddingError
            If the query was embedded by another model, or the index holds no residues.

        Examples
        --------
        >>> from protemb_sdk import Embedder, embed_into_store, search
        >>> embedder = Embedder(device="cpu")
        >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
        >>> search.build_index("store", "index")
        1
        >>> index = search.open_index("index")
        >>> import numpy as np
        >>> scores, pairs = index.align(embedder.embed("1a8o.cif"), np.array([0]))
        >>> scores.round(3).tolist(), pairs[0].shape
        ([1.0], (70, 2))
        """
        self._check(query)
        if self._residues is None:
            raise EmbeddingError(
                "contains no residue embeddings; make it from a store with the level residue", self.path
            )
        from protemb_sdk._search.align import align

        residues_QC = self._whitenings.residues(query.readout("residue"))
        scores, pairs = np.empty(len(numbers)), []
        for place, number in enumerate(numbers):
            own = slice(self._offsets[number], self._offsets[number + 1])
            similarity_QT = residues_QC @ self._residues[own].astype(np.float32).T - ALIKE
            scores[place], aligned = align(similarity_QT, OPENING, EXTENSION)
            pairs.append(aligned)
        return scores / ((1 - ALIKE) * len(query)), pairs

    def _candidates(self, query: Embedding, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        count = min(count, len(self))
        found = self._graph.search(self.descriptor(query), count, exact=len(self) <= ALL)
        return found.keys.astype(np.int64), 1 - found.distances.astype(np.float64)

    def _hit(
        self, query: Embedding, number: int, similarity: float, superposed: Superposition | None = None
    ) -> Hit:
        row = self._chains.slice(number, 1).to_pylist()[0]
        row["chain_id"] = row.pop("chain")
        pairs = np.empty((0, 2), dtype=np.int64) if superposed is None else superposed.pairs
        chance = np.nan if superposed is None else p_value(superposed.tm_score, len(query), row["length"])
        same = [query.sequence[i] == row["sequence"][j] for i, j in pairs]
        return Hit(
            similarity=similarity,
            tm_query=np.nan if superposed is None else superposed.tm_query,
            tm_target=np.nan if superposed is None else superposed.tm_target,
            e_value=len(self) * chance,
            rmsd=np.nan if superposed is None else superposed.rmsd,
            pairs=pairs,
            identity=float(np.mean(same)) if same else np.nan,
            **row,
        )

    def _check(self, query: Embedding) -> None:
        ours = self.header["provenance"]
        for name in _MUST_AGREE:
            theirs = query.provenance[name]
            if ours[name] != theirs:
                raise EmbeddingError(
                    f"embedded with {name} {theirs!r}, and {self.path} holds {ours[name]!r}; "
                    f"embed the query with the index's model, {ours['model']!r}",
                    query.id,
                )


def open_index(path: str | PathLike[str]) -> Index:
    """Open an index; residues and descriptors stay on disk until they are needed.

    Parameters
    ----------
    path : path
        Folder made by `build_index` or `protemb index`.

    Returns
    -------
    Index

    Raises
    ------
    OutputError
        If there is no such index, if it is damaged or of another format, or if the extra is not installed.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> embedder = Embedder(device="cpu")
    >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> search.build_index("store", "index")
    1
    >>> index = search.open_index("index")
    >>> index.ids
    ['1a8o_A']
    """
    path = Path(path)
    if not os.path.isfile(path / HEADER):
        problem = "is not an index" if os.path.exists(path) else "no such index"
        raise OutputError(f"{problem}; make one with protemb index STORE -o {path}", path)
    check_extra(path)
    import pyarrow.parquet as pq
    from usearch.index import Index as Graph

    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
        if header["format"] not in FORMATS:
            raise OutputError(
                f"an index of format {header['format']!r}, and this version reads {FORMAT!r}", path
            )
        whitenings = load_whitenings(path / WHITENINGS)
        if (whitenings.protein is None) != (header["format"] != FORMAT):
            raise ValueError("its whitening has the wrong shape for its format")
        graph = Graph.restore(str(path / VECTORS), view=True)
        chains = pq.read_table(path / CHAINS)
        residues = coords = None
        if whitenings.residue is not None:
            residues, coords = (np.load(path / name, mmap_mode="r") for name in (RESIDUES, COORDS))
        if graph is None:
            raise ValueError(f"{VECTORS} is no graph")
        graph.expansion_search = LOOK  # type: ignore[misc]  # its setter is not seen
        sizes = {len(chains), len(graph), header["chains"]}
        if len(sizes) != 1 or (residues is not None and len(residues) != header["residues"]):
            raise ValueError("its files are of different indexes")
    except OutputError:
        raise
    except Exception as error:  # of NumPy, Arrow and the graph, whatever damaged bytes made them say
        reason = (str(error) or repr(error)).splitlines()[0]
        raise OutputError(f"a damaged index ({reason}); make it again with protemb index", path) from error
    return Index(path, header, whitenings, graph, chains, residues, coords)
