"""The predictor for users: several heads on one structure embedding, calibrated and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from torch import Tensor, nn

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_sdk._predict.predictor import expected_threshold
from protemb_sdk._structure.chain import encode_sequence
from protemb_train.downstream.common.calibration import calibration_features
from protemb_train.downstream.common.embeddings import StructureEncoder, embed_all
from protemb_train.downstream.common.messages import TYPES
from protemb_train.downstream.common.metrics import binary_scores
from protemb_train.downstream.common.neighbour_graph import neighbour_graph
from protemb_train.downstream.common.overlap import families, folds_by_family
from protemb_train.downstream.sites.batches import Scaling, as_tensors
from protemb_train.downstream.sites.data import SiteChain, SitesError
from protemb_train.downstream.sites.graph import GraphHead, surroundings
from protemb_train.downstream.sites.networks import find_network
from protemb_train.downstream.sites.training import Start, train
from protemb_train.network.checkpoint import read_tensors, round_weights

FORMAT = "protemb-sites-4"
BANDS = ((0, 80), (80, 150), (150, 250), (250, 10_000))
"""Lengths for which scores are given, the upper bound excluded."""
HEADS = 10


class SitesModel(nn.Module):
    """Calibrated probability of every residue of a chain, from the mean logit of several heads.

    Calibration is by logistic regression (Platt 1999) on the logit, the logarithm of the chain's length, and
    their product: a larger share of a short chain is in interfaces.

    Parameters
    ----------
    heads : sequence of GraphHead
        Heads without PSSM and DSSP.
    scalings : sequence of Scaling
        Scaling of each head.
    weights : sequence of float
        Weights of the features of `calibration_features`, and the intercept.
    """

    mean_HE: Tensor
    spread_HE: Tensor
    weights: Tensor

    def __init__(
        self, heads: Sequence[GraphHead], scalings: Sequence[Scaling], weights: Sequence[float]
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.register_buffer("mean_HE", torch.stack([s.means["extra_LE"] for s in scalings]))
        self.register_buffer("spread_HE", torch.stack([s.spreads["extra_LE"] for s in scalings]))
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, features_LKC: Tensor, residue_type_L: Tensor, ca_coords_L3: Tensor) -> Tensor:
        """Return probabilities, shape (L,).

        Parameters
        ----------
        features_LKC : Tensor, float32, shape (L, K, C)
            Vectors of residues in the order used in training.
        residue_type_L : Tensor, int64, shape (L,)
            Positions in `ALPHABET`.
        ca_coords_L3 : Tensor, float32, shape (L, 3)
            C-alpha coordinates in angstrom, centred.
        """
        types_LT = (residue_type_L[:, None] == torch.arange(TYPES)).to(torch.float32)
        graph, around = neighbour_graph(ca_coords_L3), [surroundings(ca_coords_L3)]
        logits = []
        for n, module in enumerate(self.heads):
            scaled_LE = (features_LKC.flatten(1) - self.mean_HE[n]) / self.spread_HE[n]
            logits.append(cast(GraphHead, module).logits(types_LT, types_LT[:, :0], scaled_LE, graph, around))
        length = torch.ones_like(types_LT[:, 0]).sum()
        features_LF = calibration_features(torch.stack(logits).mean(dim=0), length)
        return torch.sigmoid(features_LF @ self.weights[:-1] + self.weights[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A predictor and its card.

    Parameters
    ----------
    model : SitesModel
        Predictor in eval mode.
    card : dict
        Plain values: encoder, readouts, threshold, quality on held-out sets, training chains.
    """

    model: SitesModel
    card: dict[str, Any] = field(default_factory=dict)


