"""Model quality: an Embedder, a head on top of its readouts, and how right a model of a structure is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError
from protemb_sdk._base.notebook import card
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.runtime import Provider
from protemb_sdk._predict.metric import LDDT, Metric
from protemb_sdk._predict.predictor import PredictionRun, Predictor, origin_of, outputs_of
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.columns import facts_of

if TYPE_CHECKING:
    import onnxruntime

FEWEST = 10
"""Residues below which there is no fold to judge."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class QualityScore:
    """Predicted quality of a model of one chain.

    Parameters
    ----------
    chain : Chain
        The chain: coordinates, names and numbers of its residues.
    gdt_ts : float
        Expected GDT_TS, 0 to 1: the share of residues near their place after superposition.
    lddt : float
        Expected lDDT of the chain (C-alpha), 0 to 1.
    residue_lddt : ndarray, float32, shape (L,)
        Expected lDDT of each residue (C-alpha), 0 to 1.
    provenance : mapping
        Model and head, their SHA-256, noise level, device and versions.

    Examples
    --------
    >>> from protemb_sdk import QualityScorer
    >>> scorer = QualityScorer(device="cpu")
    >>> score = scorer.score("1a8o.cif")
    >>> score.id, score.residue_lddt.shape, 0 <= score.gdt_ts <= 1
    ('1a8o_A', (70,), True)
    >>> print(score.plddt)  # the B-factors of a crystal structure are no pLDDT
    None
    """

    chain: Chain
    gdt_ts: float
    lddt: float
    residue_lddt: NDArray[np.float32]
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.chain)

    def __repr__(self) -> str:
        return (
            f"QualityScore({self.id}: GDT_TS {self.gdt_ts:.2f}, lDDT {self.lddt:.2f}, {len(self)} residues)"
        )

    def _repr_html_(self) -> str:
        from protemb_sdk._embed.picture import small_profile

        scores = {"GDT_TS": f"{self.gdt_ts:.2f}", "lDDT": f"{self.lddt:.2f}"}
        if self.plddt is not None:
            scores["pLDDT"] = f"{self.plddt:.1f}"
        return card(
            {**facts_of(self.chain), **scores, **origin_of(self.provenance)},
            lambda: small_profile(self.chain, self.residue_lddt),
        )

    @property
    def id(self) -> str:
        """Name of the source and author chain name, as in `1a8o_A`."""
        return self.chain.id

    @property
    def plddt(self) -> float | None:
        """Mean pLDDT of the chain, 0 to 100; None if the source does not say that it is a predicted model.

        It is the confidence of the program that made the model. The scores do not depend on it.
        """
        return None if self.residue_plddt is None else float(np.nanmean(self.residue_plddt))

    @property
    def residue_plddt(self) -> NDArray[np.float32] | None:
        """The pLDDT of each residue, 0 to 100, shape (L,); NaN where it is unknown, None as for `plddt`."""
        return self.chain.plddt

    @property
    def residue_value(self) -> NDArray[np.float32]:
        """What B-factors show: lDDT."""
        return self.residue_lddt

    @property
    def residue_metric(self) -> Metric:
        """How `residue_value` is called in mmCIF."""
        return LDDT


class QualityScorer(Predictor[QualityScore]):
    """Scores models of protein structures from their C-alphas, without a native and without other models.

    Threads may share one; processes may not.

    Parameters
    ----------
    head : str or path, default "quality"
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
    >>> from protemb_sdk import QualityScorer
    >>> scorer = QualityScorer(device="cpu")
    >>> scorer.score("1a8o.cif").residue_lddt.shape
    (70,)
    """

    def __init__(
        self,
        head: str | PathLike[str] = "quality",
        device: str = "auto",
        providers: Sequence[Provider] | None = None,
        threads: int | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        *,
        embedder: Embedder | None = None,
        **options: Any,
    ) -> None:
        super().__init__("quality", head, device, providers, threads, session_options, embedder, **options)

    def score(self, structure: object, chain_id: str | None = None) -> QualityScore:
        """Score one chain of a model.

        Parameters
        ----------
        structure : path, bytes, open file, gemmi.Structure, Biotite or Biopython structure, tuple or Chain
            As in `Embedder.embed`.
        chain_id : str, optional
            Author or label chain name; needed where the structure holds several protein chains.

        Returns
        -------
        QualityScore

        Raises
        ------
        StructureError
            If `structure` cannot be read or holds no protein chain.
        ChainError
            If the chain is not there, or several are and none is named.
        EmbeddingError
            If the chain has fewer than 10 residues, or the head's result is no score.

        Examples
        --------
        >>> from protemb_sdk import QualityScorer
        >>> scorer = QualityScorer(device="cpu")
        >>> score = scorer.score("1a8o.cif", "A")
        >>> 0 <= score.gdt_ts <= 1, 0 <= score.lddt <= 1
        (True, True)
        """
        return self._one(structure, chain_id)

    def predict_embedding(self, embedding: Embedding) -> QualityScore:
        """Score from an embedding of this scorer's `embedder` that holds the head's readouts.

        Parameters
        ----------
        embedding : Embedding
            Of `embedder`, embedded with the arguments `info.asked`.

        Returns
        -------
        QualityScore

        Raises
        ------
        EmbeddingError
            If the chain has fewer than 10 residues, readouts or the profile are missing, the embedding is
            another model's or a complex's, or a score is not between 0 and 1.

        Examples
        --------
        >>> from protemb_sdk import QualityScorer
        >>> scorer = QualityScorer(device="cpu")
        >>> embedding = scorer.embedder.embed("1a8o.cif", **scorer.info.asked)
        >>> scorer.predict_embedding(embedding).residue_lddt.shape
        (70,)
        """
        if len(embedding.chain) < FEWEST:
            count = len(embedding.chain)
            raise EmbeddingError(
                f"{count} {'residue is' if count == 1 else 'residues are'} no fold to judge; "
                f"pass a model of at least {FEWEST}",
                embedding.id,
            )
        residue_lddt, lddt, gdt_ts = outputs_of(self, embedding)
        return QualityScore(
            chain=embedding.chain,
            gdt_ts=float(gdt_ts),
            lddt=float(lddt),
            residue_lddt=residue_lddt,
            provenance=self.provenance,
        )

    def score_many(
        self,
        structures: object,
        *,
        workers: int = 1,
        progress: bool | Callable[[int, int | None], None] = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> PredictionRun[QualityScore]:
        """Score every protein chain of many models, in input order.

        Parameters
        ----------
        structures, workers, progress, on_error
            As in `Embedder.embed_many`; workers embed, the head runs in this process.

        Returns
        -------
        PredictionRun
            An iterator of `QualityScore` with the list `skipped`.

        Raises
        ------
        StructureError, EmbeddingError
            As of `Embedder.embed_many`.

        Examples
        --------
        >>> from protemb_sdk import QualityScorer
        >>> scorer = QualityScorer(device="cpu")
        >>> [score.id for score in scorer.score_many(["1a8o.cif"])]
        ['1a8o_A']
        """
        return self._many(structures, workers, progress, on_error)
