"""Embeddings in other libraries: graphs of PyTorch Geometric, pipelines of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from protemb_sdk import Embedder, EmbeddingError

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from protemb_sdk import Embedding


def to_torch_geometric(embedding: Embedding, radius: float = 10.0) -> Data:
    """Return a chain as a graph of its residues, with edges in both directions between near C-alphas.

    Parameters
    ----------
    embedding : Embedding
        With `pair=True`, edges have features.
    radius : float, default 10
        Largest distance of connected residues, angstrom.

    Returns
    -------
    torch_geometric.data.Data
        `x` (L, C), the residue embedding; `pos` (L, 3), C-alpha coordinates in angstrom, centred;
        `residue_type` (L,), indices in `protemb_sdk.ALPHABET`; `edge_index` (2, E), int64, sorted by first
        and then second residue; `edge_attr` (E, C), the pair embedding of each edge, if available; `id`.

    Raises
    ------
    EmbeddingError
        If the radius is not above 0.
    """
    import torch
    from torch_geometric.data import Data

    if not radius > 0:
        raise EmbeddingError(f"radius={radius!r} must be above 0 angstrom")
    coords = embedding.chain.centred_coords
    near = np.linalg.norm(coords[:, None] - coords, axis=-1) <= radius
    np.fill_diagonal(near, False)
    edges = np.argwhere(near).T
    data = Data(
        x=torch.from_numpy(embedding.readout("residue").copy()),
        pos=torch.from_numpy(coords.astype(np.float32)),
        residue_type=torch.from_numpy(embedding.chain.residue_type.copy()),
        edge_index=torch.from_numpy(np.ascontiguousarray(edges)),
        id=embedding.id,
    )
    if embedding.pair is not None:
        data.edge_attr = torch.from_numpy(embedding.pair[edges[0], edges[1]])
    return data


LEVELS = ("protein", "residue")


class EmbeddingTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds structures, one row of features each; a step of a scikit-learn Pipeline without fitting.

    Parameters
    ----------
    model : str, default "base"
        Bundled model, or path of an `.onnx` file.
    readouts : sequence of str, optional
        Features to concatenate: "protein", or chain means of readouts and of "residue". By default the
        protein embedding, which in models of contract 1 is the chain mean of the readout "mean".
    device : str, default "auto"
        As in `Embedder`.
    threads : int, optional
        Number of CPU threads.
    """

    def __init__(
        self,
        model: str = "base",
        readouts: Sequence[str] | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.model, self.readouts, self.device, self.threads = model, readouts, device, threads

    def fit(self, x: object, y: object = None) -> EmbeddingTransformer:
        """Do nothing; the network is already trained."""
        return self

    def transform(self, x: Iterable[object]) -> NDArray[np.float32]:
        """Embed structures of one protein chain each.

        Parameters
        ----------
        x : iterable
            Inputs of `Embedder.embed`, or pairs ("file", "chain") of strings.

        Returns
        -------
        ndarray, float32, shape (structures, sum of widths)

        Raises
        ------
        ProtembError
            If a structure cannot be read, or has several chains and none is selected.
        """
        embedder, names = self._embedder(), self._names()
        readouts = tuple(name for name in names if name not in LEVELS)
        rows = []
        for structure in x:
            named = isinstance(structure, tuple | list) and all(isinstance(part, str) for part in structure)
            pair: Any = structure if named else (structure, None)
            found = embedder.embed(pair[0], pair[1], readouts=readouts)
            parts = [
                found.protein if name == "protein" else found.readout(name).mean(axis=0) for name in names
            ]
            rows.append(np.concatenate(parts))
        return np.stack(rows) if rows else np.empty((0, len(self.get_feature_names_out())), np.float32)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns: readout and channel."""
        widths = self._embedder().widths
        columns = [
            f"{name}_{n}" for name in self._names() for n in range(widths[name if name in LEVELS else "pair"])
        ]
        return np.array(columns, dtype=object)

    def _names(self) -> tuple[str, ...]:
        if self.readouts is not None:
            return tuple(self.readouts)
        return ("protein",) if self._embedder().has_profile else ("mean",)

    def _embedder(self) -> Embedder:
        arguments = (self.model, self.device, self.threads)
        held = self.__dict__.get("_held")
        if held is None or held[0] != arguments:
            held = self._held = (arguments, Embedder(self.model, self.device, threads=self.threads))
        found: Embedder = held[1]
        return found

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_held"}  # sessions are not pickled
