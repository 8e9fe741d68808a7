"""What every head has in common: an Embedder, a session on top of its readouts, many structures in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, ModelError, ProtembError
from protemb_sdk._base.limits import Budget, whole_number
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._embed.many import shown
from protemb_sdk._model.heads import (
    HEAD_CONTRACT,
    OUTPUTS,
    HeadInfo,
    check_signature,
    find_head,
    read_head_info,
)
from protemb_sdk._model.models import beside, find_bundled, find_model
from protemb_sdk._model.readouts import PROFILE, RESIDUE
from protemb_sdk._model.runtime import Provider
from protemb_sdk._model.session import Session
from protemb_sdk._structure.chain import Skipped

if TYPE_CHECKING:
    import onnxruntime

    from protemb_sdk._embed.many import EmbeddingRun

Result = TypeVar("Result")


class Predictor(Generic[Result]):
    """A head on top of an Embedder; what it makes of an embedding says `predict_embedding`.

    Parameters
    ----------
    kinds : str or tuple of str
        What the head must predict: keys of `OUTPUTS`.
    head, device, providers, threads, session_options, embedder, **options
        As in `SitePredictor`.
    """

    def __init__(
        self,
        kinds: str | tuple[str, ...],
        head: str | PathLike[str],
        device: str = "auto",
        providers: Sequence[Provider] | None = None,
        threads: int | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        embedder: Embedder | None = None,
        **options: Any,
    ) -> None:
        found, read = find_head(head), partial(read_head_info, kinds)
        given = (device, providers, threads, session_options)
        self._session: Session[HeadInfo]
        if embedder is None:
            threads = None if threads is None else whole_number(threads, "threads")
            self._session = Session(found, found.path, read, device, providers, threads, session_options)
            # The head says which model it needs; what "auto" found for the one holds for the other.
            device = device if providers is not None else self._session.device
            model = _model_of(self.info)
            embedder = Embedder(model, device, providers, threads, session_options, **options)
        elif given != ("auto", None, None, None) or options:
            raise EmbeddingError("embedder= brings its own device, threads and options; leave the others out")
        else:
            self._session = Session(found, found.path, read, *embedder.session_arguments)
        self._outputs = OUTPUTS[self.info.card["kind"]]
        check_signature(self.info, list(self._session.inputs), self._session.outputs, self._outputs)
        self.info.check_encoder(embedder.card)
        self.embedder = embedder

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.info.name!r}, device={self.embedder.device!r}, {self.embedder!r})"
        )

    @property
    def info(self) -> HeadInfo:
        """Metadata of the head; `info.asked` has the arguments of `Embedder.embed` that it requires."""
        return self._session.info

    @property
    def card(self) -> dict[str, Any]:
        """The head's metadata: encoder, readouts, quality on held-out sets, licence."""
        return dict(self.info.card)

    @property
    def provenance(self) -> dict[str, Any]:
        """Metadata that is written into every result."""
        return self.embedder.provenance | {
            "head": self.info.name,
            "head_sha256": self.info.sha256,
            "head_contract": HEAD_CONTRACT,
        }

    def predict_embedding(self, embedding: Embedding) -> Result:
        """Predict from an embedding of this predictor's `embedder` that holds the head's readouts."""
        raise NotImplementedError

    def _one(self, structure: object, chain_id: str | None) -> Result:
        return self.predict_embedding(self.embedder.embed(structure, chain_id, **self.info.asked))

    def _many(
        self,
        structures: object,
        workers: int,
        progress: bool | Callable[[int, int | None], None],
        on_error: Literal["raise", "skip"],
    ) -> PredictionRun[Result]:
        run = self.embedder.embed_many(
            structures, workers=workers, progress=progress, on_error=on_error, **self.info.asked
        )
        return PredictionRun(self, run, on_error)


class PredictionRun(Iterator[Result]):
    """The predictions for many structures, one after the other.

    To stop early, call `close` or use a ``with`` statement.

    Examples
    --------
    >>> from protemb_sdk import SitePredictor
    >>> predictor = SitePredictor(device="cpu")
    >>> with predictor.predict_many(["1a8o.cif", "missing.pdb"], on_error="skip") as run:
    ...     ids = [prediction.id for prediction in run]
    >>> ids, [skipped.source for skipped in run.skipped]
    (['1a8o_A'], ['missing.pdb'])
    """

    def __init__(
        self, predictor: Predictor[Result], run: EmbeddingRun, on_error: Literal["raise", "skip"]
    ) -> None:
        self._predictor, self._run, self._on_error = predictor, run, on_error

    @property
    def skipped(self) -> list[Skipped]:
        """So far: chains that were skipped and, with ``on_error="skip"``, what failed."""
        return self._run.skipped

    def __iter__(self) -> PredictionRun[Result]:
        return self

    def __next__(self) -> Result:
        for embedding in self._run:
            try:
                return self._predictor.predict_embedding(embedding)
            except ProtembError as error:
                if self._on_error == "raise":
                    self.close()
                    raise
                chain = embedding.chain
                self.skipped.append(Skipped.of(error, chain.source or chain.name, chain.chain_id or " "))
        raise StopIteration

    def __enter__(self) -> PredictionRun[Result]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        return shown(self._run, head=self._predictor.info.name)

    def close(self) -> None:
        """Stop early and end the workers.

        Examples
        --------
        >>> from protemb_sdk import SitePredictor
        >>> predictor = SitePredictor(device="cpu")
        >>> run = predictor.predict_many(["1a8o.cif", "1a8o.cif"])
        >>> next(run).id
        '1a8o_A'
        >>> run.close()
        """
        self._run.close()


