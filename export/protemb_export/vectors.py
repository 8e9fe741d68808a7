"""What residue and protein embeddings are made of: from files and options, and from a graph that has it."""

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
"""Of the constants of a graph that are the linear map."""


def read_vectors(
    network: ScoreNetwork, protein_map: Path | None, contents: str | None
) -> ChainVectors | None:
    """Return what embeddings of a network are made of; None for a network without a single representation.

    Parameters
    ----------
    network : ScoreNetwork
        What is exported.
    protein_map : Path, optional
        npz with `matrix`, float32 (5 H + 55, P), and perhaps `bias`, float32 (P,).
    contents : str, optional
        Contents of a residue embedding, separated by commas.

    Raises
    ------
    ArrayFileError
        If the file is missing, or its arrays are not finite numbers.
    ConfigError
        If the map does not fit the network, or a content is unknown.
    ExportError
        If either is given for a network without a single representation.
    """
    if network.single is None:
        if protein_map is not None or contents is not None:
            raise ExportError(
                "--protein-map and --residue are for networks with a single representation, and this "
                "checkpoint has none; leave them out"
            )
        return None
    arrays = (
        {} if protein_map is None else read_arrays(protein_map, ["matrix"], "a linear map", optional=["bias"])
    )
    tensors = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ArrayFileError(f"{protein_map}: its {name} must hold finite numbers")
        tensors[name] = torch.from_numpy(array.astype(np.float32))
    names = CONTENTS if contents is None else [name.strip() for name in contents.split(",")]
    return ChainVectors(network.config.channels, network.config.single_channels, names, **tensors)


def vectors_of_graph(
    graph: onnx.ModelProto, card: Mapping[str, Any], network: ScoreNetwork
) -> ChainVectors | None:
    """Return what the embeddings of an exported graph are made of; None in contract 1."""
    if network.single is None:
        return None
    tensors = {
        tensor.name.removeprefix(PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.graph.initializer
        if tensor.name.startswith(PREFIX)
    }
    return ChainVectors(network.config.channels, network.config.single_channels, card["residue"], **tensors)
