"""The network on an embedding that predicts a user's labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protemb_sdk import ALPHABET, ModelError
from protemb_sdk._base.output import written_whole
from protemb_train.network.checkpoint import read_tensors

FORMAT = "protemb-labels-1"
READOUTS = ("mean", "contact", "column", "column-contact")
"""Vectors of residues from models of contract 1, which have no single representation."""
VECTORS = ("residue", "profile")
"""Vectors of residues from models of contract 2."""
HIDDEN, DROPOUT = 128, 0.3
SEEDS = 3  # number of averaged networks


class LabelModel(nn.Module):
    """The mean of several small networks, applied to the readouts and type of each residue or to chain means.

    Parameters
    ----------
    per_residue : bool
        Whether labels are per residue.
    features, outputs : int
        Width of the concatenated vectors (0 excludes the embedding), and number of classes or 1.
    classes : bool
        Whether the outputs are probabilities.
    seeds : int
        Number of networks.
    """

    mean_E: Tensor
    spread_E: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self, per_residue: bool, features: int, outputs: int, classes: bool, seeds: int = SEEDS
    ) -> None:
        super().__init__()
        self.per_residue, self.classes, self.features = per_residue, classes, features
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(features + len(ALPHABET), HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
                nn.Linear(HIDDEN, outputs),
            )
            for _ in range(seeds)
        )  # fmt: skip
        for name, value in (("mean_E", 0.0), ("spread_E", 1.0)):
            self.register_buffer(name, torch.full((features,), value))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @property
    def mean_HE(self) -> Tensor:
        """Means of the features, with the axis of heads as in other predictors."""
        return self.mean_E[None]

    def inputs(self, features_LKC: Tensor, residue_type_L: Tensor) -> Tensor:
        """Return the inputs of the networks, (L, E + 21), or (1, E + 21) for a chain."""
        types_LT = (residue_type_L[:, None] == torch.arange(len(ALPHABET))).to(torch.float32)
        scaled_LE = (features_LKC.flatten(1)[:, : self.features] - self.mean_E) / self.spread_E
        seen_LE = torch.cat([scaled_LE, types_LT], dim=1)
        return seen_LE if self.per_residue else seen_LE.mean(dim=0, keepdim=True)

    def forward(self, features_LKC: Tensor, residue_type_L: Tensor, ca_coords_L3: Tensor) -> Tensor:
        """Return probabilities of classes or a quantity, shape (L, outputs), or (outputs,) for a chain.

        Parameters
        ----------
        features_LKC : Tensor, float32, shape (L, K, C)
            Vectors of residues.
        residue_type_L : Tensor, int64, shape (L,)
            Positions in `ALPHABET`.
        ca_coords_L3 : Tensor, float32, shape (L, 3)
            Not used.
        """
        seen = self.inputs(features_LKC, residue_type_L)
        predicted = torch.stack([self._predicted(network(seen)) for network in self.networks]).mean(dim=0)
        return predicted if self.per_residue else predicted[0]

    def _predicted(self, output: Tensor) -> Tensor:
        return output.softmax(dim=-1) if self.classes else output * self.scale + self.shift


@dataclass(frozen=True, slots=True, eq=False)
class TrainedLabels:
    """A predictor and its card.

    Parameters
    ----------
    model : LabelModel
        In eval mode.
    card : dict
        Plain values: kind, encoder, readouts, classes, quality on held-out families with controls.
    """

    model: LabelModel
    card: dict[str, Any] = field(default_factory=dict)


def save_labels(trained: TrainedLabels, out: Path) -> None:
    """Write a predictor file, for export.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    model = trained.model
    with written_whole(out) as part:
        torch.save(
            {"format": FORMAT, "features": model.features, "card": trained.card, "state": model.state_dict()},
            part,
        )


def load_labels(path: Path) -> TrainedLabels:
    """Read a file of `save_labels`.

    Raises
    ------
    ModelError
        If the file is missing or is not such a predictor.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"has the format {loaded['format']!r}; only {FORMAT!r} can be read", path)
        card = dict(loaded["card"])
        classes = card["classes"]
        model = LabelModel(
            card["kind"] == "residue-label", int(loaded["features"]), len(classes or (0,)), bool(classes)
        )
        model.load_state_dict(loaded["state"])
        return TrainedLabels(model.eval(), card)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a predictor of a user's labels ({error})", path) from error