def outputs_of(predictor: Predictor[Any], embedding: Embedding) -> list[NDArray[np.float32]]:
    """Run a head; return its outputs, each checked to lie in 0 to 1, or to be finite for a quantity.

    Raises
    ------
    EmbeddingError
        If one does not, or has not a value for every residue where it should, the chain is a complex, or the
        embedding is another model's or without readouts or the profile.
    """
    chain = embedding.chain
    if chain.is_complex:
        raise EmbeddingError(
            f"the head {predictor.info.name!r} was trained on single chains; predict for each on its own",
            chain.id,
        )
    features = features_of(embedding, predictor.info.readouts)
    axes_of_features = zip(features.shape, predictor._session.inputs["features"], strict=True)
    if any(size != wanted for size, wanted in axes_of_features if isinstance(wanted, int)):
        raise EmbeddingError(
            f"the head {predictor.info.name!r} is for embeddings of the model {predictor.info.encoder!r}, "
            f"not of {embedding.provenance.get('model')!r}; embed with the predictor's embedder",
            chain.id,
        )
    feeds: dict[str, NDArray[Any]] = {
        "features": features,
        "residue_type": chain.residue_type,
        "ca_coords": chain.centred_coords.astype(np.float32),
    }
    taken = {name: feeds[name] for name in predictor._session.inputs}
    budget = Budget.of(predictor.embedder.limits.seconds)
    try:
        found = predictor._session.run(list(predictor._outputs), taken, budget=budget)
    except EmbeddingError as error:
        raise error.at(chain.id) from error
    sizes = {"length": len(chain), "classes": len(predictor.info.classes or (None,))}
    for (name, axes), values in zip(predictor._outputs.items(), found, strict=True):
        # NaN fails both comparisons.
        bounded = np.isfinite(values) if predictor.info.is_quantity else (values >= 0) & (values <= 1)
        if values.shape != tuple(sizes[axis] for axis in axes) or not bounded.all():
            raise EmbeddingError(
                f"the head {predictor.info.name!r} gave no {name} "
                f"{'that is finite' if predictor.info.is_quantity else 'between 0 and 1'} for "
                f"{f'each of {len(chain)} residues' if 'length' in axes else 'the chain'}; "
                "please report this structure",
                chain.id,
            )
    return [values.astype(np.float32, copy=False) for values in found]


def origin_of(provenance: Mapping[str, Any]) -> dict[str, object]:
    """Return what notebooks show of where a prediction comes from."""
    return {name: provenance[name] for name in ("model", "head") if name in provenance}


def features_of(embedding: Embedding, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the named vectors of residues, float32, shape (L, K, C).

    Readouts of the pair map are stacked; as soon as others are named, all are concatenated and K is 1.

    Parameters
    ----------
    embedding : Embedding
        It must hold the readouts and the profile, if they are named.
    names : sequence of str
        Readouts, "residue" for `Embedding.residue`, or "profile": the log probabilities of the 20 types, and
        that of the residue's own type.
    """
    arrays = [_profile_of(embedding) if name == PROFILE else embedding.readout(name) for name in names]
    return np.stack(arrays, axis=1) if of_map(names) else np.concatenate(arrays, axis=1)[:, None]


def of_map(names: Sequence[str]) -> bool:
    """Return whether all of the vectors are readouts of the pair map, which have the same width."""
    return not {RESIDUE, PROFILE} & set(names)


def _profile_of(embedding: Embedding) -> NDArray[np.float32]:
    profile, types = embedding.profile, embedding.chain.residue_type
    if profile is None:
        raise EmbeddingError(
            "the embedding has no profile; embed with profile=True, or with **predictor.info.asked",
            embedding.id,
        )
    uninformed = np.full((len(types), 1), -np.log(profile.shape[1]), dtype=np.float32)
    own = np.take_along_axis(np.concatenate([profile, uninformed], axis=1), types[:, None], axis=1)
    return np.concatenate([profile, own], axis=1)


def expected_threshold(probability: NDArray[np.float32]) -> float:
    """Return the threshold that as many residues reach as are expected, the sum of their probabilities."""
    count = round(float(probability.sum(dtype=np.float64)))
    return float(np.sort(probability)[-count]) if count else float("inf")


def _model_of(info: HeadInfo) -> str | Path:
    own = beside(info.path, "encoder")
    try:
        find_model(info.encoder)
    except ModelError as error:
        if own.is_file():  # trained with this head
            return own
        raise ModelError(
            f"the head {info.name!r} was trained on the model {info.encoder!r}, which is not "
            f"bundled and does not lie beside it as {own.name}; pass embedder=Embedder(path of that model)",
            info.path,
        ) from error
    # The name may have passed to a newer model.
    bundled = find_bundled(info.encoder, weights_sha256=info.weights_sha256)
    return info.encoder if bundled is None else bundled.name
