"""Trained networks of the quality table: what they need to see a model, and their files."""

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
from protemb_train.downstream.quality.decoys import DecoyError
from protemb_train.downstream.quality.finetune import EndToEnd
from protemb_train.downstream.quality.graphqa import GraphQA, GraphQAConfig
from protemb_train.downstream.quality.head import QualityHead
from protemb_train.downstream.quality.naming import Namer
from protemb_train.downstream.quality.vectors import Scales
from protemb_train.network.checkpoint import read_tensors
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import NetworkConfig

FORMAT = "protemb-quality-row-1"
GRAPHQA = ("graphqa", "residues")
"""GraphQA with embeddings of residues (their mean readout) and of the pairs at edges, or all readouts of
residues but nothing of pairs, which needs no pair map to run."""
_OF_A_ROW = (
    *("network", "encoder", "recipe", "models", "targets", "models_sha256", "namer_sha256"),
    *("unfrozen", "unfrozen_sha256", "from"),
)
NETWORKS = (*GRAPHQA, "head")


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A trained network, and what it needs to see a model.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    scales : Scales
        Of its embeddings.
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
    readouts: int,
    features: int = 0,
    namer: Namer | None = None,
) -> nn.Module:
    """Return a network at random for embeddings of these widths; a namer, if it has one, as it is.

    Raises
    ------
    DecoyError
        If there is no network of that name.
    """
    own = copy.deepcopy(namer).train() if namer else None
    if kind in GRAPHQA:
        seen = node // readouts if kind == "graphqa" else node
        config = GraphQAConfig(node_embedding=seen, edge_embedding=edge, features=features)
        return GraphQA(config, own)
    if kind == "head":
        return QualityHead(node, own)
    raise DecoyError(f"no network named {kind!r}; there are {', '.join(NETWORKS)}")


def save_row(learnt: Learnt, out: Path) -> None:
    """Write a trained network, whole or not at all."""
    scales = {name: getattr(learnt.scales, name) for name in Scales.__slots__}
    with written_whole(out) as part:
        torch.save(
            {
                "format": FORMAT,
                "record": learnt.record,
                "scales": scales,
                "state": learnt.network.state_dict(),
            },
            part,
        )


def load_row(path: Path) -> Learnt:
    """Read what `save_row` wrote.

    Raises
    ------
    ModelError
        If the file is missing, or is none of a row.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"holds {loaded['format']!r}, this reads {FORMAT!r} only", path)
        record: dict[str, Any] = dict(loaded["record"])
        shape = dict(record["shape"])
        namer = Namer.like(loaded["state"]) if shape.pop("named", False) else None
        network = make_network(record["network"], **shape, namer=namer)
        scales = Scales(**dict(loaded["scales"]))
        if unfrozen := record.get("unfrozen"):
            encoder = ScoreNetwork(NetworkConfig.from_dict(unfrozen["network"]))
            network = EndToEnd(encoder, unfrozen["sigma"], network, scales)
        network.load_state_dict(loaded["state"])
        return Learnt(network.eval(), scales, record)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a network of protemb-train quality row ({error})", path) from error


def load_rows(folder: Path, only: str | None = None) -> dict[str, list[Learnt]]:
    """Return every row of a folder, or one, seeds in order.

    Raises
    ------
    DecoyError
        If there is none, or the seeds of one were made in different ways.
    """
    rows = {
        of.name: [load_row(path) for path in sorted(of.glob("seed-*.pt"))]
        for of in sorted(folder.glob(only or "*"))
    }
    rows = {name: seeds for name, seeds in rows.items() if seeds}
    if not rows:
        raise DecoyError(f"holds no {only or 'rows'}; make some with protemb-train quality row", folder)
    for name, seeds in rows.items():
        check_alike(folder / name, [seed.record for seed in seeds], _OF_A_ROW, DecoyError)
    return rows
