"""The result: one chain's embeddings at three levels beside what identifies its residues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, OutputError
from protemb_sdk._base.notebook import card
from protemb_sdk._embed.npz import load, save
from protemb_sdk._model.models import CONTRACT
from protemb_sdk._model.readouts import READOUTS, RESIDUE
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.columns import facts_of

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Embedding:
    """Embeddings of one protein chain, or of several that were embedded together.

    Parameters
    ----------
    chain : Chain
        The chain that was embedded: coordinates, names and numbers of its residues.
    protein : ndarray, float32, shape (width of protein,)
        Of the whole chain. In models of contract 2 of length 1, made from the structure without residue
        types; dot products are cosine similarities. In contract 1 the mean of `residue` over the chain, of
        width C.
    residue : ndarray, float32, shape (L, width of residue)
        Of each residue. In models of contract 2 the single representation, and means of the pair embedding
        over the partners of each residue (the model's card says which). In contract 1 the mean alone, of
        width C. Of width 0 if it was not kept (`residue=False`).
    pair : ndarray, float32, shape (L, L, C), or None
        Pair embedding, row residue first; None unless asked for (`pair=True`).
    provenance : mapping
        Model, its SHA-256, noise level, device and versions.
    readouts : mapping of str to ndarray, float32, shape (L, C)
        The readouts asked for (`readouts=`), by the names of `protemb_sdk.list_readouts`.
    profile : ndarray, float32, shape (L, 20), or None
        Log probabilities of residue types from the structure alone; None unless asked for (`profile=True`).

    Examples
    --------
    >>> from protemb_sdk import Embedder
    >>> embedding = Embedder(device="cpu").embed("1a8o.cif")
    >>> embedding.id, embedding.protein.shape, embedding.residue.shape
    ('1a8o_A', (128,), (70, 395))
    >>> embedding.pair is None, embedding.sequence[:5], embedding.auth_seq[:3].tolist()
    (True, 'MDIRQ', [151, 152, 153])
    """

    chain: Chain
    protein: NDArray[np.float32]
    residue: NDArray[np.float32]
    pair: NDArray[np.float32] | None
    provenance: Mapping[str, Any]
    readouts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    profile: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.chain)

    def __repr__(self) -> str:
        pair = "None" if self.pair is None else self.pair.shape
        more = f", readouts {', '.join(self.readouts)}" if self.readouts else ""
        return (
            f"Embedding({self.id}: protein {self.protein.shape}, residue {self.residue.shape}, "
            f"pair {pair}{more})"
        )

    def _repr_html_(self) -> str:
        from protemb_sdk._embed.picture import thumbnail

        levels = {"protein": self.protein, "residue": self.residue, "pair": self.pair, **self.readouts}
        shapes = {
            name: array.shape if array is not None and array.size else "not kept"
            for name, array in levels.items()
        }
        facts = {**facts_of(self.chain), **shapes, "model": self.provenance.get("model", "")}
        return card(facts, lambda: thumbnail(self.chain, self.residue, self.pair))

    @property
    def _kept_residue(self) -> NDArray[np.float32]:
        if not self.residue.shape[1]:
            raise EmbeddingError("the residue embedding was not kept; embed with residue=True", self.id)
        return self.residue

    @property
    def id(self) -> str:
        """Name of the source and author chain name, as in `1a8o_A`."""
        return self.chain.id

    @property
    def name(self) -> str:
        """Name of the source: the file's name without its endings."""
        return self.chain.name

    @property
    def chain_id(self) -> str:
        """Author name of the chain; of a complex all names, as in "A+B"."""
        return self.chain.chain_id

    @property
    def chain_of_residue(self) -> NDArray[np.str_]:
        """Author name of the chain of each residue, shape (L,)."""
        return self.chain.chain_of_residue

    @property
    def label_chain(self) -> str:
        """Label chain name (mmCIF); empty where the source has none."""
        return self.chain.label_chain

    @property
    def sequence(self) -> str:
        """One-letter codes of the residues that were seen, length L."""
        return self.chain.sequence

    @property
    def residue_index(self) -> NDArray[np.int64]:
        """Index of each residue from 0, steps above 1 for missing residues or ends of chains, shape (L,)."""
        return self.chain.residue_index

    @property
    def auth_seq(self) -> NDArray[np.int32]:
        """Author residue numbers, shape (L,)."""
        return self.chain.auth_seq

    @property
    def insertion_code(self) -> NDArray[np.str_]:
        """Insertion codes, empty if a residue has none, shape (L,)."""
        return self.chain.insertion_code

    @property
    def label_seq(self) -> NDArray[np.int32]:
        """Label residue numbers, -1 where unknown, shape (L,)."""
        return self.chain.label_seq

    @property
    def residue_name(self) -> NDArray[np.str_]:
        """Residue names as the source has them, shape (L,)."""
        return self.chain.residue_name

    @property
    def gap_after(self) -> NDArray[np.bool_]:
        """True where residues are missing between a residue and the next one of its chain, shape (L,)."""
        return self.chain.missing_after > 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was overlooked or decided while reading."""
        return self.chain.notes

    def readout(self, name: str) -> NDArray[np.float32]:
        """Return a readout by name, float32, shape (L, C), or `residue` by its own.

        Of models of contract 1 "mean" is always there.

        Parameters
        ----------
        name : str
            One of `list_readouts`, or "residue".

        Returns
        -------
        ndarray, float32, shape (L, C)

        Raises
        ------
        EmbeddingError
            If it was not requested, or no readout has that name.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedding = Embedder(device="cpu").embed("1a8o.cif", readouts=["contact"])
        >>> embedding.readout("contact").shape
        (70, 64)
        """
        if name in self.readouts:
            return self.readouts[name]
        if name == RESIDUE:
            return self._kept_residue
        if name == "mean" and self.provenance.get("contract", CONTRACT) == CONTRACT:
            return self._kept_residue
        if name in READOUTS:
            raise EmbeddingError(
                f"readout {name!r} was not asked for; embed with readouts=[{name!r}]", self.id
            )
        raise EmbeddingError(f"there is no readout {name!r}; there are {', '.join(READOUTS)}", self.id)

    def windows(self, size: int, readout: str | None = None) -> NDArray[np.float32]:
        """Return the residue embeddings in a window around each residue, zeros outside the chain.

        Position w of the window is residue i - size // 2 + w; see `protemb_sdk.clip_windows`.

        Parameters
        ----------
        size : int
            Residues in a window, at least 1.
        readout : str, optional
            A requested readout, instead of `residue`.

        Returns
        -------
        ndarray, float32, shape (L, size, width of residue or C)

        Raises
        ------
        EmbeddingError
            If the size is invalid or the readout was not requested.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedding = Embedder(device="cpu").embed("1a8o.cif")
        >>> embedding.windows(15).shape
        (70, 15, 395)
        """
        from protemb_sdk._model.pooling import clip_windows

        return clip_windows(self._kept_residue if readout is None else self.readout(readout), size)

    def plot(self) -> Figure:
        """Draw the chain: distances beside the pair embedding, the residue embedding along the chain.

        Returns
        -------
        matplotlib.figure.Figure
            See `protemb_sdk.plot.picture`; ``.savefig("picture.png")`` writes it.

        Raises
        ------
        EmbeddingError
            If the pair embedding was not kept.
        OutputError
            If matplotlib is not installed.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> figure = Embedder(device="cpu").embed("1a8o.cif", pair=True).plot()
        >>> figure.savefig("1a8o.png")
        """
        from protemb_sdk._embed.picture import draw

        return draw(self.chain, self._kept_residue, self.pair)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a pandas table with one row for each residue.

        Returns
        -------
        pandas.DataFrame
            Columns id, chain (its name), auth_seq, insertion_code, label_seq, residue_name, residue_index,
            x, y, z (angstrom), e0, e1 and so on (the residue embedding), and NAME_0, NAME_1 and so on of each
            further readout.

        Raises
        ------
        OutputError
            If pandas is not installed.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedding = Embedder(device="cpu").embed("1a8o.cif")
        >>> table = embedding.to_dataframe()
        >>> table.shape, table.columns[:4].tolist()
        ((70, 405), ['id', 'chain', 'auth_seq', 'insertion_code'])
        """
        try:
            import pandas
        except ImportError:
            raise OutputError("tables need pandas: pip install pandas") from None
        names = ("auth_seq", "insertion_code", "label_seq", "residue_name", "residue_index")
        columns: dict[str, Any] = {"id": [self.id] * len(self), "chain": self.chain_of_residue}
        columns |= {name: getattr(self, name) for name in names}
        columns |= dict(zip("xyz", self.chain.ca_coords.T, strict=True))
        for prefix, array in {"e": self.residue, **{f"{k}_": v for k, v in self.readouts.items()}}.items():
            columns |= {f"{prefix}{number}": column for number, column in enumerate(array.T)}
        return pandas.DataFrame(columns)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write everything to one `.npz` file (arrays and JSON, no pickle), whole or not at all.

        Parameters
        ----------
        path : path
            File to write, ending in `.npz`.

        Returns
        -------
        Path

        Raises
        ------
        OutputError
            If the file cannot be written.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedding = Embedder(device="cpu").embed("1a8o.cif")
        >>> embedding.save("1a8o.npz").name
        '1a8o.npz'
        """
        levels = {name: getattr(self, name) for name in ("protein", "residue", "pair", "profile")}
        return save(path, self.chain, levels, self.readouts, self.provenance)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Embedding:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path
            A `.npz` file.

        Returns
        -------
        Embedding

        Raises
        ------
        OutputError
            If the file is missing, damaged or of another kind.

        Examples
        --------
        >>> from protemb_sdk import Embedder, Embedding
        >>> path = Embedder(device="cpu").embed("1a8o.cif").save("1a8o.npz")
        >>> Embedding.load(path).residue.shape
        (70, 395)
        """
        return cls(**load(path))
