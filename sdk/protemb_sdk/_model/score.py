"""The score graph of a model: gradients of log p, on a session that is made when the first is asked for."""

from __future__ import annotations

import threading
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, ModelError
from protemb_sdk._base.limits import Budget
from protemb_sdk._model.batches import feeds_of
from protemb_sdk._model.models import GraphInfo, Model, read_graph_info, score_path
from protemb_sdk._model.session import Session
from protemb_sdk._structure.chain import Chain

if TYPE_CHECKING:
    from protemb_sdk._model.session import SessionArguments


class ScoreGraph:
    """Gradients of log p from one model on one device.

    Parameters
    ----------
    model : Model
        Whose graph lies beside its embedding graph.
    weights_sha256 : str or None
        Of the embedding graph's network; that of the score graph must be the same.
    session_arguments : tuple
        Device, providers, threads and session options.
    """

    def __init__(self, model: Model, weights_sha256: Any, session_arguments: SessionArguments) -> None:
        self._model, self._weights_sha256 = model, weights_sha256
        self._arguments = session_arguments
        self._session: Session[GraphInfo] | None = None
        self._lock = threading.Lock()

    def _opened(self) -> Session[GraphInfo]:
        with self._lock:
            if self._session is None:
                session = Session(
                    self._model, score_path(self._model), partial(read_graph_info, "score"), *self._arguments
                )
                if session.info.card.get("weights_sha256") != self._weights_sha256:
                    raise ModelError(
                        f"not the score graph of {self._model.path}, but another "
                        "network's; export both again",
                        self._model.score_path,
                    )
                self._session = session
            return self._session

    def gradient(self, chain: Chain, sigma: float, seconds: float | None) -> NDArray[np.float32]:
        """Return the gradient at a noise level, float32 (L, 3), as `Embedder.score` says."""
        session = self._opened()
        low, high = session.info.sigma_range
        # The levels were stored as float32.
        if not (isinstance(sigma, Real) and low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6)):
            raise EmbeddingError(
                f"sigma={sigma!r} lies outside the trained noise levels, {low:g} to {high:g} angstrom"
            )
        feeds = feeds_of(chain) | {"sigma": np.array([sigma], dtype=np.float32)}
        try:
            gradient: NDArray[np.float32] = session.run(["score"], feeds, budget=Budget.of(seconds))[0][0]
        except EmbeddingError as error:
            raise error.at(chain.id) from error
        if not np.isfinite(gradient).all():
            raise EmbeddingError(f"the score is not finite at sigma={sigma}", chain.id)
        return gradient
