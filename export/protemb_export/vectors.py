"""Contents of residue and protein embeddings: from files and options, or from an exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from protemb_export.errors import ExportError
from protemb_train.base.arrays import ArrayFileError, read_arrays
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.vectors import CONTENTS, ChainVectors

PREFIX = "vectors."
"""Prefix of the constants of a graph that store the linear map."""


def read_vectors(
    network: ScoreNetwork, protein_map: Path | None, contents: str | None
) -> ChainVectors | None:
    """Return the contents of a network's embeddings; None for a network without a single representation.

    Parameters
    ----------
    network : ScoreNetwork
        Exported network.
    protein_map : Path, optional
        npz with `matrix`, float32 (5 H + 55, P), and optionally `bias`, float32 (P,).
    contents : str, optional
        Contents of a residue embedding, separated by commas.

    Raises
    ------
    ArrayFileError
        If the file is missing, or its arrays contain non-finite values.
    ConfigError
        If the map does not fit the network, or a content is unknown.
    ExportError
        If either is given for a network without a single representation.
    """
    if network.single is None:
        if protein_map is not None or contents is not None:
            raise ExportError(
                "--protein-map and --residue require a network with a single representation, which this "
                "checkpoint does not have; omit them"
            )
        return None
    arrays = (
        {} if protein_map is None else read_arrays(protein_map, ["matrix"], "a linear map", optional=["bias"])
    )
    tensors = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ArrayFileError(f"{protein_map}: its {name} must contain finite numbers")
        tensors[name] = torch.from_numpy(array.astype(np.float32))
    names = CONTENTS if contents is None else [name.strip() for name in contents.split(",")]
    return ChainVectors(network.config.channels, network.config.single_channels, names, **tensors)


def vectors_of_graph(
    graph: onnx.ModelProto, card: Mapping[str, Any], network: ScoreNetwork
) -> ChainVectors | None:
    """Return the contents of the embeddings of an exported graph; None for contract 1."""
    if network.single is None:
        return None
    tensors = {
        tensor.name.removeprefix(PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.graph.initializer
        if tensor.name.startswith(PREFIX)
    }
    return ChainVectors(network.config.channels, network.config.single_channels, card["residue"], **tensors)
