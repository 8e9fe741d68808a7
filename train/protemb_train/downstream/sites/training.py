"""One run of a row: training, choice of the epoch on validation chains, prediction of the test chains."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from protemb_train.downstream.common.metrics import best_f_threshold, binary_scores
from protemb_train.downstream.sites.batches import (
    CHAINS_PER_BATCH,
    RESIDUES_PER_CHAIN,
    ChainTensors,
    ResidueBatches,
    Scaling,
    whole,
)
from protemb_train.downstream.sites.data import SitesError
from protemb_train.downstream.sites.deepppisp import SiteBatch
from protemb_train.pretrain.pretrain import quiet_lightning


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Training settings of a network of residues; the default is as published, except for the batches.

    Parameters
    ----------
    epochs : int
        Largest number of epochs; 0 leaves the initial weights.
    patience : int, optional
        Training stops this number of epochs after the last improvement of F on the validation chains, and the
        best epoch is used. None: all epochs, and the last one.
    chains_a_batch, residues_a_chain : int
        As in `ResidueBatches`.
    learning_rate, weight_decay : float
        Settings of Adam.
    one_cycle : bool
        Whether the learning rate rises during a tenth of the steps and then falls to zero, as a cosine.
    pad_to : int
        Length that shorter chains are padded to, for the published one-hot layer.
    graph : bool
        Whether the network uses the neighbour graph.
    scale_features : bool
        Whether PSSM and DSSP are scaled like the embeddings.
    encoder_rate : float
        Learning rate of `network.encoder`, if there is one, relative to that of the head.
    clip : float, optional
        Largest norm of the gradient.
    """

    epochs: int = 10
    patience: int | None = 5
    chains_a_batch: int = CHAINS_PER_BATCH
    residues_a_chain: int = RESIDUES_PER_CHAIN
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    one_cycle: bool = False
    pad_to: int = 0
    graph: bool = False
    scale_features: bool = False
    encoder_rate: float = 1.0
    clip: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A pretrained network.

    Parameters
    ----------
    state : dict of str to Tensor
        Weights; parameters that are not included keep their random initialisation.
    scaling : Scaling
        Scaling of its embeddings.
    """

    state: dict[str, Tensor]
    scaling: Scaling


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Result of a run.

    Parameters
    ----------
    validation, test : list of ndarray, float32, shape (L,)
        Probabilities of each chain, at the epoch selected by the recipe.
    curve : list of dict
        Per epoch: loss, and F and AUPRC on the validation chains.
    network : nn.Module
        Network after that epoch.
    scaling : Scaling
        Scaling of its inputs.
    """

    validation: list[NDArray[np.float32]]
    test: list[NDArray[np.float32]]
    curve: list[dict[str, float]]
    network: nn.Module
    scaling: Scaling


