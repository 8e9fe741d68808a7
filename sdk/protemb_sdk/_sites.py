"""Interface sites: an Embedder, a head on top of its readouts, and the prediction for each residue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._chain import Chain, Skipped
from protemb_sdk._embedder import Embedder, whole_number
from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import EmbeddingError, ModelError, ProtembError
from protemb_sdk._heads import HEAD_CONTRACT, OUTPUT, HeadInfo, check_signature, find_head, read_head_info
from protemb_sdk._models import find_model
from protemb_sdk._session import Provider, Session

if TYPE_CHECKING:
    import onnxruntime

    from protemb_sdk._many import EmbeddingRun


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SitePrediction:
    """Which residues of one chain lie in an interface.

    Parameters
    ----------
    structure : Chain
        The chain: coordinates, names and numbers of its residues.
    probability : ndarray, float32, shape (L,)
        Calibrated probability that a residue lies in an interface with another protein.
    threshold : float
        Probability from which on a residue is called a site.
    provenance : mapping
        What made it: model and head, their SHA-256, noise level, device, versions.
    """

    structure: Chain
    probability: NDArray[np.float32]
    threshold: float
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.structure)

    def __repr__(self) -> str:
        return (
            f"SitePrediction({self.id}: {int(self.is_site.sum())} sites of {len(self)} residues, "
            f"threshold {self.threshold:g})"
        )

    @property
    def id(self) -> str:
        """Name of the source and author chain name, as in `1a8o_A`."""
        return self.structure.id

    @property
    def is_site(self) -> NDArray[np.bool_]:
        """True where the probability reaches the threshold, shape (L,)."""
        return self.probability >= np.float32(self.threshold)

    def save_csv(self, path: str | PathLike[str]) -> Path:
        """Write a row a residue, whole or not at all.

        Columns: chain, auth_seq, insertion_code, label_seq (empty where unknown), residue_name,
        probability, site (1 or 0).

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        from protemb_sdk._sites_csv import writing_sites

        target = Path(path)
        with writing_sites(target, source=False) as table:
            table.add(self)
        return target


