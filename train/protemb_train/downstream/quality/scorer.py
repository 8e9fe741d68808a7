"""The quality scorer: the mean of rows of the table, with its scores on validation models."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_train.downstream.common.embeddings import NoEncoder
from protemb_train.downstream.quality.calibration import Weights
from protemb_train.downstream.quality.compatibility import CompatibilityHead
from protemb_train.downstream.quality.decoys import GLOBAL, Decoy, DecoyError
from protemb_train.downstream.quality.graphqa import GraphQA
from protemb_train.downstream.quality.naming import FEATURES, Namer
from protemb_train.downstream.quality.scorer_model import QualityModel, QualityNetwork, smoothed
from protemb_train.downstream.quality.scores import decoy_scores, residue_scores
from protemb_train.downstream.quality.trained import COMPATIBILITY, TrainedNetwork, make_network
from protemb_train.downstream.quality.training import Predicted
from protemb_train.downstream.quality.vectors import Scales
from protemb_train.network.checkpoint import read_tensors, round_weights

FORMAT = "protemb-quality-4"
QUALITIES = ((0.0, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 1.01))
LENGTHS = ((0, 100), (100, 200), (200, 1000))
"""Bands of true GDT_TS, and of residues, for which errors are given; the upper bound is excluded."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A scorer and its card: encoder, readouts, quality on held-out models, training."""

    model: QualityModel
    card: dict[str, Any] = field(default_factory=dict)


def together(values: Sequence[Predicted]) -> Predicted:
    """Return the mean of the predictions of several networks."""
    residues = [np.mean(of, axis=0) for of in zip(*(s.residue_quality for s in values), strict=True)]
    return Predicted(np.mean([s.quality for s in values], axis=0), residues)


def combined(predicted: Mapping[str, Sequence[Predicted]], names: Sequence[str]) -> Predicted:
    """Return the mean of rows, each the mean of its seeds; values of residues are `smoothed`."""
    mean = together([together(predicted[name]) for name in names])
    return Predicted(mean.quality, [smoothed(torch.from_numpy(of)).numpy() for of in mean.residue_quality])


def assemble(
    rows: Mapping[str, Sequence[TrainedNetwork]], quality: Mapping[str, Any], weights: Weights | None = None
) -> Trained:
    """Return rows as one scorer: the mean of their means over seeds.

    Parameters
    ----------
    rows : mapping of str to sequence of TrainedNetwork
        Seeds of each row. One row at least is on a structure embedding; others are on the same or on none.
    quality : mapping
        Measured scores, for the card.
    weights : list of tuple of float, optional
        Calibration, of `fit_calibration`; none by default.

    Raises
    ------
    DecoyError
        If a row needs pair embeddings, or rows differ in embeddings, training models or naming network.
    """
    record = _embedding_record(rows)
    encoder = record["encoder"]
    seeds = [seed for row in rows.values() for seed in row]
    heads = [copy.deepcopy(cast(QualityNetwork, s.network)) for s in seeds]
    for head in heads:
        round_weights(head)
    width = next(len(s.scales.node_mean) for s in seeds if s.record["encoder"] == encoder)
    scales = [s.scales if len(s.scales.node_mean) else Scales.none(width) for s in seeds]
    model = QualityModel(
        heads,
        [of.node_mean for of in scales],
        [of.node_spread for of in scales],
        getattr(heads[0], "namer", None),
        weights,
        [1 / (len(rows) * len(row)) for row in rows.values() for _ in row],
    )
    card = {
        "kind": "quality",
        "encoder": {
            "name": encoder["encoder"],
            "weights_sha256": encoder["weights_sha256"],
            "sigma": encoder["sigma"],
        },
        "readouts": list(encoder["readouts"]),
        "quality": dict(quality),
        "training": {
            "models": record["models"][0],
            "targets": record["targets"][0],
            "networks": ", ".join(
                f"{len(row)} {row[0].record['network']} on {row[0].record['encoder']['encoder']}, "
                f"{row[0].record['recipe']['epochs']} epochs"
                for row in rows.values()
            ),
            "calibration": None if weights is None else [list(of) for of in weights],
            "origin": record["origin"],
        },
    }
    return Trained(model.eval(), card)


def _embedding_record(rows: Mapping[str, Sequence[TrainedNetwork]]) -> dict[str, Any]:
    """Return the record of the first row on a structure embedding, if the rows can be combined."""
    records = {name: seeds[0].record for name, seeds in rows.items()}
    embedded = [record for record in records.values() if "sigma" in record["encoder"]]
    for name, record in records.items():
        if not embedded or record["network"] == "graphqa":
            raise DecoyError(
                f"row {name}: a scorer requires networks of kind residues, head or compatibility on a "
                "structure embedding"
            )
        if record["encoder"] not in (embedded[0]["encoder"], NoEncoder.about):
            raise DecoyError(f"row {name}: its embeddings are not those of row {embedded[0]['row']}")
        for key in ("models_sha256", "namer_sha256"):
            if record[key] != embedded[0][key]:
                raise DecoyError(f"row {name}: its {key} is not that of row {embedded[0]['row']}")
    return embedded[0]


