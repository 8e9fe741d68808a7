"""Residue vectors of our own networks, from a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_train.network.checkpoint import load_network
from protemb_train.network.features import UNKNOWN, centred
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.single import four_means

STATE_SIGMA, MAP_SIGMA = 0.3, 1.0
"""Noise levels in angstrom for networks with and without a single representation."""


class NetworkVectors:
    """A score network at one noise level.

    Its vectors are `state` (the single representation, H channels), `structure` (the state without residue
    types, H), `means` (the four means of the pair map, 4 C) and `surroundings` (11 geometric numbers);
    `means-hidden` are the means with all residue types masked, in a second pass. A network without a
    single representation has only the means.

    Parameters
    ----------
    network : ScoreNetwork
        Network in eval mode.
    sigma : float, optional
        Noise level in angstrom; by default 0.3 with a single representation and 1 without.
    name : str
        Short name, also used for files.
    """

    def __init__(self, network: ScoreNetwork, sigma: float | None = None, name: str = "network") -> None:
        self.network, self.name = network, name
        single = network.single is not None
        self.sigma = sigma if sigma is not None else STATE_SIGMA if single else MAP_SIGMA
        self.vectors: tuple[str, ...] = ("means", "means-hidden")
        self.usual: tuple[str, ...] = ("means",)
        self.structural: tuple[str, ...] = ("means-hidden",)
        if single:
            self.vectors = ("state", "structure", "surroundings", *self.vectors)
            self.usual, self.structural = ("state", "means", "surroundings"), ("structure",)

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights."""
        digest = hashlib.sha256()
        for name, values in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + values.numpy().tobytes())
        return digest.hexdigest()

    @property
    def about(self) -> dict[str, object]:
        return {"encoder": self.name, "weights_sha256": self.weights_sha256, "sigma": self.sigma}

    @torch.inference_mode()
    def encode(
        self,
        ca_coords: NDArray[np.floating],
        residue_type: NDArray[np.int64],
        residue_index: NDArray[np.int64],
        wanted: Sequence[str],
    ) -> dict[str, NDArray[np.float32]]:
        """Return residue vectors by name; see `VectorEncoder`."""
        coords, index = _inputs(ca_coords, residue_index)
        types = torch.from_numpy(np.array(residue_type, dtype=np.int64))[None]
        sigma = torch.tensor([self.sigma])
        found: dict[str, torch.Tensor] = {}
        if list(wanted) == ["structure"]:  # half of the network suffices
            found["structure"] = self.network.structure_state(coords, index, sigma)
        elif self.network.single is None:
            if "means" in wanted:
                found["means"] = four_means(self.network.embed(coords, types, index, sigma), coords)
        elif {"state", "structure", "means"} & set(wanted):
            pair, states = self.network.embed_all(coords, types, index, sigma)
            found = {**states._asdict(), "means": four_means(pair, coords)}
        if "surroundings" in wanted:
            found["surroundings"] = self.network.surroundings(coords, index)
        if "means-hidden" in wanted:
            hidden = torch.full_like(types, UNKNOWN)
            found["means-hidden"] = four_means(self.network.embed(coords, hidden, index, sigma), coords)
        return {name: np.asarray(vectors[0].numpy()) for name, vectors in found.items()}

    @torch.inference_mode()
    def log_profile(
        self, ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        """Return log probabilities of residue types; None without a single representation."""
        if self.network.single is None:
            return None
        state = self.network.structure_state(*_inputs(ca_coords, residue_index), torch.tensor([self.sigma]))
        return np.asarray(self.network.single.log_profile(state)[0].numpy())


class NetworkEncoder(NetworkVectors):
    """The network of a checkpoint at one noise level.

    Parameters
    ----------
    path : Path
        Checkpoint of `protemb-train pretrain`.
    sigma : float, optional
        As in `NetworkVectors`.

    Raises
    ------
    ModelError
        If the checkpoint cannot be read.
    """

    def __init__(self, path: Path, sigma: float | None = None) -> None:
        network, self.record = load_network(path)
        generic = path.stem in ("last", "best")  # the name of the folder is more informative
        super().__init__(network, sigma, path.resolve().parent.name if generic else path.stem)
        self.path = path

    @property
    def about(self) -> dict[str, object]:
        return {**super().about, "training_steps": self.record.get("steps")}


def _inputs(
    ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor]:
    coords = centred(torch.from_numpy(np.array(ca_coords, dtype=np.float64))[None]).float()
    return coords, torch.from_numpy(np.array(residue_index, dtype=np.int64))[None]
