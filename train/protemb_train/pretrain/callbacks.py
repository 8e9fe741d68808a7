"""Lightning callbacks: checkpoints that survive interruption and relocation, and averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from protemb_train.network.checkpoint import write_tensors


class Checkpoints(TorchCheckpointIO):
    """Checkpoints that are written to a temporary file in the same folder and then renamed.

    Lightning writes to the system's temporary folder, and copies from there across file systems over the
    checkpoint needed to resume the run.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        write_tensors(checkpoint, Path(path))


class Averaging(WeightAveraging):
    """Lightning's moving average of the weights, stored separately from the weights.

    A checkpoint has the average as `state_dict` and the weights as `current_model_state`. Lightning
    replaces the weights by the average at the end of a run, which then cannot be continued.

    Parameters
    ----------
    decay : float
        Asymptotic decay of the average. At step n it is at most (1 + n) / (10 + n), so that the first weights
        have little influence.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            now = min(decay, (1 + float(updates)) / (10 + float(updates)))
            return averaged + (1 - now) * (current - averaged)

        super().__init__(use_buffers=False, avg_fn=average)  # constant buffers must stay exact

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pass


class InPlace(ModelCheckpoint):
    """A checkpoint callback that keeps its state if the folder is renamed or copied.

    Missing files are removed from its state; otherwise nothing would be written until a better score.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else ""

        paths = {
            n: here(state_dict[n]) for n in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        if Path(paths["best_model_path"]).is_file():
            super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})


class Best(InPlace):
    """The best checkpoint, with the state key of older runs."""

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)


class Last(InPlace):
    """The last checkpoint, except at steps with validation, where it would be written before the validation.

    A run resumed from such a checkpoint would skip that validation and lose the best one.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        every = trainer.val_check_batch
        if not every or trainer.global_step % every:
            super().on_train_batch_end(trainer, *arguments)