class SiteTraining(pl.LightningModule):
    """Trains a network of residues with binary cross entropy and Adam."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        self.curve: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: SiteBatch, batch_idx: int) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(self.network(batch), batch.label_M)
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch: SiteBatch, batch_idx: int) -> None:
        self.seen.append((batch.label_M, self.network(batch).sigmoid()))

    def on_validation_epoch_end(self) -> None:
        label = torch.cat([label for label, _ in self.seen]).numpy() > 0.5
        probability = torch.cat([probability for _, probability in self.seen]).numpy()
        self.seen.clear()
        scores = binary_scores(label, probability, best_f_threshold(label, probability))
        self.log_dict({"val_f": scores.f1, "val_auprc": scores.auprc}, batch_size=1)
        loss = float(torch.stack(self.losses).mean()) if self.losses else float("nan")
        self.losses.clear()
        self.curve.append({"loss": loss, "val_f": scores.f1, "val_auprc": scores.auprc})

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        rate = recipe.learning_rate
        encoder, head = list[nn.Parameter](), list[nn.Parameter]()
        for name, weight in self.network.named_parameters():
            (encoder if name.startswith("encoder.") else head).append(weight)
        sides = ((head, rate), (encoder, recipe.encoder_rate * rate))
        groups = [{"params": weights, "lr": side_rate} for weights, side_rate in sides if weights]
        highest = [side_rate for weights, side_rate in sides if weights]
        adam = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        if not recipe.one_cycle or steps < 2:
            return adam
        rise = max(0.1, 1.5 / steps)
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, highest, total_steps=steps, pct_start=rise)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


@torch.inference_mode()
def predict(network: nn.Module, chains: Sequence[ChainTensors], pad_to: int = 0) -> list[NDArray[np.float32]]:
    """Return the probability of every residue of each chain."""
    network.eval()
    return [network(whole(chain, pad_to)).sigmoid().numpy() for chain in chains]


def train(
    make: Callable[[int, int, int], nn.Module],
    learning: Sequence[ChainTensors],
    validation: Sequence[ChainTensors],
    test: Sequence[ChainTensors],
    recipe: Recipe,
    *,
    seed: int,
    start: Start | None = None,
) -> Run:
    """Train a network on residues of whole chains, and predict validation and test chains.

    Parameters
    ----------
    make : callable
        Creates the network from the widths of features, residue and protein embeddings.
    learning, validation, test : sequence of ChainTensors
        Whole chains; test chains are only predicted.
    recipe : Recipe
        Training settings.
    seed : int
        Seed of weights and batches.
    start : Start, optional
        Initial weights.

    Returns
    -------
    Run

    Raises
    ------
    SitesError
        If `start` is of another network, or has embeddings of another width.
    """
    pl.seed_everything(seed, verbose=False)
    first = learning[0]
    network = make(first.other_LF.shape[1], first.extra_LE.shape[1], len(first.protein_P))
    scaling = Scaling.of(learning, features=recipe.scale_features)
    if start is not None:
        scaling = started(network, start, scaling)
    training, held_out, tested = ([scaling.applied(c) for c in side] for side in (learning, validation, test))
    module = SiteTraining(network, recipe)
    with tempfile.TemporaryDirectory() as folder, quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(__len__|`IterableDataset`)")
        best = ModelCheckpoint(folder, monitor="val_f", mode="max", save_weights_only=True)
        callbacks = (
            []
            if recipe.patience is None
            else [best, EarlyStopping("val_f", mode="max", patience=recipe.patience)]
        )
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator="cpu",
            gradient_clip_val=recipe.clip,
            callbacks=callbacks,
            enable_checkpointing=bool(callbacks),
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches = ResidueBatches(
            training,
            seed,
            recipe.pad_to,
            chains_a_batch=recipe.chains_a_batch,
            residues_a_chain=recipe.residues_a_chain,
        )
        loaders: Any = (
            DataLoader(batches, batch_size=None),
            DataLoader([whole(chain, recipe.pad_to) for chain in held_out], batch_size=None),  # type: ignore[arg-type]
        )
        if recipe.epochs:
            trainer.fit(module, *loaders)
        if callbacks and recipe.epochs:
            module.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    found = [predict(module.network, side, recipe.pad_to) for side in (held_out, tested)]
    return Run(found[0], found[1], module.curve, module.network, scaling)


def started(network: nn.Module, start: Start, own: Scaling) -> Scaling:
    """Load weights into a network; return the scaling of `start`, with `own` for inputs that it lacks.

    Raises
    ------
    SitesError
        If the weights do not fit.
    """
    fresh = network.state_dict()
    if any(n not in fresh or w.shape != fresh[n].shape for n, w in start.state.items()):
        raise SitesError(
            "the initial weights are of another network, or of other embeddings or readouts; "
            "use the encoder and the readouts that they were trained with"
        )
    network.load_state_dict(fresh | start.state)
    means, spreads = start.scaling.means, start.scaling.spreads
    seen = [n for n in means if len(means[n])]  # it has no PSSM and DSSP
    return Scaling(own.means | {n: means[n] for n in seen}, own.spreads | {n: spreads[n] for n in seen})
