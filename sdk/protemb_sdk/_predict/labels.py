"""Labels of the user's own: an Embedder, a head that was trained on a table, and what it says of a chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.notebook import card
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.heads import LABELS
from protemb_sdk._model.runtime import Provider
from protemb_sdk._predict.predictor import PredictionRun, Predictor, origin_of, outputs_of
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.columns import facts_of

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelPrediction:
    """Prediction of a head for one chain.

    Parameters
    ----------
    chain : Chain
        The chain: coordinates, names and numbers of its residues.
    value : ndarray, float32
        Of classes: their probabilities, shape (L, N) of residues, (N,) of a chain. Of a quantity: shape (L,)
        or ().
    classes : tuple of str or None
        Names of the classes; None for a quantity.
    per_residue : bool
        Whether it is about residues.
    provenance : mapping
        Model and head, their SHA-256, noise level, device and versions.

    Examples
    --------
    >>> from protemb_sdk import LabelPredictor
    >>> predictor = LabelPredictor("curled.onnx", device="cpu")
    >>> prediction = predictor.predict("1a8o.cif")
    >>> prediction.classes, prediction.value.shape, prediction.label.shape
    (('curled', 'straight'), (70, 2), (70,))
    """

    chain: Chain
    value: NDArray[np.float32]
    classes: tuple[str, ...] | None
    per_residue: bool
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.chain)

    def __repr__(self) -> str:
        what = f"one of {', '.join(self.classes)}" if self.classes else "a quantity"
        return f"LabelPrediction({self.id}: {what}, {'each residue' if self.per_residue else 'the chain'})"

    def _repr_html_(self) -> str:
        facts = {**facts_of(self.chain), **origin_of(self.provenance)}
        if self.per_residue:
            facts["values"] = self.value.shape
        elif self.classes is None:
            facts["value"] = f"{float(self.value):.4g}"
        else:
            likely = zip(self.classes, self.value.tolist(), strict=True)
            facts |= {name: f"{probability:.3f}" for name, probability in likely}
        if not self.per_residue or self.classes is None:
            return card(facts)
        found = Counter(self.label.tolist())
        return card(facts | {name: f"{found[name]:,} residues" for name in self.classes})

    @property
    def id(self) -> str:
        """Name of the source and author chain name, as in `1a8o_A`."""
        return self.chain.id

    @property
    def label(self) -> NDArray[Any]:
        """Most probable classes, str, or the quantity itself; shape (L,), or () of a chain."""
        if self.classes is None:
            return self.value
        return np.asarray(np.array(self.classes)[self.value.argmax(axis=-1)])


class LabelPredictor(Predictor[LabelPrediction]):
    """Predicts labels that `protemb finetune` learnt from a table.

    Threads may share one; processes may not.

    Parameters
    ----------
    head : path
        What `protemb finetune` wrote.
    device, providers, threads, session_options, embedder, **options
        As in `SitePredictor`.

    Raises
    ------
    ModelError, DeviceError, EmbeddingError
        As in `SitePredictor`.

    Examples
    --------
    With a head for the classes "curled" and "straight" of residues:

    >>> from protemb_sdk import LabelPredictor
    >>> predictor = LabelPredictor("curled.onnx", device="cpu")
    >>> predictor.classes, predictor.per_residue
    (('curled', 'straight'), True)
    """

    def __init__(
        self,
        head: str | PathLike[str],
        device: str = "auto",
        providers: Sequence[Provider] | None = None,
        threads: int | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        *,
        embedder: Embedder | None = None,
        **options: Any,
    ) -> None:
        super().__init__(LABELS, head, device, providers, threads, session_options, embedder, **options)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None for a quantity."""
        return self.info.classes

    @property
    def per_residue(self) -> bool:
        """Whether labels are of residues, not of chains."""
        return bool(self.info.card["kind"] == "residue-label")

    def predict(self, structure: object, chain_id: str | None = None) -> LabelPrediction:
        """Predict the labels of one protein chain; arguments and errors as in `SitePredictor.predict`.

        Parameters
        ----------
        structure, chain_id
            As in `Embedder.embed`.

        Returns
        -------
        LabelPrediction

        Raises
        ------
        StructureError, ChainError, EmbeddingError
            As of `SitePredictor.predict`.

        Examples
        --------
        >>> from protemb_sdk import LabelPredictor
        >>> predictor = LabelPredictor("curled.onnx", device="cpu")
        >>> predictor.predict("1a8o.cif").value.shape
        (70, 2)
        """
        return self._one(structure, chain_id)

    def predict_embedding(self, embedding: Embedding) -> LabelPrediction:
        """Predict from an embedding of this predictor's `embedder` that holds the head's readouts.

        Parameters
        ----------
        embedding : Embedding
            Of `embedder`, embedded with the arguments `info.asked`.

        Returns
        -------
        LabelPrediction

        Raises
        ------
        EmbeddingError
            If readouts or the profile are missing, the embedding is another model's or a complex's, or a
            value is not finite.

        Examples
        --------
        >>> from protemb_sdk import LabelPredictor
        >>> predictor = LabelPredictor("curled.onnx", device="cpu")
        >>> embedding = predictor.embedder.embed("1a8o.cif", **predictor.info.asked)
        >>> predictor.predict_embedding(embedding).value.shape
        (70, 2)
        """
        (value,) = outputs_of(self, embedding)
        return LabelPrediction(
            chain=embedding.chain,
            value=value if self.classes else value[..., 0],
            classes=self.classes,
            per_residue=self.per_residue,
            provenance=self.provenance,
        )

    def predict_many(
        self,
        structures: object,
        *,
        workers: int = 1,
        progress: bool | Callable[[int, int | None], None] = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> PredictionRun[LabelPrediction]:
        """Predict the labels of every protein chain of many structures; see `SitePredictor.predict_many`.

        Parameters
        ----------
        structures, workers, progress, on_error
            As in `Embedder.embed_many`; workers embed, the head runs in this process.

        Returns
        -------
        PredictionRun
            An iterator of `LabelPrediction` with the list `skipped`.

        Raises
        ------
        StructureError, EmbeddingError
            As of `Embedder.embed_many`.

        Examples
        --------
        >>> from protemb_sdk import LabelPredictor
        >>> predictor = LabelPredictor("curled.onnx", device="cpu")
        >>> [prediction.id for prediction in predictor.predict_many(["1a8o.cif"])]
        ['1a8o_A']
        """
        return self._many(structures, workers, progress, on_error)