def by_source(decoys: Sequence[Decoy], values: Predicted) -> dict[str, dict[str, float]]:
    """Return `errors_of` for the models of each source."""
    sources = np.array([d.source for d in decoys])
    return {str(name): errors_of(decoys, values, sources == name) for name in np.unique(sources)}


def by_band(decoys: Sequence[Decoy], values: Predicted) -> dict[str, dict[str, float]]:
    """Return `errors_of` for models of similar true GDT_TS, and for those of similar length."""
    gdt_ts, length = np.array([d.gdt_ts for d in decoys]), np.array([len(d) for d in decoys])
    bands = {f"GDT_TS from {low:g} to {high:g}": (gdt_ts, low, high) for low, high in QUALITIES}
    bands |= {f"{low} to {high - 1} residues": (length, low, high) for low, high in LENGTHS}
    found = {name: (of >= low) & (of < high) for name, (of, low, high) in bands.items()}
    return {name: errors_of(decoys, values, some) for name, some in found.items() if some.any()}


def errors_of(decoys: Sequence[Decoy], values: Predicted, some: NDArray[np.bool_]) -> dict[str, float]:
    """Return errors of the predictions for some models.

    They are the number of models; true and predicted GDT_TS, the same for lDDT; mean absolute errors of both;
    root mean squared error and correlation of GDT_TS, and rank correlation of lDDT within a model.
    """
    of = np.flatnonzero(some).tolist()
    found: dict[str, float] = {"models": len(of)}
    for name, shown in (("gdt_ts", "predicted"), ("lddt", "predicted_lddt")):
        k = GLOBAL.index(name)
        true, predicted = np.array([decoys[n].quality[k] for n in of]), values.quality[of, k]
        found |= {
            name: round(float(np.nanmean(true)), 3),
            shown: round(float(predicted.mean()), 3),
            f"mae_{name}": round(float(np.nanmean(np.abs(true - predicted))), 3),
        }
    if len(of) > 1:
        true, predicted = np.array([decoys[n].gdt_ts for n in of]), values.quality[of, GLOBAL.index("gdt_ts")]
        scores = decoy_scores(true, predicted, np.array([decoys[n].target for n in of]))
        found |= {"rmse": round(scores.rmse, 3), "r": round(scores.r, 3)}
    local = residue_scores(
        [decoys[n].residue_quality[:, 0] for n in of], [values.residue_quality[n][:, 0] for n in of]
    )
    return found | {"rho_decoy": round(local.rho_decoy, 3)}


def save_scorer(trained: Trained, out: Path) -> None:
    """Write a scorer, for export.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    heads = cast(Sequence[QualityNetwork], trained.model.heads)
    shape = {
        "networks": [_kind_of(head) for head in heads],
        "embedded": [not isinstance(head, GraphQA) or head.config.node_embedding > 0 for head in heads],
        "extra": trained.model.get_buffer("mean_HE").shape[1],
        "named": trained.model.namer is not None,
    }
    with written_whole(out) as part:
        torch.save(
            {"format": FORMAT, "shape": shape, "card": trained.card, "state": trained.model.state_dict()},
            part,
        )


def _kind_of(head: QualityNetwork) -> str:
    if isinstance(head, CompatibilityHead):
        return COMPATIBILITY
    return "residues" if isinstance(head, GraphQA) else "head"


def load_scorer(path: Path) -> Trained:
    """Read a file of `save_scorer`.

    Raises
    ------
    ModelError
        If the file is missing or is not such a scorer.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"has the format {loaded['format']!r}; only {FORMAT!r} can be read", path)
        shape = loaded["shape"]
        extra = int(shape["extra"])
        namer = Namer.like(loaded["state"]) if shape["named"] else None
        heads = [
            make_network(kind, extra * embedded, 0, FEATURES if namer else 0, namer)
            for kind, embedded in zip(shape["networks"], shape["embedded"], strict=True)
        ]
        zeros = [torch.zeros(extra)] * len(heads)
        model = QualityModel([cast(QualityNetwork, head) for head in heads], zeros, zeros, namer)
        model.load_state_dict(loaded["state"])
        return Trained(model.eval(), dict(loaded["card"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a scorer of protemb-train quality scorer ({error})", path) from error
