"""The scorer that users run: networks of one row on one structure embedding, averaged and measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from protemb_sdk._errors import ModelError
from protemb_sdk._output import written_whole
from protemb_train.checkpoint import read_tensors
from protemb_train.downstream.contacts import contact_graph
from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL, Decoy, DecoyError
from protemb_train.downstream.quality.head import QualityHead
from protemb_train.downstream.quality.learnt import Learnt
from protemb_train.downstream.quality.naming import Namer, single
from protemb_train.downstream.quality.scores import decoy_scores, residue_scores
from protemb_train.downstream.quality.training import Predicted

FORMAT = "protemb-quality-1"


class QualityModel(nn.Module):
    """Expected lDDT of every residue, and lDDT and GDT_TS of the chain: the mean of several heads.

    Parameters
    ----------
    heads : sequence of QualityHead
    means, spreads : sequence of Tensor, shape (E,)
        Of the readouts that each head sees.
    namer : Namer, optional
        The one that all heads have learnt with.
    """

    mean_HE: Tensor
    spread_HE: Tensor

    def __init__(
        self,
        heads: Sequence[QualityHead],
        means: Sequence[Tensor],
        spreads: Sequence[Tensor],
        namer: Namer | None = None,
    ) -> None:
        super().__init__()
        self.namer = namer
        for head in heads:
            head.namer = None  # once is enough
        self.heads = nn.ModuleList(heads)
        self.register_buffer("mean_HE", torch.stack(list(means)))
        self.register_buffer("spread_HE", torch.stack(list(spreads)))

    def forward(
        self, features_LKC: Tensor, residue_type_L: Tensor, ca_coords_L3: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return lDDT of residues (L,), lDDT () and GDT_TS ().

        Parameters
        ----------
        features_LKC : Tensor, float32, shape (L, K, C)
            Residue readouts in the order that the heads were trained on.
        residue_type_L : Tensor, int64, shape (L,)
            Positions in `ALPHABET`.
        ca_coords_L3 : Tensor, float32, shape (L, 3)
            C-alphas in angstrom, centred.
        """
        graph = single(contact_graph(ca_coords_L3))
        names_LF = None if self.namer is None else self.namer.features(residue_type_L, graph)
        count_B1 = torch.ones_like(ca_coords_L3[:, :1]).sum(dim=0, keepdim=True)
        residues, models = [], []
        for n, module in enumerate(self.heads):
            head = cast(QualityHead, module)
            scaled_LE = (features_LKC.flatten(1) - self.mean_HE[n]) / self.spread_HE[n]
            y_LH, local_L2 = head.residues(residue_type_L, scaled_LE, graph, names_LF)
            mean, square, local = (v.mean(dim=0, keepdim=True) for v in (y_LH, y_LH.square(), local_L2))
            residues.append(local_L2[:, LOCAL.index("lddt")])
            models.append(head.whole(mean, square, local, count_B1)[0])
        whole = torch.stack(models).mean(dim=0)
        return (
            torch.stack(residues).mean(dim=0),
            whole[GLOBAL.index("lddt")],
            whole[GLOBAL.index("gdt_ts")],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A scorer and what is said of it: encoder, readouts, quality on held-out models, training."""

    model: QualityModel
    card: dict[str, Any] = field(default_factory=dict)


def together(said: Sequence[Predicted]) -> Predicted:
    """Return the mean of what several networks say."""
    residues = [np.mean(of, axis=0) for of in zip(*(s.residue_quality for s in said), strict=True)]
    return Predicted(np.mean([s.quality for s in said], axis=0), residues)


def assemble(seeds: Sequence[Learnt], readouts: Sequence[str], quality: Mapping[str, Any]) -> Trained:
    """Return the seeds of a row of our head as one scorer.

    Parameters
    ----------
    seeds : sequence of Learnt
        Of one row.
    readouts : sequence of str
        What they saw.
    quality : mapping
        What was measured, for the card.

    Raises
    ------
    DecoyError
        If the row is of another network, or without a structure embedding.
    """
    record = seeds[0].record
    if record["network"] != "head" or "sigma" not in record["encoder"]:
        raise DecoyError(f"row {record['row']}: a scorer is made of our head on a structure embedding")
    heads = [copy.deepcopy(cast(QualityHead, s.network)) for s in seeds]
    model = QualityModel(
        heads, [s.scales.node_mean for s in seeds], [s.scales.node_spread for s in seeds], heads[0].namer
    )
    encoder = record["encoder"]
    card = {
        "kind": "quality",
        "encoder": {
            "name": encoder["encoder"],
            "weights_sha256": encoder["weights_sha256"],
            "sigma": encoder["sigma"],
        },
        "readouts": list(readouts),
        "quality": dict(quality),
        "training": {
            "models": record["models"][0],
            "targets": record["targets"][0],
            "epochs": record["recipe"]["epochs"],
            "heads": len(seeds),
            "origin": record["origin"],
        },
    }
    return Trained(model.eval(), card)


def by_source(decoys: Sequence[Decoy], said: Predicted) -> dict[str, dict[str, float]]:
    """Return for models of each source: their number, true and predicted GDT_TS, error, R, and rho_decoy."""
    found = {}
    k = GLOBAL.index("gdt_ts")
    for source in sorted({d.source for d in decoys}):
        of = [n for n, d in enumerate(decoys) if d.source == source]
        true, predicted = np.array([decoys[n].gdt_ts for n in of]), said.quality[of, k]
        scores = asdict(decoy_scores(true, predicted, np.array([decoys[n].target for n in of])))
        local = residue_scores(
            [decoys[n].residue_quality[:, 0] for n in of], [said.residue_quality[n][:, 0] for n in of]
        )
        found[source] = {
            "models": len(of),
            "gdt_ts": round(float(np.nanmean(true)), 3),
            "predicted": round(float(predicted.mean()), 3),
            "rmse": round(scores["rmse"], 3),
            "r": round(scores["r"], 3),
            "rho_decoy": round(local.rho_decoy, 3),
        }
    return found


def save_scorer(trained: Trained, out: Path) -> None:
    """Write a scorer, to be exported.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    shape = {
        "heads": len(trained.model.heads),
        "extra": trained.model.get_buffer("mean_HE").shape[1],
        "named": trained.model.namer is not None,
    }
    with written_whole(out) as part:
        torch.save(
            {"format": FORMAT, "shape": shape, "card": trained.card, "state": trained.model.state_dict()},
            part,
        )


def load_scorer(path: Path) -> Trained:
    """Read what `save_scorer` wrote.

    Raises
    ------
    ModelError
        If the file is missing, or is no such scorer.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"{path}: holds {loaded['format']!r}, this reads {FORMAT!r} only")
        count, extra = int(loaded["shape"]["heads"]), int(loaded["shape"]["extra"])
        zeros = [torch.zeros(extra)] * count
        namer = Namer.like(loaded["state"]) if loaded["shape"]["named"] else None
        model = QualityModel([QualityHead(extra, namer) for _ in range(count)], zeros, zeros, namer)
        model.load_state_dict(loaded["state"])
        return Trained(model.eval(), dict(loaded["card"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: not a scorer of protemb-train quality scorer ({error})") from error