class SitePredictor:
    """Predicts which residues of a protein chain lie in an interface, from the chain alone.

    Threads may share one; processes may not.

    Parameters
    ----------
    head : str or path, default "sites"
        Name of a bundled head, or path of an `.onnx` file.
    device, providers, threads, session_options
        As in `Embedder`, for both graphs.
    embedder : Embedder, optional
        Shares its session, and brings its device, threads and reading options along. By default the
        head's own model is loaded.
    **options
        Further options of `Embedder`: model_number, altloc, min_residues, memory_limit.

    Raises
    ------
    ModelError
        If there is no such head, its file is not ours, or it belongs to another model than the Embedder's.
    DeviceError
        If ONNX Runtime or the device is not to be had.
    EmbeddingError
        If options come beside an Embedder, which brings its own.
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
        found, read = find_head(head), partial(read_head_info, "sites")
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
        check_signature(self.info, self._session.inputs, self._session.outputs)
        self.info.check_encoder(embedder.card)
        self.embedder = embedder

    def __repr__(self) -> str:
        return f"SitePredictor({self.info.name!r}, device={self.embedder.device!r}, {self.embedder!r})"

    @property
    def info(self) -> HeadInfo:
        """What the head's metadata say."""
        return self._session.info

    @property
    def card(self) -> dict[str, Any]:
        """The head's metadata: encoder, readouts, threshold, quality on held-out sets, licence."""
        return dict(self.info.card)

    @property
    def threshold(self) -> float:
        """Probability from which on a residue is called a site."""
        return self.info.threshold

    @property
    def provenance(self) -> dict[str, Any]:
        """What is written into every result."""
        return self.embedder.provenance | {
            "head": self.info.name,
            "head_sha256": self.info.sha256,
            "head_contract": HEAD_CONTRACT,
            "threshold": self.threshold,
        }

    def predict(self, x: object, chain: str | None = None) -> SitePrediction:
        """Predict the interface sites of one protein chain.

        Parameters
        ----------
        x : path, bytes, open file, gemmi.Structure, Biotite AtomArray, tuple or Chain
            As in `Embedder.embed`.
        chain : str, optional
            Author or label chain name; needed where the structure holds several protein chains.

        Returns
        -------
        SitePrediction

        Raises
        ------
        StructureError
            If `x` cannot be read or holds no protein chain.
        ChainError
            If the chain is not there, or several are and none is named.
        EmbeddingError
            If the head's result is not a probability for every residue.
        """
        return self.predict_embedding(self.embedder.embed(x, chain, readouts=self.info.readouts))

    def predict_embedding(self, embedding: Embedding) -> SitePrediction:
        """Predict from an embedding of this predictor's `embedder` that holds the head's readouts."""
        chain = embedding.structure
        feeds: dict[str, NDArray[Any]] = {
            "features": np.stack([embedding.readout(name) for name in self.info.readouts], axis=1),
            "residue_type": chain.residue_type,
            "ca_coords": chain.centred_coords.astype(np.float32),
        }
        taken = {name: feeds[name] for name in self._session.inputs}
        probability = self._session.run([OUTPUT], taken)[0]
        # NaN fails both comparisons.
        if probability.shape != (len(chain),) or not ((probability >= 0) & (probability <= 1)).all():
            raise EmbeddingError(
                f"{chain.id}: the head {self.info.name!r} gave no probability for each of {len(chain)} "
                "residues; please report this structure"
            )
        return SitePrediction(
            structure=chain,
            probability=probability.astype(np.float32, copy=False),
            threshold=self.threshold,
            provenance=self.provenance,
        )

    def predict_many(
        self,
        xs: object,
        *,
        workers: int = 1,
        progress: bool | Callable[[int, int | None], None] = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> SiteRun:
        """Predict the sites of every protein chain of many structures, in input order.

        Parameters
        ----------
        xs, workers, progress, on_error
            As in `Embedder.embed_many`; workers embed, the head runs in this process.

        Returns
        -------
        SiteRun
            An iterator of `SitePrediction` with the list `skipped`.
        """
        run = self.embedder.embed_many(
            xs, workers=workers, readouts=self.info.readouts, progress=progress, on_error=on_error
        )
        return SiteRun(self, run, on_error)


class SiteRun(Iterator[SitePrediction]):
    """The predictions for many structures, one after the other; made by `SitePredictor.predict_many`.

    Whoever stops early calls `close`, or uses it in a ``with`` statement.
    """

    def __init__(
        self, predictor: SitePredictor, run: EmbeddingRun, on_error: Literal["raise", "skip"]
    ) -> None:
        self._predictor, self._run, self._on_error = predictor, run, on_error

    @property
    def skipped(self) -> list[Skipped]:
        """So far: chains passed over and, with ``on_error="skip"``, what failed."""
        return self._run.skipped

    def __iter__(self) -> SiteRun:
        return self

    def __next__(self) -> SitePrediction:
        from protemb_sdk._many import failed

        for embedding in self._run:
            try:
                return self._predictor.predict_embedding(embedding)
            except ProtembError as error:
                if self._on_error == "raise":
                    self.close()
                    raise
                chain = embedding.structure
                self.skipped.append(failed(chain.source or chain.name, chain.chain or " ", error))
        raise StopIteration

    def __enter__(self) -> SiteRun:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop early and end the workers."""
        self._run.close()


def _model_of(info: HeadInfo) -> str:
    try:
        find_model(info.encoder)
    except ModelError as error:
        raise ModelError(
            f"{info.path}: the head {info.name!r} was trained on the model {info.encoder!r}, which is not "
            "bundled; pass embedder=Embedder(path of that model)"
        ) from error
    return info.encoder
