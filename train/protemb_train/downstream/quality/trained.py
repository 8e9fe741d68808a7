"""Trained networks of the quality table, with their scales and records, and their files."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_train.downstream.common.seeds import check_alike
from protemb_train.downstream.quality.compatibility import CompatibilityHead
from protemb_train.downstream.quality.decoys import DecoyError
from protemb_train.downstream.quality.finetune import EndToEnd
from protemb_train.downstream.quality.graphqa import GraphQA, GraphQAConfig
from protemb_train.downstream.quality.head import QualityHead
from protemb_train.downstream.quality.naming import Namer
from protemb_train.downstream.quality.vectors import Scales
from protemb_train.network.checkpoint import read_tensors
from protemb_train.network.config import NetworkConfig
from protemb_train.network.network import ScoreNetwork

FORMAT = "protemb-quality-row-1"
GRAPHQA = ("graphqa", "residues")
"""GraphQA with embeddings of residues and of the pairs at edges, or of residues alone."""
_OF_A_ROW = (
    *("network", "encoder", "recipe", "models", "targets", "models_sha256", "namer_sha256"),
    *("unfrozen", "unfrozen_sha256", "from"),
)
COMPATIBILITY = "compatibility"
NETWORKS = (*GRAPHQA, "head", COMPATIBILITY)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A trained network with its input scaling.

    Parameters
    ----------
    network : nn.Module
        Network in eval mode.
    scales : Scales
        Scales of its embeddings.
    record : dict
        Plain values: row, seed, network, encoder, recipe, curve, origin.
    """

    network: nn.Module
    scales: Scales
    record: dict[str, Any]


def make_network(
    kind: str,
    node: int,
    edge: int,
    features: int = 0,
    namer: Namer | None = None,
) -> nn.Module:
    """Return a network with random weights for embeddings of these widths; a namer keeps its weights.

    Raises
    ------
    DecoyError
        If there is no network of that name.
    """
    own = copy.deepcopy(namer).train() if namer else None
    if kind in GRAPHQA:
        config = GraphQAConfig(node_embedding=node, edge_embedding=edge, features=features)
        return GraphQA(config, own)
    if kind == "head":
        return QualityHead(node, own)
    if kind == COMPATIBILITY:
        return CompatibilityHead(node)
    raise DecoyError(f"there is no network {kind!r}; available are {', '.join(NETWORKS)}")


def save_row(trained: TrainedNetwork, out: Path) -> None:
    """Write a trained network atomically."""
    scales = {name: getattr(trained.scales, name) for name in Scales.__slots__}
    with written_whole(out) as part:
        torch.save(
            {
                "format": FORMAT,
                "record": trained.record,
                "scales": scales,
                "state": trained.network.state_dict(),
            },
            part,
        )


def load_row(path: Path) -> TrainedNetwork:
    """Read a file of `save_row`.

    Raises
    ------
    ModelError
        If the file is missing or is not a trained row.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"has the format {loaded['format']!r}; only {FORMAT!r} can be read", path)
        record: dict[str, Any] = dict(loaded["record"])
        shape = dict(record["shape"])
        namer = Namer.like(loaded["state"]) if shape.pop("named", False) else None
        network = make_network(record["network"], **shape, namer=namer)
        scales = Scales(**dict(loaded["scales"]))
        if unfrozen := record.get("unfrozen"):
            encoder = ScoreNetwork(NetworkConfig.from_dict(unfrozen["network"]))
            network = EndToEnd(encoder, unfrozen["sigma"], network, scales)
        network.load_state_dict(loaded["state"])
        return TrainedNetwork(network.eval(), scales, record)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a network of protemb-train quality row ({error})", path) from error


def load_rows(folder: Path, only: str | None = None) -> dict[str, list[TrainedNetwork]]:
    """Return every row of a folder, or one, with seeds in order.

    Raises
    ------
    DecoyError
        If there is no row, or its seeds have different settings.
    """
    rows = {
        of.name: [load_row(path) for path in sorted(of.glob("seed-*.pt"))]
        for of in sorted(folder.glob(only or "*"))
    }
    rows = {name: seeds for name, seeds in rows.items() if seeds}
    if not rows:
        raise DecoyError(f"contains no {only or 'rows'}; train some with protemb-train quality row", folder)
    for name, seeds in rows.items():
        check_alike(folder / name, [seed.record for seed in seeds], _OF_A_ROW, DecoyError)
    return rows
