"""A row of the quality table: several seeds of one network on one kind of embedding, saved as networks.

Rows are never trained on test models: the command that writes the table loads them and predicts.
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

from protemb_sdk._model.readouts import PROFILE
from protemb_train.base.origin import origin
from protemb_train.downstream.common.embeddings import Encoder
from protemb_train.downstream.common.seeds import missing_seeds, seed_path
from protemb_train.downstream.quality.cache import digest_of, weights_of
from protemb_train.downstream.quality.compatibility import compatibility_data
from protemb_train.downstream.quality.data import few_per_target
from protemb_train.downstream.quality.decoys import Decoy, DecoyError
from protemb_train.downstream.quality.finetune import FEW, LONGEST_TRAINED, UNFROZEN, EndToEnd, bare
from protemb_train.downstream.quality.graphs import graph_of
from protemb_train.downstream.quality.head import graph_data
from protemb_train.downstream.quality.naming import FEATURES, Namer, names_of_all, tensors_of
from protemb_train.downstream.quality.trained import (
    COMPATIBILITY,
    GRAPHQA,
    TrainedNetwork,
    load_row,
    make_network,
    save_row,
)
from protemb_train.downstream.quality.training import Examples, Recipe, all_scores, predict, train
from protemb_train.downstream.quality.vectors import Scales, Vectors, embed_decoys
from protemb_train.network.network import ScoreNetwork

ENDING = ".pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Settings of a row.

    Parameters
    ----------
    name : str
        Name of the row and of its folder.
    network : str
        One of `NETWORKS`.
    encoder : Encoder
        Computes the embeddings.
    recipe : Recipe
    namer : Namer, optional
        Network whose features of residues are added; they indicate how well the sequence fits the fold.
    """

    name: str
    network: str
    encoder: Encoder
    recipe: Recipe = field(default_factory=Recipe)
    namer: Namer | None = None


def examples(
    kind: str,
    decoys: Sequence[Decoy],
    vectors: Vectors,
    scales: Scales,
    names: Sequence[Tensor] | None = None,
) -> Examples:
    """Return models as inputs of a network; graphs are made once, embeddings are read when needed.

    Parameters
    ----------
    kind : str
        One of `NETWORKS`.
    decoys : sequence of Decoy
    vectors : Vectors
        Their embeddings.
    scales : Scales
        Scales of the training models.
    names : sequence of Tensor, optional
        Features of the row's namer for each model.
    """
    made = [_inputs(kind, d, vectors, n) for n, d in enumerate(decoys)]
    if names is not None:
        for names_LF, graph_n in zip(names, made, strict=True):
            if kind in GRAPHQA:
                graph_n.features = torch.cat([graph_n.features, names_LF], dim=1)
            else:
                graph_n.names = names_LF

    def graph(n: int) -> Data:
        full = made[n].clone()
        if kind == "graphqa":
            full.node_embedding, full.edge_embedding = scales.scaled(*vectors[n])
        else:
            full.node_embedding = scales.scaled_nodes(vectors.of_nodes(n))
        return full

    return Examples(decoys, graph)


def _inputs(kind: str, decoy: Decoy, vectors: Vectors, n: int) -> Data:
    if kind == COMPATIBILITY:
        return compatibility_data(decoy, vectors.of_nodes(n))
    return graph_of(decoy) if kind in GRAPHQA else _neighbours(decoy)


def _neighbours(decoy: Decoy) -> Data:
    graph = graph_data(*tensors_of(decoy))
    graph.quality = torch.from_numpy(decoy.quality)[None]
    graph.residue_quality = torch.from_numpy(decoy.residue_quality)
    return graph


def run_row(
    row: Row,
    learning: Sequence[Decoy],
    validation: Sequence[Decoy],
    out: Path,
    *,
    seeds: Sequence[int],
    cache: Path,
) -> Iterator[TrainedNetwork]:
    """Train the missing seeds of a row, and yield each when it is finished.

    Parameters
    ----------
    row : Row
        Row to train.
    learning, validation : sequence of Decoy
        Models of different targets, none of them a test target.
    out : Path
        Folder of rows; `out/NAME/seed-N.pt` holds a network, its scales and its curve.
    seeds : sequence of int
        One run per seed.
    cache : Path
        Cache folder of embeddings.

    Raises
    ------
    DecoyError
        If a test model is among them, or an existing seed has other settings or is damaged.
    OutputError
        If the folder cannot be written.
    """
    if any(d.split == "test" for d in (*learning, *validation)):
        raise DecoyError("a test model is among the training or validation models; remove it", row.name)
    readouts: Any = row.encoder.about.get("readouts") or [None]
    if row.network == COMPATIBILITY and readouts[0] != PROFILE:
        raise DecoyError(f"the network {COMPATIBILITY} requires {PROFILE} as its first readout", row.name)
    folder = out / row.name
    made = _made(learning, validation) | {
        "network": row.network,
        "encoder": row.encoder.about,
        "recipe": asdict(row.recipe),
        "namer_sha256": None if row.namer is None else weights_of(row.namer),
    }
    named = {"names": row.namer is not None}
    wanted = missing_seeds(folder, ENDING, seeds, made | named, _record_of, DecoyError)
    if not wanted:
        return
    pairs = row.network == "graphqa"
    vectors = [embed_decoys(row.encoder, side, cache, pairs=pairs) for side in (learning, validation)]
    node, edge = vectors[0].node.shape[1], vectors[0].edge.shape[1]
    scales = (
        Scales.none(node) if row.network == COMPATIBILITY else Scales.of(vectors[0], range(len(learning)))
    )
    train_examples, val_examples = (
        examples(row.network, side, of, scales, names_of_all(row.namer, side, cache))
        for side, of in zip((learning, validation), vectors, strict=True)
    )
    shape = {
        "node": node,
        "edge": edge,
        "features": learning[0].features.shape[1] + (FEATURES if row.network in GRAPHQA and row.namer else 0),
    }
    for seed in wanted:
        make: Callable[[], nn.Module] = lambda: make_network(row.network, **shape, namer=row.namer)  # noqa: E731
        run = train(make, train_examples, val_examples, row.recipe, seed=seed)
        record = {
            "row": row.name,
            "seed": seed,
            **made,
            "shape": shape | {"named": row.namer is not None},
            "curve": run.curve,
            "validation": scores_by_kind(validation, val_examples, run.network),
            "origin": origin(),
        }
        trained_row = TrainedNetwork(run.network, scales, record)
        save_row(trained_row, seed_path(folder, seed, ENDING))
        yield trained_row


