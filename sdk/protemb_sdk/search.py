"""Structure search: chains of a store with a fold similar to that of a query.

>>> from protemb_sdk import Embedder
>>> from protemb_sdk.search import build_index, open_index
>>> build_index("store", "index")
>>> index = open_index("index")
>>> hits = index.search(Embedder().embed("1a8o.cif"), k=10)

Candidates are found by the cosine of protein descriptors, and ranked by the alignment of their residues.
Needs ``pip install 'protemb-sdk[search]'``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, OutputError
from protemb_sdk._embed.embedding import Embedding
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
from protemb_sdk._search.superpose import refined_tm_scores

if TYPE_CHECKING:
    import pyarrow
    import usearch.index

    from protemb_sdk._search.index import Whitenings

__all__ = ["Hit", "Index", "build_index", "open_index"]

CANDIDATES = 200
"""Candidates that are aligned by residues."""
# Chains up to which all are compared: 8 ms then, and the alignments take more
# (benchmarks/experiments/vector_index.md).
ALL = 200_000
# How wide the graph is searched where there are more.
LOOK = 256
# Two residues are alike if their cosine is above it; what gaps cost (benchmarks/search.md).
ALIKE, OPENING, EXTENSION = 0.5, 1.0, 0.1

# What must be equal for embeddings to be compared.
_MUST_AGREE = ("model_sha256", "contract", "noise_level")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Hit:
    """A chain found by a search.

    Parameters
    ----------
    id, name, chain_id, source, sequence : str
        As in the store.
    length : int
        Its residues.
    cosine : float
        Of protein descriptors, by which it became a candidate.
    score : float
        Of the residue alignment, 1 for the query itself and 0 where nothing is alike; NaN in an index of
        proteins alone.
    tm_score : float
        TM-score by the length of the query, of the chains superposed by these pairs and aligned again by
        distance; NaN as above.
    pairs : ndarray, int64, shape (P, 2)
        Aligned positions in the query and in the hit, from 0.
    identity : float
        Share of aligned pairs with equal residue types.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> embedder = Embedder(device="cpu")
    >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> search.build_index("store", "index")
    1
    >>> index = search.open_index("index")
    >>> (hit,) = index.search(embedder.embed("1a8o.cif"))
    >>> hit.id, hit.length, hit.pairs.shape, round(hit.score, 3), round(hit.tm_score, 3)
    ('1a8o_A', 70, (70, 2), 1.0, 1.0)
    """

    id: str
    name: str
    chain_id: str
    source: str
    sequence: str
    length: int
    cosine: float
    score: float
    tm_score: float
    pairs: NDArray[np.int64]
    identity: float

    def __repr__(self) -> str:
        return (
            f"Hit({self.id}: score {self.score:.3f}, TM-score {self.tm_score:.3f}, {len(self.pairs)} aligned)"
        )


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
        return self._whitenings.descriptor(query.protein, query.residue)

    def search(self, query: Embedding, k: int = 20, candidates: int = CANDIDATES) -> list[Hit]:
        """Return the chains most similar to a query, best first.

        Parameters
        ----------
        query : Embedding
            By the index's model. If the chain is itself in the index, it is among the hits.
        k : int, default 20
            How many hits.
        candidates : int, default 200
            How many chains the residues decide about, at least `k`.

        Returns
        -------
        list of Hit
            By `score`; in an index of proteins alone, by `cosine`. Fewer than `k` if the index has fewer.

        Raises
        ------
        EmbeddingError
            If the query was embedded by another model, or `k` or `candidates` is below 1.

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
        found, cosines = self._candidates(query, max(k, candidates))
        if self._residues is None or self._coords is None:
            return [self._hit(query, int(n), float(c)) for n, c in zip(found[:k], cosines[:k], strict=True)]
        scores, pairs = self.align(query, found)
        best = np.argsort(-scores, kind="stable")[:k]
        coords = [self._coords[self._offsets[n] : self._offsets[n + 1]] for n in found[best]]
        tms = refined_tm_scores(query.chain.centred_coords, coords, [pairs[b] for b in best])
        return [
            self._hit(query, int(found[b]), float(cosines[b]), float(scores[b]), float(tm), pairs[b])
            for b, tm in zip(best, tms, strict=True)
        ]

    def align(
        self, query: Embedding, numbers: NDArray[np.integer]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
        """Align the residues of a query with those of given chains.

        Local alignment of whitened residues: a pair counts its cosine less 0.5, the first residue of a gap
        costs 1.0 and each further one 0.1.

        Parameters
        ----------
        query : Embedding
            By the index's model.
        numbers : ndarray, int, shape (N,)
            Positions of the chains in `ids`.

        Returns
        -------
        ndarray, float64, shape (N,)
            Scores, as in `Hit`.
        list of ndarray, int64, shape (P, 2)
            Pairs, as in `Hit`.

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

        residues_QC = self._whitenings.residues(query.residue)
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
        self,
        query: Embedding,
        number: int,
        cosine: float,
        score: float = np.nan,
        tm_score: float = np.nan,
        pairs: NDArray[np.int64] | None = None,
    ) -> Hit:
        row = self._chains.slice(number, 1).to_pylist()[0]
        row["chain_id"] = row.pop("chain")
        aligned = np.empty((0, 2), dtype=np.int64) if pairs is None else pairs
        same = [query.sequence[i] == row["sequence"][j] for i, j in aligned]
        identity = float(np.mean(same)) if same else np.nan
        return Hit(
            cosine=cosine, score=score, tm_score=tm_score, pairs=aligned, identity=identity, **row
        )  # fmt: skip

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
    check_extra(path)
    import pyarrow.parquet as pq
    from usearch.index import Index as Graph

    if not os.path.isfile(path / HEADER):
        raise OutputError(f"is not an index; make one with protemb index STORE -o {path}", path)
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
