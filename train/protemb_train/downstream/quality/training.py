"""Training of one seed of a row of the quality table, with GraphQA's loss and protocol, in Lightning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from torch_geometric.data import Batch, Data

from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL, Decoy, DecoyError
from protemb_train.downstream.quality.graphqa import quality_loss, ranking_loss
from protemb_train.downstream.quality.scores import decoy_scores, residue_scores
from protemb_train.pretrain.pretrain import quiet_lightning

GRADIENT = 1.0  # largest norm
VALIDATION_INTERVAL = 6  # epochs between two validations


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Training settings.

    GraphQA uses Adam at 1e-3, weight decay 1e-5, batches of 16, and 600 epochs, halving the rate every 250.
    Here the rate is halved at the same fractions of a shorter run.

    Parameters
    ----------
    epochs : int
        Number of epochs; an epoch has all training targets.
    batch : int
        Targets per step.
    learning_rate, weight_decay : float
    local_weight : float
        Weight of the loss of residues.
    models : int
        Random models of each target in an epoch.
    ranking : float
        Weight of the squared error of differences between models of one target.
    """

    epochs: int = 12
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    local_weight: float = 20.0
    models: int = 1
    ranking: float = 0.0


RECIPES = {
    "compatibility": Recipe(epochs=20, learning_rate=2e-3, local_weight=5.0, models=4, ranking=2.0),
}
"""Recipes of networks that are not trained as GraphQA is."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Models for training or evaluation.

    Parameters
    ----------
    decoys : sequence of Decoy
        N models.
    graph : callable
        Returns the graph of a model by its index, with embeddings.
    """

    decoys: Sequence[Decoy]
    graph: Callable[[int], Data]

    def __len__(self) -> int:
        return len(self.decoys)


class SomePerTarget(IterableDataset[Batch]):
    """Batches of random models of each target, in random order; an epoch is determined by the seed."""

    def __init__(self, examples: Examples, batch: int, seed: int, models: int = 1) -> None:
        self.examples, self.seed, self.epoch, self.models = examples, seed, 0, models
        groups: dict[str, list[int]] = {}
        for n, decoy in enumerate(examples.decoys):
            groups.setdefault(decoy.target, []).append(n)
        self.groups = list(groups.values())
        self.batch = min(batch, len(self.groups))

    def __len__(self) -> int:
        return len(self.groups) // self.batch

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        drawn = [rng.choice(group, min(self.models, len(group)), replace=False) for group in self.groups]
        order = rng.permutation(len(drawn))
        for first in range(len(self)):
            graphs = []
            for k in order[first * self.batch : (first + 1) * self.batch]:
                for n in drawn[k]:
                    graph = self.examples.graph(int(n))
                    graph.target = int(k)
                    graphs.append(graph)
            yield Batch.from_data_list(graphs)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Predicted scores of models: (N, 5), and for each model (L, 2)."""

    quality: NDArray[np.float32]
    residue_quality: list[NDArray[np.float32]]

    def of(self, models: Sequence[int]) -> Predicted:
        """Return the predictions for some of the models."""
        return Predicted(self.quality[list(models)], [self.residue_quality[n] for n in models])

    def followed_by(self, other: Predicted) -> Predicted:
        """Return the predictions for these models and those of `other`."""
        whole = np.concatenate([self.quality, other.quality])
        return Predicted(whole, [*self.residue_quality, *other.residue_quality])


@torch.inference_mode()
def predict(network: nn.Module, examples: Examples) -> Predicted:
    """Return predicted scores of all models, one at a time."""
    network.eval()
    result = [network(Batch.from_data_list([examples.graph(n)])) for n in range(len(examples))]
    return Predicted(
        torch.cat([model for _, model in result]).numpy(), [residues.numpy() for residues, _ in result]
    )


def all_scores(decoys: Sequence[Decoy], predicted: Predicted) -> dict[str, float]:
    """Return all scores of the table: for GDT_TS, and for lDDT and CAD of residues."""
    target = np.array([d.target for d in decoys])
    true = np.stack([d.quality for d in decoys])
    scores: dict[str, float] = {}
    for name in ("gdt_ts", "lddt"):
        k = GLOBAL.index(name)
        found = decoy_scores(true[:, k], predicted.quality[:, k], target)
        scores |= {f"{name}_{n}": v for n, v in asdict(found).items()}
        scores[f"{name}_mean"] = float(predicted.quality[:, k].mean())
    for k, name in enumerate(LOCAL):
        sides = [d.residue_quality[:, k] for d in decoys], [p[:, k] for p in predicted.residue_quality]
        if sum(int(np.isfinite(t).sum()) for t in sides[0]) > 1:
            scores |= {f"residue_{name}_{n}": v for n, v in asdict(residue_scores(*sides)).items()}
    return scores


class QualityTraining(pl.LightningModule):
    """Trains a quality network with GraphQA's loss and Adam."""

    def __init__(self, network: nn.Module, recipe: Recipe, validation: Examples) -> None:
        super().__init__()
        self.network, self.recipe, self.validation = network, recipe, validation
        self.curve: list[dict[str, float]] = []
        self.losses: list[Tensor] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        residues, models = self.network(batch)
        loss = quality_loss(
            (residues, batch.residue_quality), (models, batch.quality), self.recipe.local_weight
        )
        if self.recipe.ranking:
            loss = loss + self.recipe.ranking * ranking_loss(models, batch.quality, batch.target)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        entry = {"loss": float(torch.stack(self.losses).mean())}
        self.losses.clear()
        last = self.current_epoch == self.recipe.epochs - 1
        if last or self.current_epoch % VALIDATION_INTERVAL == VALIDATION_INTERVAL - 1:
            entry |= all_scores(self.validation.decoys, predict(self.network, self.validation))
            self.network.train()
        self.curve.append(entry)

    def configure_optimizers(self) -> Any:
        adam = torch.optim.Adam(
            self.network.parameters(),
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        milestones = [max(1, round(steps * share)) for share in (250 / 600, 500 / 600)]
        halving = torch.optim.lr_scheduler.MultiStepLR(adam, milestones, 0.5)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": halving, "interval": "step"}}


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Result of a run: the network after its last epoch, and its training curve."""

    network: nn.Module
    curve: list[dict[str, float]]


def train(
    make: Callable[[], nn.Module], learning: Examples, validation: Examples, recipe: Recipe, *, seed: int
) -> Run:
    """Train a network for all epochs; validation scores are recorded only.

    Parameters
    ----------
    make : callable
        Creates the network, after the seed is set.
    learning, validation : Examples
        Models of different targets.
    recipe : Recipe
    seed : int
        Seed of weights and of the models drawn.

    Raises
    ------
    DecoyError
        If all training models are of one target: batches need at least two.
    """
    if len({d.target for d in learning.decoys}) < 2:
        raise DecoyError("all training models are of one target; at least 2 targets are required")
    pl.seed_everything(seed, verbose=False)
    module = QualityTraining(make(), recipe, validation)
    with quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(__len__|`IterableDataset`)")
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator="cpu",
            gradient_clip_val=GRADIENT,
            enable_checkpointing=False,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader: Any = DataLoader(SomePerTarget(learning, recipe.batch, seed, recipe.models), batch_size=None)
        trainer.fit(module, loader)
    return Run(module.network.eval(), module.curve)
