"""Pre-training by denoising score matching (eq. 1-5): a Lightning module, its callbacks and its run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from protemb_sdk._errors import ProtembError
from protemb_train.corpus import Corpus
from protemb_train.crops import Batch, CropBatches
from protemb_train.loss import score_matching_loss
from protemb_train.network import ScoreNetwork
from protemb_train.noise import denoising_score
from protemb_train.presets import NetworkConfig, PretrainConfig

CHECKPOINT_EVERY = 100  # steps; a killed run loses a minute or two


class Pretraining(pl.LightningModule):
    """A score network, its loss and its optimiser.

    Parameters
    ----------
    network, config : NetworkConfig, PretrainConfig
        The network's shape and the recipe.
    steps : int
        Length of the run, which the schedule needs to know.
    seed : int
        Of the batches; the weights are drawn from torch's generator.
    record : dict
        Plain values kept in the checkpoint: corpus, hash, commit.
    """

    def __init__(
        self,
        corpus: Corpus,
        network: NetworkConfig,
        config: PretrainConfig,
        steps: int,
        seed: int,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {"network": network.as_dict(), "steps_planned": steps, "seed": seed, "record": record}
        )
        self.corpus, self.config, self.steps, self.seed = corpus, config, steps, seed
        self.network = ScoreNetwork(network)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the step that the run stands at, which makes resuming exact."""
        batches = CropBatches(
            self.corpus, self.network.config, self.config, self.seed, start=self.trainer.global_step
        )
        return DataLoader(batches, batch_size=None)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Eq. 5 on one batch; stops the run on a loss that is not finite."""
        sigma = batch["sigma"]
        target = denoising_score(batch["coords"], batch["noisy"], sigma)
        gradient = self.network(batch["noisy"], batch["types"], batch["index"], sigma)
        loss_B = score_matching_loss(gradient, target, sigma)
        length = batch["coords"].shape[1]
        loss = loss_B.mean() / (3 * length) if self.config.per_residue_loss else loss_B.mean() / 2
        if not torch.isfinite(loss):
            raise ProtembError(
                f"step {self.global_step}: the loss is {loss.item()}; noise levels {sigma.tolist()}"
            )
        share = loss_B.detach().mean() / (3 * length)
        self.log_dict({"loss": loss.detach(), "share": share}, prog_bar=True)
        return loss

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


def pretrain(
    corpus: Corpus,
    network: NetworkConfig,
    config: PretrainConfig,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    record: dict[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Train for `steps` steps, continuing from `out/last.ckpt` where it exists; return the last checkpoint."""
    pl.seed_everything(seed, verbose=False)
    module = Pretraining(corpus, network, config, steps, seed, record or {})
    module.network.to(memory_format=torch.channels_last)  # 1.6 times faster on the CPU
    last = out / "last.ckpt"
    saving = ModelCheckpoint(
        out, filename="last", every_n_train_steps=CHECKPOINT_EVERY, enable_version_counter=False
    )
    callbacks: list[pl.Callback] = [saving]
    if config.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=config.ema))
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        callbacks=callbacks,
        logger=CSVLogger(out, name=None, version=""),
        log_every_n_steps=10,
        gradient_clip_val=config.clip,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )
    trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    trainer.save_checkpoint(last)
    return last
