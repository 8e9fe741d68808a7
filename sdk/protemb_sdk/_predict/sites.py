"""Interface sites: an Embedder, a head on top of its readouts, and the prediction for each residue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.notebook import card
from protemb_sdk._base.output import writing_csv
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.runtime import Provider
from protemb_sdk._predict.metric import SITES, Metric
from protemb_sdk._predict.predictor import PredictionRun, Predictor, expected_threshold, origin_of, outputs_of
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.columns import RESIDUE, facts_of, residues_of

if TYPE_CHECKING:
    import onnxruntime


SHARES = (0.02, 0.8)
"""Shares of residues called sites outside of which a prediction has a note."""

SITE_COLUMNS = (*RESIDUE, "probability", "site")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SitePrediction:
    """Predicted interface residues of one chain.

    Parameters
    ----------
    chain : Chain
        The chain: coordinates, names and numbers of its residues.
    probability : ndarray, float32, shape (L,)
        Calibrated probability that a residue lies in an interface with another protein.
    threshold : float
        Probability from which on a residue is called a site; infinite if none is.
    provenance : mapping
        Model and head, their SHA-256, noise level, device and versions.

    Examples
    --------
    >>> from protemb_sdk import SitePredictor
    >>> predictor = SitePredictor(device="cpu")
    >>> prediction = predictor.predict("1a8o.cif")
    >>> prediction.id, prediction.probability.shape, prediction.is_site.shape
    ('1a8o_A', (70,), (70,))
    """

    chain: Chain
    probability: NDArray[np.float32]
    threshold: float
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.chain)

    def __repr__(self) -> str:
        return (
            f"SitePrediction({self.id}: {int(self.is_site.sum())} sites of {len(self)} residues, "
            f"threshold {self.threshold:g})"
        )

    def _repr_html_(self) -> str:
        from protemb_sdk._embed.picture import small_profile

        called = {"sites": int(self.is_site.sum()), "threshold": f"{self.threshold:.3g}"}
        limit = self.threshold if np.isfinite(self.threshold) else None
        return card(
            {**facts_of(self.chain), **called, **origin_of(self.provenance)},
            lambda: small_profile(self.chain, self.probability, limit),
        )

    @property
    def id(self) -> str:
        """Name of the source and author chain name, as in `1a8o_A`."""
        return self.chain.id

    @property
    def is_site(self) -> NDArray[np.bool_]:
        """True where the probability reaches the threshold, shape (L,)."""
        return self.probability >= np.float32(self.threshold)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the chain, and one if almost every residue or almost none is called a site."""
        called = int(self.is_site.sum())
        low, high = SHARES
        if low <= called / len(self) <= high:
            return self.chain.notes
        part = "few" if called < low * len(self) else "most"
        return (
            *self.chain.notes,
            f"{part} residues are called sites ({called} of {len(self)}); compare probabilities instead",
        )

    @property
    def residue_value(self) -> NDArray[np.float32]:
        """What B-factors show: the probability."""
        return self.probability

    @property
    def residue_metric(self) -> Metric:
        """How `residue_value` is called in mmCIF."""
        return SITES

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Give the cells of `SITE_COLUMNS` for each residue.

        Returns
        -------
        iterator of tuple
            Text and numbers, one tuple for each residue.

        Examples
        --------
        >>> from protemb_sdk import SitePredictor
        >>> predictor = SitePredictor(device="cpu")
        >>> next(predictor.predict("1a8o.cif").rows())[:6]
        ('1a8o.cif', 'A', 151, '', 1, 'MSE')
        """
        values = zip(self.probability.tolist(), self.is_site.tolist(), strict=True)
        for residue, (probability, site) in zip(residues_of(self.chain), values, strict=True):
            yield (*residue, f"{probability:.6f}", int(site))

    def save_csv(self, path: str | PathLike[str]) -> Path:
        """Write one row for each residue, whole or not at all.

        Columns: source, chain, auth_seq, insertion_code, label_seq (empty where unknown), residue_name,
        probability, site (1 or 0).

        Parameters
        ----------
        path : path
            File to write.

        Returns
        -------
        Path

        Raises
        ------
        OutputError
            If the file cannot be written.

        Examples
        --------
        >>> from protemb_sdk import SitePredictor
        >>> predictor = SitePredictor(device="cpu")
        >>> predictor.predict("1a8o.cif").save_csv("1a8o.csv").read_text().splitlines()[0]
        'source,chain,auth_seq,insertion_code,label_seq,residue_name,probability,site'
        """
        target = Path(path)
        with writing_csv(target, SITE_COLUMNS) as table:
            table.writerows(self.rows())
        return target


class SitePredictor(Predictor[SitePrediction]):
    """Predicts which residues of a protein chain lie in an interface, from the chain alone.

    Threads may share one; processes may not.

    Parameters
    ----------
    head : str or path, default "sites"
        Name of a bundled head, or path of an `.onnx` file.
    device, providers, threads, session_options
        As in `Embedder`, for both graphs.
    embedder : Embedder, optional
        Its session, device, threads and reading options are used. By default the
        head's own model is loaded.
    **options
        Further options of `Embedder`: model_number, altloc, min_residues, min_plddt, memory_limit.

    Raises
    ------
    ModelError
        If there is no such head, its file is not a protemb head, or it belongs to another model.
    DeviceError
        If ONNX Runtime or the device is not available.
    EmbeddingError
        If options are passed together with an Embedder, which has its own.

    Examples
    --------
    >>> from protemb_sdk import SitePredictor
    >>> predictor = SitePredictor(device="cpu")
    >>> predictor.predict("1a8o.cif").probability.shape
    (70,)
    """

    def __init__(
        self,
        head: str | PathLike[str] = "sites",
        device: str = "auto",
        providers: Sequence[Provider] | None = None,
        threads: int | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        *,
        embedder: Embedder | None = None,
        **options: Any,
    ) -> None:
        super().__init__("sites", head, device, providers, threads, session_options, embedder, **options)

    @property
    def threshold(self) -> float | None:
        """Probability from which on a residue is called a site; None if it depends on the chain.

        Then as many residues are called as are expected, which is the sum of the probabilities.
        """
        threshold = self.info.card["threshold"]
        return None if threshold is None else float(threshold)

    @property
    def provenance(self) -> dict[str, Any]:
        """Metadata that is written into every result."""
        return super().provenance | {"threshold": self.threshold}

    def predict(self, structure: object, chain_id: str | None = None) -> SitePrediction:
        """Predict the interface sites of one protein chain.

        Parameters
        ----------
        structure : path, bytes, open file, gemmi.Structure, Biotite or Biopython structure, tuple or Chain
            As in `Embedder.embed`.
        chain_id : str, optional
            Author or label chain name; needed where the structure holds several protein chains.

        Returns
        -------
        SitePrediction

        Raises
        ------
        StructureError
            If `structure` cannot be read or holds no protein chain.
        ChainError
            If the chain is not there, or several are and none is named.
        EmbeddingError
            If the head's result is not a probability for every residue.

        Examples
        --------
        >>> from protemb_sdk import SitePredictor
        >>> predictor = SitePredictor(device="cpu")
        >>> predictor.predict("1a8o.cif", "A").probability.shape
        (70,)
        """
        return self._one(structure, chain_id)

    def predict_embedding(self, embedding: Embedding) -> SitePrediction:
        """Predict from an embedding of this predictor's `embedder` that holds the head's readouts.

        Parameters
        ----------
        embedding : Embedding
            Of `embedder`, embedded with the arguments `info.asked`.

        Returns
        -------
        SitePrediction

        Raises
        ------
        EmbeddingError
            If readouts or the profile are missing, the embedding is another model's or a complex's, or a
            probability is not between 0 and 1.

        Examples
        --------
        >>> from protemb_sdk import SitePredictor
        >>> predictor = SitePredictor(device="cpu")
        >>> embedding = predictor.embedder.embed("1a8o.cif", **predictor.info.asked)
        >>> predictor.predict_embedding(embedding).probability.shape
        (70,)
        """
        (probability,) = outputs_of(self, embedding)
        fixed = self.threshold
        return SitePrediction(
            chain=embedding.chain,
            probability=probability,
            threshold=expected_threshold(probability) if fixed is None else fixed,
            provenance=self.provenance,
        )

    def predict_many(
        self,
        structures: object,
        *,
        workers: int = 1,
        progress: bool | Callable[[int, int | None], None] = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> PredictionRun[SitePrediction]:
        """Predict the sites of every protein chain of many structures, in input order.

        Parameters
        ----------
        structures, workers, progress, on_error
            As in `Embedder.embed_many`; workers embed, the head runs in this process.

        Returns
        -------
        PredictionRun
            An iterator of `SitePrediction` with the list `skipped`.

        Raises
        ------
        StructureError, EmbeddingError
            As of `Embedder.embed_many`.

        Examples
        --------
        >>> from protemb_sdk import SitePredictor
        >>> predictor = SitePredictor(device="cpu")
        >>> [prediction.id for prediction in predictor.predict_many(["1a8o.cif"])]
        ['1a8o_A']
        """
        return self._many(structures, workers, progress, on_error)
