"""Input of heads: vectors of residues by name, out of an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.readouts import PROFILE, RESIDUE


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
    assert profile is not None  # asked for
    uninformed = np.full((len(types), 1), -np.log(profile.shape[1]), dtype=np.float32)
    own = np.take_along_axis(np.concatenate([profile, uninformed], axis=1), types[:, None], axis=1)
    return np.concatenate([profile, own], axis=1)
