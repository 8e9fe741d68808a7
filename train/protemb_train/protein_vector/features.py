"""Features of whole chains from any frozen encoder, with a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_sdk import OutputError
from protemb_sdk._base.output import written_whole
from protemb_train.base.arrays import read_arrays
from protemb_train.corpus.corpus import Trace
from protemb_train.encoders.vectors import VectorEncoder, side_by_side
from protemb_train.network.protein import PARTS, protein_features, segment_distances


def chain_features(encoder: VectorEncoder | None, trace: Trace) -> NDArray[np.float32]:
    """Return the features of one chain: `protein_features` with the structural vectors of any encoder.

    Parameters
    ----------
    encoder : VectorEncoder or None
        None for `segment_distances` alone, 55 numbers.
    trace : Trace
        A chain of the corpus.

    Returns
    -------
    ndarray, float32, shape (5 C + 55,)
    """
    coords = torch.from_numpy(np.array(trace.ca_coords, dtype=np.float32))[None]
    with torch.inference_mode():
        if encoder is None:
            return np.asarray(segment_distances(coords)[0].numpy())
        names = encoder.structural
        found = encoder.encode(trace.ca_coords, trace.residue_type, trace.residue_index, names)
        vectors = torch.from_numpy(side_by_side(found, names))[None]
        return np.asarray(protein_features(vectors, coords)[0].numpy())


def features_of(
    encoder: VectorEncoder | None, traces: Sequence[Trace], cache: Path | None = None
) -> NDArray[np.float32]:
    """Return `chain_features` of chains, shape (N, F), with an optional cache folder.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    if cache is None or encoder is None:
        return np.stack([chain_features(encoder, trace) for trace in traces])
    about = [encoder.about, list(encoder.structural), PARTS, [trace.id for trace in traces]]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for trace in traces:
        digest.update(trace.ca_coords.tobytes() + trace.residue_type.tobytes())
    path = cache / f"{encoder.name}-features-{digest.hexdigest()[:16]}.npz"
    if path.exists():
        return np.asarray(
            read_arrays(path, ("features",), "a cache of features of protemb-train")["features"]
        )
    found = np.stack([chain_features(encoder, trace) for trace in traces])
    make_folder(cache)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, features=found)
    return found


def make_folder(folder: Path) -> None:
    """Create a folder unless it exists.

    Raises
    ------
    OutputError
        If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be created ({error.strerror})") from error
