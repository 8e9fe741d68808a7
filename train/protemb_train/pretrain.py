"""Pre-training by denoising score matching (eq. 1-5): a Lightning module, its callbacks and its run."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from protemb_sdk._errors import OutputError, ProtembError
from protemb_train.checkpoint import read_tensors
from protemb_train.corpus import Corpus
from protemb_train.crops import Batch, CropBatches
from protemb_train.loss import score_matching_loss
from protemb_train.network import ScoreNetwork
from protemb_train.noise import denoising_score
from protemb_train.presets import NetworkConfig, PretrainConfig

CHECKPOINT_EVERY = 100  # steps; a killed run loses a minute or two


class TrainingError(ProtembError):
    """A run cannot start, cannot be continued, or has diverged."""


class Pretraining(pl.LightningModule):
    """A score network, its loss and its optimiser.

    Parameters
    ----------
    corpus : Corpus
        Training chains.
    network, config : NetworkConfig, PretrainConfig
        The network's shape and the recipe.
    steps : int
        Length of the run, which the schedule needs to know.
    seed : int
        Of the batches; the weights are drawn from torch's generator.
    record : dict
        Plain values kept in the checkpoint: preset, recipe, corpus and its hash, commit.
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
        """Eq. 5 on one batch; a loss that is not finite stops the run with a `TrainingError`."""
        sigma = batch["sigma"]
        target = denoising_score(batch["coords"], batch["noisy"], sigma)
        gradient = self.network(batch["noisy"], batch["types"], batch["index"], sigma)
        loss_B = score_matching_loss(gradient, target, sigma)
        length = batch["coords"].shape[1]
        loss = loss_B.mean() / (3 * length) if self.config.per_residue_loss else loss_B.mean() / 2
        if not torch.isfinite(loss):
            levels = ", ".join(f"{s:.3g}" for s in sorted(set(sigma[~torch.isfinite(loss_B)].tolist())))
            raise TrainingError(
                f"step {self.global_step}: the loss is {loss.item()} (noise levels {levels or 'all'} "
                "angstrom); lower the learning rate, or look at the chains of this step"
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


class Averaging(EMAWeightAveraging):
    """Lightning's moving average of the weights, buffers included, kept apart from the weights to the end.

    A checkpoint holds the average as `state_dict` and the weights as `current_model_state`. Lightning
    itself puts the average in the weights' place when a run ends, and such a run cannot be continued.
    """

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pass


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hold back Lightning's information and advertisements, and warnings of what is so by design."""
    talk = logging.getLogger("lightning.pytorch")
    level = talk.level
    talk.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers",  # a batch costs a hundredth of its step
                ".*isinstance\\(treespec, LeafSpec\\)",  # torch 2.13 at Lightning 2.6
                ".*Checkpoint directory .* exists and is not empty",  # continuing a run
                ".*Experiment logs directory .* exists and is not empty",  # likewise
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        talk.setLevel(level)


def steps_done(out: Path) -> int:
    """Return how many steps the run in a folder has made, 0 where there is none.

    Raises
    ------
    ModelError
        If its checkpoint cannot be read.
    """
    last = out / "last.ckpt"
    return int(read_tensors(last).get("global_step", 0)) if last.exists() else 0


def _check_same_run(last: Path, module: Pretraining) -> None:
    before, now = read_tensors(last).get("hyper_parameters", {}), module.hparams
    pairs = {name: (before.get(name), now[name]) for name in ("network", "seed")}
    record = before.get("record", {})
    shared = [name for name in ("recipe", "corpus_sha256") if name in record and name in now["record"]]
    pairs |= {name: (record[name], now["record"][name]) for name in shared}
    different = [name for name, (old, new) in pairs.items() if old != new]
    if different:
        raise TrainingError(
            f"{last}: belongs to a run with another {' and '.join(different)}; "
            "continue it with the same, or name another folder"
        )


def _keep_metrics(out: Path, step: int) -> None:
    """Move the table of an earlier part of the run aside: Lightning would delete it."""
    table = out / "metrics.csv"
    if table.exists():
        table.replace(out / f"metrics-before-step-{step}.csv")


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
    """Train, continuing from `out/last.ckpt` where it exists.

    Parameters
    ----------
    corpus : Corpus
        Training chains.
    network, config : NetworkConfig, PretrainConfig
        The network's shape and the recipe.
    out : Path
        Folder of the checkpoint and of `metrics.csv` (loss and share of the zero predictor).
    steps : int
        Optimiser steps in all. A cosine schedule ends there, so continuing a finished run with more steps
        is not the same as one longer run; continuing an interrupted one is, to the bit on a CPU.
    seed : int, default 0
        Of weights and batches.
    record : dict, optional
        Plain values kept in the checkpoint.
    progress : bool, default True
        Draw a progress bar.

    Returns
    -------
    Path
        The last checkpoint, which `protemb_train.checkpoint.load_network` reads.

    Raises
    ------
    CorpusError
        If no chain is as long as a crop.
    ModelError
        If `out/last.ckpt` cannot be read.
    OutputError
        If `out` cannot be written.
    TrainingError
        If `out/last.ckpt` is another run's, or the loss is not finite.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: no folder can be made there ({error.strerror})") from error
    pl.seed_everything(seed, verbose=False)
    module = Pretraining(corpus, network, config, steps, seed, record or {})
    for weight in module.network.parameters():
        if weight.dim() == 4:  # 1.6 times faster on the CPU
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    last = out / "last.ckpt"
    done = steps_done(out)
    if last.exists():
        _check_same_run(last, module)
        if done >= steps:
            return last
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(
            out, filename="last", every_n_train_steps=CHECKPOINT_EVERY, enable_version_counter=False
        )
    ]
    if config.ema is not None:
        callbacks.append(Averaging(decay=config.ema))
    try:
        _keep_metrics(out, done)
        with _quiet_lightning():
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
            trainer.fit(module, ckpt_path=last if done else None, weights_only=True)
            trainer.save_checkpoint(last)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error
    return last