def _made(learning: Sequence[Decoy], validation: Sequence[Decoy]) -> dict[str, Any]:
    """Return the part of a record that describes training and validation models."""
    return {
        "models": [len(learning), len(validation)],
        "targets": [len({d.target for d in side}) for side in (learning, validation)],
        "models_sha256": [
            digest_of(side, [[d.target, np.nan_to_num(d.quality, nan=-1).tolist()] for d in side])
            for side in (learning, validation)
        ],
    }


def _record_of(path: Path) -> dict[str, Any]:
    """Return the record of a seed, and whether it uses a namer."""
    record = load_row(path).record
    return record | {"names": record["shape"].get("named", False)}


def fine_tune_row(
    name: str,
    frozen: Sequence[TrainedNetwork],
    encoder: ScoreNetwork,
    learning: Sequence[Decoy],
    validation: Sequence[Decoy],
    out: Path,
) -> Iterator[TrainedNetwork]:
    """Fine-tune the seeds of a GraphQA row together with their encoder; finished ones are not repeated.

    Parameters
    ----------
    name : str
        Name of the new row.
    frozen : sequence of TrainedNetwork
        Seeds of a row on embeddings of this encoder.
    encoder : ScoreNetwork
        Trained encoder; it is not modified.
    learning, validation : sequence of Decoy
        As in `run_row`.
    out : Path
        Folder of rows.

    Raises
    ------
    DecoyError
        If the row is not of GraphQA on this encoder, or an existing seed has other settings or is damaged.
    """
    short = [d for d in learning if len(d) <= LONGEST_TRAINED]
    evaluated = [d for d in validation if len(d) <= LONGEST_TRAINED][::FEW]
    sides = [bare(short), bare(evaluated)]
    made = _made(short, evaluated) | {"recipe": asdict(UNFROZEN), "unfrozen_sha256": weights_of(encoder)}
    for seed in frozen:
        made |= {"from": seed.record["row"], "encoder": seed.record["encoder"], "network": "graphqa"}
        number = seed.record["seed"]
        if not missing_seeds(out / name, ENDING, [number], made, _record_of, DecoyError):
            continue
        readouts = seed.record["encoder"].get("readouts")
        if seed.record["network"] != "graphqa" or readouts != ["mean"]:
            raise DecoyError(
                f"row {seed.record['row']}: fine-tuning requires a row of GraphQA on the readout mean"
            )
        if seed.record["shape"]["edge"] != encoder.config.channels:
            raise DecoyError(f"row {seed.record['row']}: its encoder is another one; pass its checkpoint")
        sigma = float(seed.record["encoder"]["sigma"])
        whole = EndToEnd(encoder, sigma, seed.network, seed.scales).train()
        run = train(lambda whole=whole: whole, sides[0], sides[1], UNFROZEN, seed=number)  # type: ignore[misc]
        record = seed.record | {
            "row": name,
            **made,
            "curve": [*seed.record["curve"], *run.curve],
            "validation": scores_by_kind(evaluated, sides[1], run.network),
            "unfrozen": {"network": encoder.config.as_dict(), "sigma": sigma},
            "origin": origin(),
        }
        tuned = TrainedNetwork(run.network, seed.scales, record)
        save_row(tuned, seed_path(out / name, number, ENDING))
        yield tuned


def scores_by_kind(
    decoys: Sequence[Decoy], inputs: Examples, network: nn.Module
) -> dict[str, dict[str, float]]:
    """Return scores on validation models, for real and generated ones separately."""
    predicted = predict(network, inputs)
    kept = {id(d) for d in few_per_target(decoys, len(decoys))}
    found = {}
    for name, made in (("real", False), ("made", True)):
        of = [n for n, d in enumerate(decoys) if d.made == made and id(d) in kept]
        if len(of) > 1:
            found[name] = all_scores([decoys[n] for n in of], predicted.of(of))
    return found
