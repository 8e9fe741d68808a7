"""Chains found by a search, and what they can be sorted by."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.names import distinct
from protemb_sdk._base.notebook import listing

SHORT = 40
"""Residues below which a TM-score says little (benchmarks/superposition.md)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Hit:
    """A chain found by a search.

    All numbers but `similarity` are of one superposition, and of the residues that it aligns. In an index of
    proteins alone nothing is superposed: there are no pairs then, and these numbers are NaN.

    Parameters
    ----------
    id, name, chain_id, source, sequence : str
        As in the store.
    length : int
        Residues of the hit.
    similarity : float
        Cosine similarity of the protein vectors of query and hit, by which candidates are chosen.
    tm_query, tm_target : float
        TM-score divided by the length of the query, and by the length of the hit. A value is never above the
        number of aligned residues over that length.
    e_value : float
        Number of unrelated chains expected in an index of this size with the same `tm_score` or a higher one.
    rmsd : float
        Root mean square distance of the aligned residues in angstrom.
    pairs : ndarray, int64, shape (P, 2)
        Aligned positions in the query and in the hit, from 0, increasing.
    identity : float
        Fraction of the aligned pairs with the same residue type.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> embedder = Embedder(device="cpu")
    >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> search.build_index("store", "index")
    1
    >>> index = search.open_index("index")
    >>> (hit,) = index.search(embedder.embed("1a8o.cif"))
    >>> hit.id, hit.length, hit.pairs.shape, round(hit.tm_query, 3), round(hit.similarity, 3)
    ('1a8o_A', 70, (70, 2), 1.0, 1.0)
    """

    id: str
    name: str
    chain_id: str
    source: str
    sequence: str
    length: int
    similarity: float
    tm_query: float
    tm_target: float
    e_value: float
    rmsd: float
    pairs: NDArray[np.int64]
    identity: float

    @property
    def tm_score(self) -> float:
        """Mean of `tm_query` and `tm_target`: high only if most of both chains is aligned."""
        return (self.tm_query + self.tm_target) / 2

    def _repr_html_(self) -> str:
        return Hits([self])._repr_html_()

    def __repr__(self) -> str:
        return f"Hit({self.id}: TM-score {self.tm_score:.3f}, {len(self.pairs)} residues aligned)"


def note_on_short(hits: Iterable[Hit], query_length: int = SHORT) -> str:
    """Return how many hits have a TM-score of a short chain, as a note; nothing if none has."""
    superposed = [hit for hit in hits if hit.tm_score == hit.tm_score]
    short = sum(min(query_length, hit.length) < SHORT for hit in superposed)
    if not short:
        return ""
    return (
        f"note: in {short} of {len(superposed)} hits the query or the hit has fewer than {SHORT} residues; "
        "TM-scores of such short chains are often high by chance"
    )


class Hits(list[Hit]):
    """A list of hits, which a notebook shows as a table.

    Parameters
    ----------
    hits : iterable of Hit
    query_length : int, optional
        Residues of the query, for the note on short chains.
    """

    def __init__(self, hits: Iterable[Hit] = (), query_length: int = SHORT) -> None:
        super().__init__(hits)
        self._query_length = query_length

    def _repr_html_(self) -> str:
        scores = ("TM-score", "TM/query", "TM/hit", "E-value", "RMSD", "aligned", "identity", "similarity")
        rows = [
            (
                name, hit.length, f"{hit.tm_score:.3f}", f"{hit.tm_query:.3f}", f"{hit.tm_target:.3f}",
                f"{hit.e_value:.1e}", f"{hit.rmsd:.1f}", len(hit.pairs), f"{hit.identity:.0%}",
                f"{hit.similarity:.3f}",
            )
            for name, hit in zip(distinct((hit.id, hit.source) for hit in self), self, strict=True)
        ]  # fmt: skip
        note = note_on_short(self, self._query_length)
        return listing(("hit", "residues", *scores), rows) + (
            f"<div>{html.escape(note)}</div>" if note else ""
        )


SORTS: Mapping[str, Callable[[Hit], float]] = MappingProxyType(
    {
        "tm": lambda hit: hit.tm_score,
        "tm-query": lambda hit: hit.tm_query,
        "tm-target": lambda hit: hit.tm_target,
        "similarity": lambda hit: hit.similarity,
    }
)
"""What hits can be sorted by, the largest first: names for `Index.search` and ``protemb search --sort``."""
