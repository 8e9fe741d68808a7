"""The quality scorer: the mean of the networks of one row, with its scores on validation models."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_train.downstream.common.calibration import calibration_features
from protemb_train.downstream.common.neighbour_graph import Graph, neighbour_graph
from protemb_train.downstream.quality.calibration import LIMIT, Weights
from protemb_train.downstream.quality.compatibility import (
    PROFILE,
    CompatibilityHead,
    compatibility_features,
    whole_features,
)
from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL, Decoy, DecoyError
from protemb_train.downstream.quality.graphqa import GraphQA
from protemb_train.downstream.quality.graphs import edges_in, geometry_of
from protemb_train.downstream.quality.head import QualityHead
from protemb_train.downstream.quality.naming import FEATURES, Namer, single
from protemb_train.downstream.quality.scores import decoy_scores, residue_scores
from protemb_train.downstream.quality.trained import COMPATIBILITY, TrainedNetwork, make_network
from protemb_train.downstream.quality.training import Predicted
from protemb_train.network.checkpoint import read_tensors, round_weights

FORMAT = "protemb-quality-3"
QUALITIES = ((0.0, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 1.01))
LENGTHS = ((0, 100), (100, 200), (200, 1000))
"""Bands of true GDT_TS, and of residues, for which errors are given; the upper bound is excluded."""
QualityNetwork = QualityHead | GraphQA | CompatibilityHead


class QualityModel(nn.Module):
    """Expected lDDT of residues, and lDDT and GDT_TS of the chain: the calibrated mean of several networks.

    Parameters
    ----------
    heads : sequence of QualityHead, GraphQA or CompatibilityHead
        Heads of one kind; GraphQA without embeddings of pairs.
    means, spreads : sequence of Tensor, shape (E,)
        Mean and standard deviation of the readouts of each head.
    namer : Namer, optional
        The namer that all heads were trained with.
    weights : list of tuple of float, optional
        Calibration, of `fit_calibration`; none by default.
    """

    mean_HE: Tensor
    spread_HE: Tensor
    weights_34: Tensor

    def __init__(
        self,
        heads: Sequence[QualityNetwork],
        means: Sequence[Tensor],
        spreads: Sequence[Tensor],
        namer: Namer | None = None,
        weights: Weights | None = None,
    ) -> None:
        super().__init__()
        self.namer = namer
        for head in heads:
            if not isinstance(head, CompatibilityHead):
                head.namer = None  # stored once, in this module
        self.heads = nn.ModuleList(heads)
        self.register_buffer("mean_HE", torch.stack(list(means)))
        self.register_buffer("spread_HE", torch.stack(list(spreads)))
        self.register_buffer("weights_34", torch.tensor(weights or [(1.0, 0.0, 0.0, 0.0)] * 3))

    def forward(
        self, features_LKC: Tensor, residue_type_L: Tensor, ca_coords_L3: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return lDDT of residues (L,), lDDT () and GDT_TS ().

        Parameters
        ----------
        features_LKC : Tensor, float32, shape (L, K, C)
            Residue readouts in the order used in training.
        residue_type_L : Tensor, int64, shape (L,)
            Positions in `ALPHABET`.
        ca_coords_L3 : Tensor, float32, shape (L, 3)
            C-alpha coordinates in angstrom, centred.
        """
        scaled_HLE = (features_LKC.flatten(1) - self.mean_HE[:, None]) / self.spread_HE[:, None]
        if isinstance(self.heads[0], CompatibilityHead):
            values = self._compatibility(residue_type_L, ca_coords_L3, scaled_HLE)
        else:
            graph = single(neighbour_graph(ca_coords_L3))
            names_LF = None if self.namer is None else self.namer.features(residue_type_L, graph)
            if isinstance(self.heads[0], GraphQA):
                values = self._graphqa(residue_type_L, ca_coords_L3, scaled_HLE, names_LF)
            else:
                values = self._head(residue_type_L, graph, scaled_HLE, names_LF)
        residues, models = zip(
            *((local[:, LOCAL.index("lddt")], of_model) for local, of_model in values), strict=True
        )
        whole = torch.stack(models).mean(dim=0)
        length = torch.ones_like(scaled_HLE[0, :, 0]).sum()
        return (
            self._calibrated(torch.stack(residues).mean(dim=0), length, 0),
            self._calibrated(whole[GLOBAL.index("lddt")], length, 1),
            self._calibrated(whole[GLOBAL.index("gdt_ts")], length, 2),
        )

    def _calibrated(self, value: Tensor, length: Tensor, output: int) -> Tensor:
        features = calibration_features(torch.logit(value.clamp(LIMIT, 1 - LIMIT)), length)
        weights = self.weights_34[output]
        return torch.sigmoid(features @ weights[:-1] + weights[-1])

    def _compatibility(
        self, type_L: Tensor, coords_L3: Tensor, scaled_HLE: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        features_LF = compatibility_features(scaled_HLE[0, :, :PROFILE], type_L, coords_L3)
        whole_1W, one_model_L = whole_features(coords_L3), torch.zeros_like(type_L)
        for module, scaled_LE in zip(self.heads, scaled_HLE, strict=True):
            head = cast(CompatibilityHead, module)
            local_L2, whole_15 = head.scores(features_LF, whole_1W, scaled_LE[:, PROFILE:], one_model_L, 1)
            yield local_L2, whole_15[0]

    def _head(
        self, type_L: Tensor, graph: Graph, scaled_HLE: Tensor, names_LF: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        count_11 = torch.ones_like(scaled_HLE[0, :, :1]).sum(dim=0, keepdim=True)
        for module, scaled_LE in zip(self.heads, scaled_HLE, strict=True):
            head = cast(QualityHead, module)
            y_LH, local_L2 = head.residues(type_L, scaled_LE, graph, names_LF)
            mean, square, local = (v.mean(dim=0, keepdim=True) for v in (y_LH, y_LH.square(), local_L2))
            yield local_L2, head.whole(mean, square, local, count_11)[0]

    def _graphqa(
        self, type_L: Tensor, coords_L3: Tensor, scaled_HLE: Tensor, names_LF: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        edges_2E = edges_in(coords_L3)
        if torch.compiler.is_exporting():
            # A single residue has no edges, which ONNX Runtime supports.
            torch._check(edges_2E.shape[1] > 0)  # type: ignore[no-untyped-call]
        geometry_E4 = geometry_of(coords_L3, edges_2E)
        one_model_L = torch.zeros_like(type_L)
        for module, scaled_LE in zip(self.heads, scaled_HLE, strict=True):
            network = cast(GraphQA, module)
            local_L2, whole_15 = network.scores(
                type_L, edges_2E, geometry_E4, names_LF, scaled_LE, None, one_model_L, 1
            )
            yield local_L2, whole_15[0]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A scorer and its card: encoder, readouts, quality on held-out models, training."""

    model: QualityModel
    card: dict[str, Any] = field(default_factory=dict)


def together(values: Sequence[Predicted]) -> Predicted:
    """Return the mean of the predictions of several networks."""
    residues = [np.mean(of, axis=0) for of in zip(*(s.residue_quality for s in values), strict=True)]
    return Predicted(np.mean([s.quality for s in values], axis=0), residues)


def assemble(
    seeds: Sequence[TrainedNetwork], quality: Mapping[str, Any], weights: Weights | None = None
) -> Trained:
    """Return the seeds of a row as one scorer.

    Parameters
    ----------
    seeds : sequence of TrainedNetwork
        Seeds of one row.
    quality : mapping
        Measured scores, for the card.
    weights : list of tuple of float, optional
        Calibration, of `fit_calibration`; none by default.

    Raises
    ------
    DecoyError
        If the row has another kind of network, or no structure embedding.
    """
    record = seeds[0].record
    if record["network"] == "graphqa" or "sigma" not in record["encoder"]:
        raise DecoyError(
            f"row {record['row']}: a scorer requires networks of kind residues, head or compatibility on a "
            "structure embedding"
        )
    heads = [copy.deepcopy(cast(QualityNetwork, s.network)) for s in seeds]
    for head in heads:
        round_weights(head)
    model = QualityModel(
        heads,
        [s.scales.node_mean for s in seeds],
        [s.scales.node_spread for s in seeds],
        getattr(heads[0], "namer", None),
        weights,
    )
    encoder = record["encoder"]
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
            "epochs": record["recipe"]["epochs"],
            "heads": len(seeds),
            "calibration": None if weights is None else [list(of) for of in weights],
            "origin": record["origin"],
        },
    }
    return Trained(model.eval(), card)


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
    shape = {
        "heads": len(trained.model.heads),
        "network": _kind_of(trained.model.heads[0]),
        "extra": trained.model.get_buffer("mean_HE").shape[1],
        "named": trained.model.namer is not None,
    }
    with written_whole(out) as part:
        torch.save(
            {"format": FORMAT, "shape": shape, "card": trained.card, "state": trained.model.state_dict()},
            part,
        )


def _kind_of(head: nn.Module) -> str:
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
        count, extra = int(shape["heads"]), int(shape["extra"])
        zeros = [torch.zeros(extra)] * count
        namer = Namer.like(loaded["state"]) if shape["named"] else None
        features = FEATURES if namer else 0
        heads = [make_network(shape["network"], extra, 0, features, namer) for _ in range(count)]
        model = QualityModel([cast(QualityNetwork, head) for head in heads], zeros, zeros, namer)
        model.load_state_dict(loaded["state"])
        return Trained(model.eval(), dict(loaded["card"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a scorer of protemb-train quality scorer ({error})", path) from error