def train_predictor(
    training: Sequence[SiteChain],
    encoder: StructureEncoder,
    held_out: Mapping[str, Sequence[SiteChain]],
    *,
    start: Start | None = None,
    heads: int = HEADS,
    cache: Path | None = None,
) -> Trained:
    """Train heads on a structure embedding alone, calibrate them, and evaluate them on held-out chains.

    Each head has other validation chains, a fold of the training chains. The calibration is fitted to the
    predictions for these. The held-out chains are used for evaluation only.

    Parameters
    ----------
    training : sequence of SiteChain
        Chains with coordinates.
    encoder : StructureEncoder
        Encoder with the readouts to use.
    held_out : mapping of str to sequence of SiteChain
        Evaluation sets by name.
    start : Start, optional
        Pretrained weights of the heads.
    heads : int, default 10
        Number of averaged heads, and of folds.
    cache : Path, optional
        Cache folder of embeddings.

    Raises
    ------
    SitesError
        If a chain has no coordinates, or there are fewer families than heads.
    """
    make, recipe = find_network("graph")
    tensors = as_tensors(training, embed_all(encoder, training, cache), features=False, graph=True)
    found: list[tuple[nn.Module, Scaling]] = []
    outside: dict[int, NDArray[np.float32]] = {}
    family = families(training)
    if not 2 <= heads <= len(set(family)):
        raise SitesError(
            f"{len(training)} training chains of {len(set(family))} families cannot be divided into {heads} "
            "folds; use from 2 heads to one for each family"
        )
    fold_of = folds_by_family(family, heads, seed=0)
    for seed in range(heads):
        learning, validation = np.flatnonzero(fold_of != seed), np.flatnonzero(fold_of == seed)
        training_side, tested = ([tensors[i] for i in side] for side in (learning, validation))
        run = train(make, training_side, tested, [], recipe, seed=seed, start=start)
        round_weights(run.network)
        found.append((run.network, run.scaling))
        outside |= dict(zip(validation.tolist(), run.validation, strict=True))
    logits = [torch.from_numpy(_logit(outside[i])) for i in range(len(training))]
    seen = [calibration_features(logit, torch.tensor(len(logit))).numpy() for logit in logits]
    label = np.concatenate([chain.label[: chain.cut] for chain in training])
    platt = LogisticRegression(C=np.inf).fit(np.concatenate(seen), label)
    weights = [*map(float, platt.coef_[0]), float(platt.intercept_[0])]
    networks = [network for network, _ in found]
    model = SitesModel(networks, [scaling for _, scaling in found], weights).eval()  # type: ignore[arg-type]
    quality = measure(model, held_out, encoder, cache)
    about = encoder.about
    card = {
        "kind": "sites",
        "encoder": {
            "name": about["encoder"],
            "weights_sha256": about["weights_sha256"],
            "sigma": about["sigma"],
        },
        "readouts": about["readouts"],
        "threshold": None,
        "quality": quality,
        "training": {
            "chains": len(training),
            "heads": heads,
            "ids": [chain.id for chain in training],
            "calibration": weights,
        },
    }
    return Trained(model, card)


def _logit(probability: NDArray[np.float32]) -> NDArray[np.float64]:
    inside = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))


@torch.inference_mode()
def measure(
    model: SitesModel,
    held_out: Mapping[str, Sequence[SiteChain]],
    encoder: StructureEncoder,
    cache: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Return scores and calibration for each set of held-out chains, and for all of them by length."""
    found: dict[str, list[tuple[NDArray[np.bool_], NDArray[np.float32]]]] = {}
    for name, chains in held_out.items():
        tensors = as_tensors(chains, embed_all(encoder, chains, cache), features=False)
        found[name] = [
            (
                chain.label[: chain.cut],
                model(
                    t.extra_LE[:, None],
                    torch.from_numpy(encode_sequence(chain.sequence)[: chain.cut]),
                    t.coords_L3,
                ).numpy(),
            )
            for t, chain in zip(tensors, chains, strict=True)
        ]
    together = [pair for pairs in found.values() for pair in pairs]
    for low, high in BANDS:
        name = f"all, {low} to {high - 1} residues" if high < BANDS[-1][1] else f"all, from {low} residues"
        if some := [pair for pair in together if low <= len(pair[0]) < high]:
            found[name] = some
    return {name: _scores_of(pairs) for name, pairs in found.items()}


def _scores_of(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.float32]]]) -> dict[str, float]:
    """Return scores of labels and probabilities of chains, called as by the SDK."""
    label, probability = (np.concatenate(side) for side in zip(*pairs, strict=True))
    threshold = np.concatenate([np.full_like(p, expected_threshold(p)) for _, p in pairs])
    scores = binary_scores(label, probability, threshold)
    return {
        **{name: round(value, 4) for name, value in scores.as_dict().items()},
        "chains": len(pairs),
        "prevalence": round(float(label.mean()), 4),
        "called": round(float((probability >= threshold).mean()), 4),
        "mean_probability": round(float(probability.mean()), 4),
        "brier": round(float(brier_score_loss(label, probability)), 4),
        "brier_of_prevalence": round(float(label.mean() * (1 - label.mean())), 4),
    }


def save_predictor(trained: Trained, out: Path) -> None:
    """Write a predictor, for export.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    shape = {"heads": len(trained.model.heads), "extra": trained.model.get_buffer("mean_HE").shape[1]}
    with written_whole(out) as part:
        torch.save(
            {"format": FORMAT, "shape": shape, "card": trained.card, "state": trained.model.state_dict()},
            part,
        )


def load_predictor(path: Path) -> Trained:
    """Read a file of `save_predictor`.

    Raises
    ------
    ModelError
        If the file is missing or is not such a predictor.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"has the format {loaded['format']!r}; only {FORMAT!r} can be read", path)
        count, extra = int(loaded["shape"]["heads"]), int(loaded["shape"]["extra"])
        zeros = {"extra_LE": torch.zeros(extra)}
        heads = [GraphHead(0, extra, 0) for _ in range(count)]
        model = SitesModel(heads, [Scaling(zeros, zeros)] * count, [1.0, 0.0, 0.0, 0.0])
        model.load_state_dict(loaded["state"])
        return Trained(model.eval(), dict(loaded["card"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a predictor of protemb-train sites predictor ({error})", path) from error
