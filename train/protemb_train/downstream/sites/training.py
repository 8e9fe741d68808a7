"""One run of a row: learn on chains, choose the epoch on others, predict the test chains."""

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

from protemb_train.downstream.metrics import best_f_threshold, binary_scores
from protemb_train.downstream.sites.batches import ChainTensors, ResidueBatches, Scaling, whole
from protemb_train.downstream.sites.deepppisp import SiteBatch
from protemb_train.pretrain import quiet_lightning

EPOCHS = 10
PATIENCE = 5
HEAD_EPOCHS = 20
LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a run leaves.

    Parameters
    ----------
    validation, test : list of ndarray, float32, shape (L,)
        Probabilities of each chain, by the epoch chosen on the validation chains.
    curve : list of dict
        Per epoch: loss, and F and AUPRC on the validation chains.
    network : nn.Module
        As it was after that epoch.
    scaling : Scaling
        What it sees of an embedding.
    """

    validation: list[NDArray[np.float32]]
    test: list[NDArray[np.float32]]
    curve: list[dict[str, float]]
    network: nn.Module
    scaling: Scaling


class SiteTraining(pl.LightningModule):
    """A network of residues, binary cross entropy, Adam."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.network, self.learning_rate = network, learning_rate
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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)


@torch.inference_mode()
def predict(network: nn.Module, chains: Sequence[ChainTensors], pad_to: int = 0) -> list[NDArray[np.float32]]:
    """Return the probability of every residue, chain by chain."""
    network.eval()
    return [network(whole(chain, pad_to)).sigmoid().numpy() for chain in chains]


def train(
    make: Callable[[int, int, int], nn.Module],
    learning: Sequence[ChainTensors],
    validation: Sequence[ChainTensors],
    test: Sequence[ChainTensors],
    *,
    seed: int,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    pad_to: int = 0,
) -> Run:
    """Train a network on residues of whole chains, and predict with the epoch of the best validation F.

    Parameters
    ----------
    make : callable
        Makes the network from the widths of features, residue and protein embeddings.
    learning, validation, test : sequence of ChainTensors
        Whole chains each; test chains are only predicted.
    seed : int
        Of weights and batches.
    epochs : int, default 10
        At most; training stops `PATIENCE` epochs after the last better F.
    learning_rate : float, default 1e-3
        Of Adam.
    pad_to : int, default 0
        Residues that shorter chains are filled to, for the published one-hot layer.

    Returns
    -------
    Run
    """
    pl.seed_everything(seed, verbose=False)
    scaling = Scaling.of(learning)
    learnt, held_out, tested = ([scaling.applied(c) for c in side] for side in (learning, validation, test))
    first = learnt[0]
    module = SiteTraining(
        make(first.other_LF.shape[1], first.extra_LE.shape[1], len(first.protein_P)), learning_rate
    )
    with tempfile.TemporaryDirectory() as folder, quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(__len__|`IterableDataset`)")
        best = ModelCheckpoint(folder, monitor="val_f", mode="max", save_weights_only=True)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[best, EarlyStopping("val_f", mode="max", patience=PATIENCE)],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loaders: Any = (
            DataLoader(ResidueBatches(learnt, seed, pad_to), batch_size=None),
            DataLoader([whole(chain, pad_to) for chain in held_out], batch_size=None),  # type: ignore[arg-type]
        )
        trainer.fit(module, *loaders)
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        module.load_state_dict(state)
    found = [predict(module.network, side, pad_to) for side in (held_out, tested)]
    return Run(found[0], found[1], module.curve, module.network, scaling)
