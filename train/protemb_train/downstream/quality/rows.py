"""A row of the quality table: several seeds of one network on one kind of embedding, kept as networks.

The rows never see a test model: the command that writes the table loads them and lets them predict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from protemb_sdk._chain import encode_sequence
from protemb_sdk._errors import ModelError, OutputError
from protemb_sdk._output import written_whole
from protemb_train.checkpoint import read_tensors
from protemb_train.downstream.embeddings import Encoder
from protemb_train.downstream.quality.data import few_a_target
from protemb_train.downstream.quality.decoys import Decoy, DecoyError
from protemb_train.downstream.quality.graphqa import GraphQA, GraphQAConfig
from protemb_train.downstream.quality.graphs import graph_of
from protemb_train.downstream.quality.head import QualityHead, contacts_of
from protemb_train.downstream.quality.training import Examples, Recipe, judged, predict, train
from protemb_train.downstream.quality.vectors import Scales, Vectors, embed_decoys
from protemb_train.origin import origin

FORMAT = "protemb-quality-row-1"
NETWORKS = ("graphqa", "head")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is compared.

    Parameters
    ----------
    name : str
        Of the row, and of its folder.
    network : str
        One of `NETWORKS`: as published, with embeddings of residues and of pairs at edges; or ours.
    encoder : Encoder
        Makes the embeddings.
    recipe : Recipe
    """

    name: str
    network: str
    encoder: Encoder
    recipe: Recipe = field(default_factory=Recipe)


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


def examples(kind: str, decoys: Sequence[Decoy], vectors: Vectors, scales: Scales) -> Examples:
    """Return models as a network sees them; graphs are made once, embeddings read when needed.

    Parameters
    ----------
    kind : str
        One of `NETWORKS`.
    decoys : sequence of Decoy
    vectors : Vectors
        Their embeddings.
    scales : Scales
        Of the models learnt from.
    """
    bare = [graph_of(d) if kind == "graphqa" else _contacts(d) for d in decoys]

    def graph(n: int) -> Data:
        full = bare[n].clone()
        if kind == "graphqa":
            node, edge = scales.scaled(*vectors[n])
            full.node_embedding = node[:, : node.shape[1] // vectors.readouts]
            full.edge_embedding = edge
        else:
            full.node_embedding = scales.scaled_nodes(vectors.of_nodes(n))
        return full

    return Examples(decoys, graph)


def _contacts(decoy: Decoy) -> Data:
    coords = torch.from_numpy((decoy.ca_coords - decoy.ca_coords.mean(axis=0)).astype(np.float32))
    graph = contacts_of(torch.from_numpy(encode_sequence(decoy.sequence)), coords)
    graph.quality = torch.from_numpy(decoy.quality)[None]
    graph.residue_quality = torch.from_numpy(decoy.residue_quality)
    return graph


def make_network(kind: str, node: int, edge: int, readouts: int, features: int = 0) -> nn.Module:
    """Return a network at random for embeddings of these widths.

    Raises
    ------
    DecoyError
        If there is no network of that name.
    """
    if kind == "graphqa":
        config = GraphQAConfig(node_embedding=node // readouts, edge_embedding=edge, features=features)
        return GraphQA(config)
    if kind == "head":
        return QualityHead(node)
    raise DecoyError(f"no network named {kind!r}; there are {', '.join(NETWORKS)}")


def run_row(
    row: Row,
    learning: Sequence[Decoy],
    validation: Sequence[Decoy],
    out: Path,
    *,
    seeds: Sequence[int],
    cache: Path,
) -> Iterator[Learnt]:
    """Train the seeds of a row that are not there yet, and yield them as they end.

    Parameters
    ----------
    row : Row
        What is trained.
    learning, validation : sequence of Decoy
        Of different targets, none of them a test target.
    out : Path
        Folder of rows; `out/NAME/seed-N.pt` holds a network, its scales and its curve.
    seeds : sequence of int
        One run each.
    cache : Path
        Folder of embeddings.

    Raises
    ------
    DecoyError
        If a test model is among them.
    OutputError
        If the folder cannot be written.
    """
    if any(d.split == "test" for d in (*learning, *validation)):
        raise DecoyError(f"{row.name}: a test model is among those to learn from or to watch; leave it out")
    folder = out / row.name
    wanted = [seed for seed in seeds if not (folder / f"seed-{seed}.pt").exists()]
    if not wanted:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: no folder can be made there ({error.strerror})") from error
    pairs = row.network == "graphqa"
    vectors = [embed_decoys(row.encoder, side, cache, pairs=pairs) for side in (learning, validation)]
    scales = Scales.of(vectors[0], range(len(learning)))
    learnt, watched = (
        examples(row.network, side, of, scales)
        for side, of in zip((learning, validation), vectors, strict=True)
    )
    node, edge = vectors[0].node.shape[1], vectors[0].edge.shape[1]
    shape = {
        "node": node,
        "edge": edge,
        "readouts": vectors[0].readouts,
        "features": learning[0].features.shape[1],
    }
    for seed in wanted:
        make: Callable[[], nn.Module] = lambda: make_network(row.network, **shape)  # noqa: E731
        run = train(make, learnt, watched, row.recipe, seed=seed)
        record = {
            "row": row.name,
            "seed": seed,
            "network": row.network,
            "shape": shape,
            "encoder": row.encoder.about,
            "recipe": asdict(row.recipe),
            "models": [len(learning), len(validation)],
            "targets": [len({d.target for d in side}) for side in (learning, validation)],
            "curve": run.curve,
            "validation": judged_by_kind(validation, watched, run.network),
            "origin": origin(),
        }
        learnt_row = Learnt(run.network, scales, record)
        save_row(learnt_row, folder / f"seed-{seed}.pt")
        yield learnt_row


def judged_by_kind(
    decoys: Sequence[Decoy], watched: Examples, network: nn.Module
) -> dict[str, dict[str, float]]:
    """Return scores on validation models of targets that have some, real ones and made ones apart."""
    said = predict(network, watched)
    kept = {id(d) for d in few_a_target(decoys, len(decoys))}
    found = {}
    for name, made in (("real", False), ("made", True)):
        of = [n for n, d in enumerate(decoys) if d.made == made and id(d) in kept]
        if len(of) > 1:
            found[name] = judged([decoys[n] for n in of], said.of(of))
    return found


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
            raise ModelError(f"{path}: holds {loaded['format']!r}, this reads {FORMAT!r} only")
        record: dict[str, Any] = dict(loaded["record"])
        network = make_network(record["network"], **record["shape"])
        network.load_state_dict(loaded["state"])
        scales: dict[str, Tensor] = dict(loaded["scales"])
        return Learnt(network.eval(), Scales(**scales), record)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: not a network of protemb-train quality row ({error})") from error


def load_rows(folder: Path, only: str | None = None) -> dict[str, list[Learnt]]:
    """Return every row of a folder, or one, seeds in order.

    Raises
    ------
    DecoyError
        If there is none.
    """
    rows = {
        of.name: [load_row(path) for path in sorted(of.glob("seed-*.pt"))]
        for of in sorted(folder.glob(only or "*"))
    }
    rows = {name: seeds for name, seeds in rows.items() if seeds}
    if not rows:
        raise DecoyError(f"{folder}: holds no {only or 'rows'}; make some with protemb-train quality row")
    return rows
