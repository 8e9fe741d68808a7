"""What a step of pre-training computes, as a Lightning module: eq. 5, and naming hidden residues."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from protemb_sdk import ProtembError
from protemb_train.corpus.corpus import Corpus
from protemb_train.network.features import UNKNOWN
from protemb_train.network.loss import score_matching_loss
from protemb_train.network.means import mean_readouts
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.noise import denoising_score
from protemb_train.network.presets import NetworkConfig, PretrainConfig
from protemb_train.pretrain.crops import Batch, CropBatches, WholeChains

VALIDATION_BATCHES = 16


class TrainingError(ProtembError):
    """A run cannot start, cannot be continued, or has diverged."""


class Pretraining(pl.LightningModule):
    """A score network, its losses and its optimiser.

    Parameters
    ----------
    training, validation : Corpus
        Chains to learn from, and to choose the best checkpoint on.
    network, config : NetworkConfig, PretrainConfig
        The network's shape and the recipe.
    steps : int
        Length of the run, which the schedule needs to know.
    seed : int
        Of the batches; the weights are drawn from torch's generator.
    record : dict
        Plain values kept in the checkpoint: preset, recipe, corpus and its hash, commit.
    workers : int
        Processes that make batches; 0 makes them in this one. The batches are the same.
    """

    def __init__(
        self,
        training: Corpus,
        validation: Corpus,
        network: NetworkConfig,
        config: PretrainConfig,
        steps: int,
        seed: int,
        record: dict[str, Any],
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {"network": network.as_dict(), "steps_planned": steps, "seed": seed, "record": record}
        )
        self.training_chains, self.validation_chains = training, validation
        self.config, self.steps, self.seed, self.workers = config, steps, seed, workers
        self.network = ScoreNetwork(network)
        # Not part of the network: the embedding ends before it.
        self.type_head = nn.Linear(4 * network.channels, UNKNOWN) if config.type_loss else None

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the gradient (B, L, 3), and logits of the residue types (B, L, 20) where they are asked for.

        The logits are read from the four means that residue embeddings are made of: over the residue's row
        and over its column, plain and weighted by contact.
        """
        pair_BCLL = self.network.embed(batch["noisy"], batch["types"], batch["index"], batch["sigma"])
        gradient = self.network.gradient(pair_BCLL, batch["noisy"], batch["sigma"])
        if self.type_head is None:
            return gradient, None
        return gradient, self.type_head(_means(pair_BCLL, batch["noisy"]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Both losses on one batch; a loss that is not finite stops the run with a `TrainingError`."""
        gradient, logits = self(batch)
        loss_B = _per_sample(gradient, batch)
        length = batch["coords"].shape[1]
        loss = loss_B.mean() / (3 * length) if self.config.per_residue_loss else loss_B.mean() / 2
        if logits is not None:
            types = type_loss(logits, batch["asked"], batch["true_types"])
            loss = loss + self.config.type_loss * types
            self.log("type_loss", types.detach())
        if not torch.isfinite(loss):
            sigma = batch["sigma"]
            levels = ", ".join(f"{s:.3g}" for s in sorted(set(sigma[~torch.isfinite(loss_B)].tolist())))
            raise TrainingError(
                f"step {self.global_step}: the loss is {loss.item()} (noise levels {levels or 'all'} "
                "angstrom); lower the learning rate, or look at the chains of this step"
            )
        self.log("loss", loss.detach(), prog_bar=True)
        self.log("share", loss_B.detach().mean() / (3 * length), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log eq. 5 as a share of predicting zero."""
        gradient, _ = self.forward(batch)  # not compiled: every whole chain has its own length
        share = _per_sample(gradient, batch).mean() / (3 * batch["coords"].shape[1])
        self.log("val_share", share, batch_size=1, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam; a warm-up and a cosine to a twentieth where the recipe asks for them."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)
        warmup = self.config.warmup_steps

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
            if self.config.schedule == "constant":
                return rise
            return rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the step that the run stands at, which makes resuming exact."""
        batches = CropBatches(
            self.training_chains,
            self.network.config,
            self.config,
            self.seed,
            start=self.trainer.global_step,
            rank=self.trainer.global_rank,
        )
        return DataLoader(batches, batch_size=None, num_workers=self.workers, pin_memory=self.on_gpu)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the same crops, or the same whole chains, each time."""
        network = self.network.config
        if self.config.validate_on == "chains":
            return DataLoader(WholeChains(self.validation_chains, network), batch_size=None)
        crops = CropBatches(self.validation_chains, network, self.config, seed=0)
        return DataLoader([crops.batch(step) for step in range(VALIDATION_BATCHES)], batch_size=None)  # type: ignore[arg-type]

    @property
    def on_gpu(self) -> bool:
        """Whether the run is on a GPU."""
        return self.trainer.strategy.root_device.type == "cuda"


def _per_sample(gradient: Tensor, batch: Batch) -> Tensor:
    target = denoising_score(batch["coords"], batch["noisy"], batch["sigma"])
    return score_matching_loss(gradient, target, batch["sigma"])


def _means(pair_BCLL: Tensor, coords_BL3: Tensor) -> Tensor:
    """Return four readouts beside each other, shape (B, L, 4 C)."""
    readouts = mean_readouts(pair_BCLL, coords_BL3)
    order = ("mean", "column", "contact", "column-contact")  # of the columns of `type_head`
    return torch.cat([readouts[name] for name in order], dim=1).transpose(1, 2)


def type_loss(logits_BLT: Tensor, asked_BL: Tensor, true_BL: Tensor) -> Tensor:
    """Return the cross entropy of naming the residues asked for, in units of ln 20.

    Knowing nothing costs 1; a batch that asks for no residue costs 0.

    Parameters
    ----------
    logits_BLT : Tensor, shape (B, L, 20)
        Unnormalised log probabilities.
    asked_BL : Tensor, bool, shape (B, L)
        Residues to be named.
    true_BL : Tensor, int64, shape (B, L)
        Types as they are.
    """
    # Others carry the target that is left out: a fixed shape, whatever was asked.
    target = torch.where(asked_BL, true_BL, -100)
    total = F.cross_entropy(logits_BLT.flatten(0, 1), target.flatten(), reduction="sum")
    return total / asked_BL.sum().clamp(min=1) / math.log(UNKNOWN)
