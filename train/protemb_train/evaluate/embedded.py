"""Chains that are embedded once, and the columns of their vectors that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ALPHABET, ProtembError
from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.common.embeddings import Embedded, LabelledChain, ResidueEncoder, embed_all
from protemb_train.encoders.vectors import VectorEncoder


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A segment of a chain of the corpus, as input of encoders of labelled chains.

    Parameters
    ----------
    id, sequence : str
        Name, and one-letter codes.
    ca_coords : ndarray, float64, shape (L, 3)
        C-alpha coordinates in angstrom.
    """

    id: str
    sequence: str
    ca_coords: NDArray[np.float64]

    @classmethod
    def of(cls, trace: Trace, part: slice = slice(None)) -> Piece:
        """Return a piece from a chain, or from a part of it."""
        letters = "".join(ALPHABET[kind] for kind in trace.residue_type[part])
        return cls(f"{trace.id}:{part.start}-{part.stop}", letters, trace.ca_coords[part].astype(np.float64))

    @property
    def seen(self) -> NDArray[np.bool_]:
        """True for every residue."""
        return np.ones(len(self.sequence), dtype=np.bool_)

    @property
    def has_coordinates(self) -> bool:
        """True."""
        return True

    def __len__(self) -> int:
        return len(self.sequence)


class Contents:
    """Residue vectors of one encoder, several of them concatenated, embedded once for all uses.

    Parameters
    ----------
    encoder : VectorEncoder
        Encoder to evaluate.
    contents : sequence of str
        Contents to evaluate: names of vectors joined by "+", such as "state+means".
    cache : Path, optional
        Cache folder of embeddings.

    Raises
    ------
    ModelError
        If the encoder has no vectors with these names.
    """

    def __init__(self, encoder: VectorEncoder, contents: Sequence[str], cache: Path | None) -> None:
        if not contents:
            raise ProtembError("pass at least one content of the residue vectors, such as state+means")
        self.encoder, self.names, self.cache = encoder, tuple(contents), cache
        wanted = {name for content in contents for name in content.split("+")}
        order = [name for name in encoder.vectors if name in wanted]
        unknown = sorted(wanted - set(order))
        self.whole = ResidueEncoder(encoder, order + unknown)
        self._columns: dict[str, slice] = {}

    def embed(self, chains: Sequence[LabelledChain]) -> dict[str, list[Embedded]]:
        """Return embeddings of chains for each content."""
        found = embed_all(self.whole, chains, self.cache)
        if not self._columns:
            self._columns = self._find_columns(chains[0])
        return {content: [self._cut(e, content) for e in found] for content in self.names}

    def _cut(self, embedded: Embedded, content: str) -> Embedded:
        parts = [self._columns[name] for name in content.split("+")]
        residue = np.concatenate([embedded.residue[:, part] for part in parts], axis=1)
        return Embedded(residue, np.concatenate([embedded.protein[part] for part in parts]))

    def _find_columns(self, chain: LabelledChain) -> dict[str, slice]:
        """Return the columns of each vector, by encoding a few residues."""
        few = min(len(chain), 12)
        place = np.flatnonzero(chain.seen)[:few]
        types = np.zeros(len(place), dtype=np.int64)
        found = self.encoder.encode(chain.ca_coords[place], types, place, self.whole.names)
        ends = np.cumsum([found[name].shape[1] for name in self.whole.names])
        return {
            name: slice(int(end) - found[name].shape[1], int(end))
            for name, end in zip(self.whole.names, ends, strict=True)
        }
