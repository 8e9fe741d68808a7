"""A pre-training run: Lightning's trainer, checkpoints, and resuming after an interruption."""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from protemb_sdk import OutputError
from protemb_train.corpus.corpus import Corpus
from protemb_train.network.checkpoint import read_tensors, take_map, take_weights
from protemb_train.network.config import NetworkConfig, PretrainConfig
from protemb_train.network.network import ScoreNetwork
from protemb_train.pretrain.auxiliary import Damaged
from protemb_train.pretrain.callbacks import Averaging, Best, Checkpoints, Last
from protemb_train.pretrain.crops import WholeChains
from protemb_train.pretrain.objective import DECAY, Pretraining, TrainingError

logger = logging.getLogger("protemb")

CHECKPOINT_EVERY = 100  # steps; an interruption costs a minute or two
VALIDATE_EVERY = 500


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's information messages, and warnings that do not apply."""
    talk = logging.getLogger("lightning.pytorch")
    level = talk.level
    talk.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers",  # a batch takes 1% of the time of a step
                ".*isinstance\\(treespec, LeafSpec\\)",  # torch 2.13 with Lightning 2.6
                ".*Checkpoint directory .* exists and is not empty",  # resuming a run
                ".*Experiment logs directory .* exists and is not empty",  # likewise
                ".*Total length of `DataLoader` across ranks is zero",  # our own warning comes first
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        talk.setLevel(level)


def steps_done(out: Path) -> int:
    """Return the number of steps made by the run in a folder, 0 if there is none.

    Raises
    ------
    ModelError
        If its checkpoint cannot be read.
    """
    last = out / "last.ckpt"
    return int(read_tensors(last).get("global_step", 0)) if last.exists() else 0


def _check_same_run(last: Path, module: Pretraining) -> None:
    loaded = read_tensors(last)
    if "optimizer_states" not in loaded:
        raise TrainingError(
            "contains weights without the state of a run, which cannot be continued; "
            "restore the checkpoint of the run, or use another folder",
            last,
        )
    before, now = loaded.get("hyper_parameters", {}), module.hparams
    pairs = {name: (before.get(name), now[name]) for name in ("network", "seed")}
    for name in ("recipe", "corpus_sha256", "damaged"):
        pairs[name] = (before.get("record", {}).get(name), now["record"].get(name))
    # Records of older runs lack fields that were added later; their defaults do not change a run.
    defaults = {field.name: field.default for field in fields(PretrainConfig) if field.default is not MISSING}
    old, new = pairs["recipe"]
    pairs["recipe"] = defaults | (old or {}), defaults | (new or {})
    old, new = pairs["network"]
    pairs["network"] = _network_fields(old), _network_fields(new)
    ranks = [_ranks(of.get("record", {}).get("machine")) for of in (before, now)]
    if None not in ranks:  # missing in records of older runs
        pairs["number of processes (devices by nodes)"] = (ranks[0], ranks[1])
    planned = int(before.get("steps_planned") or 0)
    decays = int(loaded.get("global_step", 0)) > (1 - DECAY) * min(planned, now["steps_planned"])
    if module.config.schedule == "cosine" or (module.config.schedule == "decay" and decays):
        pairs["number of steps"] = (before.get("steps_planned"), now["steps_planned"])
    different = [name for name, (old, new) in pairs.items() if old != new]
    if different:
        raise TrainingError(
            f"belongs to a run with another {' and '.join(different)}; "
            "continue it with the same, or use another folder",
            last,
        )


def _network_fields(shape: dict[str, Any] | None) -> dict[str, Any] | None:
    return shape and NetworkConfig.from_dict(shape).as_dict()


def _ranks(machine: dict[str, Any] | None) -> int | None:
    """Return the number of processes that train together, each on its own batches."""
    return machine["devices"] * machine["nodes"] if machine and {"devices", "nodes"} <= set(machine) else None


def _warn_without_validation(module: Pretraining) -> None:
    """Warn if no best checkpoint can be chosen because there are no validation chains; crops raise."""
    corpus, config = module.validation_chains, module.config
    if config.validate_on == "chains" and not WholeChains(corpus, module.network.config):
        logger.warning(
            "%s: split val has no chain of 50 to 160 residues, so there will be no best.ckpt; use "
            "last.ckpt, or build the corpus from more structures (with ten clusters each split has some)",
            corpus.path,
        )


def _keep_metrics(out: Path, step: int) -> None:
    """Rename the metrics of an earlier part of the run, which Lightning would delete.

    A second file before the same step is of a part that was interrupted before its first checkpoint: all of
    its steps are repeated.
    """
    table, kept = out / "metrics.csv", out / f"metrics-before-step-{step}.csv"
    if table.exists() and not kept.exists():
        table.replace(kept)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Use of the machine; except for rounding, only `devices` and `nodes` change the results.

    Parameters
    ----------
    devices : int
        GPUs per node; several train by Lightning's distributed strategy, each on its own batches of the
        recipe's size. Without a GPU, processes.
    nodes : int
        Number of machines that train together, each started with the same command in a shared folder.
    workers : int
        Number of processes that create batches; 0 uses the training process.
    compile : bool
        Compile network and loss with torch.compile (a minute or two, once per crop size).
    bfloat16 : bool
        Run the convolutions of the blocks in bfloat16.
    """

    devices: int = 1
    nodes: int = 1
    workers: int = 0
    compile: bool = False
    bfloat16: bool = False


def pretrain(
    corpus: str | Path,
    network: NetworkConfig,
    config: PretrainConfig,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    record: dict[str, Any] | None = None,
    machine: Machine | None = None,
    progress: bool = True,
    damaged: Sequence[Damaged] = (),
    start: ScoreNetwork | None = None,
    heads: Mapping[str, Tensor] | None = None,
    pair_map: ScoreNetwork | None = None,
) -> Path:
    """Train a network, continuing from `out/last.ckpt` if it exists.

    Parameters
    ----------
    corpus : path
        Corpus file; the `train` split is used for training, the `val` split for the choice of the best
        checkpoint.
    network, config : NetworkConfig, PretrainConfig
        Shape of the network and the recipe.
    out : Path
        Folder for `last.ckpt`, `best.ckpt` (lowest loss on validation chains), `metrics.csv` (losses relative
        to the zero predictor) and TensorBoard files.
    steps : int
        Total number of optimiser steps. A cosine schedule ends there, so a finished run cannot be continued
        with more steps; continuing an interrupted run gives the same result, bit by bit on a CPU.
    seed : int, default 0
        Seed of weights and batches.
    record : dict, optional
        Plain values stored in the checkpoint, in addition to recipe, corpus and machine.
    machine : Machine, optional
        Devices, workers, compilation, precision.
    progress : bool, default True
        Show a progress bar.
    damaged : sequence of Damaged
        Damaged structures of training chains, for recipes that use them.
    start : ScoreNetwork, optional
        Trained network with the initial weights of a new run; weights that are missing or have another shape
        are initialised at random, and a warning lists them.
    heads : mapping of str to Tensor, optional
        Trained weights of the heads of a new run (`load_heads`); others start at random.
    pair_map : ScoreNetwork, optional
        Trained network without states whose pair map a new run starts from (see `take_map`).

    Returns
    -------
    Path
        The last checkpoint, to be read by `protemb_train.network.checkpoint.load_network`.

    Raises
    ------
    CorpusError
        If no chain is as long as a crop.
    ModelError
        If `out/last.ckpt` cannot be read.
    OutputError
        If `out` cannot be written.
    TrainingError
        If `out/last.ckpt` belongs to another run, or the loss is not finite.
    """
    machine = machine or Machine()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be created ({error.strerror})", out) from error
    pl.seed_everything(seed, verbose=False)
    training, validation = Corpus(corpus, ["train"]), Corpus(corpus, ["val"])
    made = _record(training, config, machine) | (record or {})
    module = Pretraining(training, validation, network, config, steps, seed, made, machine.workers, damaged)
    if start is not None:
        random = take_weights(module.network, start)
        if random:
            logger.warning("weights missing in the initial network, which are random: %s", _summary(random))
    if heads:
        module.load_state_dict(heads, strict=False)
    if pair_map is not None:
        take_map(module.network, pair_map)
    for weight in module.network.parameters():
        if weight.dim() == 4 and not machine.compile:  # 1.5 times faster on the CPU, unless compiled
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    module.network.autocast_blocks = machine.bfloat16
    if machine.compile:
        module.compile(dynamic=False)
    last = out / "last.ckpt"
    done = steps_done(out)
    if last.exists():
        _check_same_run(last, module)
        if done >= steps:
            return last
    try:
        with quiet_lightning():
            trainer = pl.Trainer(
                max_steps=steps,
                accelerator="auto",
                devices=machine.devices,
                num_nodes=machine.nodes,
                callbacks=_callbacks(out, config),
                plugins=[Checkpoints()],
                logger=[CSVLogger(out, name=None, version=""), TensorBoardLogger(out, name=None, version="")],
                log_every_n_steps=10,
                check_val_every_n_epoch=None,
                val_check_interval=steps // math.ceil(steps / VALIDATE_EVERY),
                num_sanity_val_steps=0,
                gradient_clip_val=config.clip,
                enable_progress_bar=progress,
                enable_model_summary=False,
            )
            if trainer.is_global_zero:  # the process that writes the metrics
                _warn_without_validation(module)
                _keep_metrics(out, done)
                _sweep(out)
            trainer.fit(module, ckpt_path=last if done else None, weights_only=True)
            trainer.save_checkpoint(last)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", out) from error
    return last


def _summary(names: list[str]) -> str:
    """Return the names of the modules that some weights belong to."""
    return ", ".join(sorted({".".join(name.split(".")[:2]) for name in names}))


def _sweep(out: Path) -> None:
    """Remove hidden folders of incomplete checkpoints that an interruption left, and nothing else."""
    for name in ("last", "best"):
        for part in out.glob(f".{name}.ckpt.*"):
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)


def _record(training: Corpus, config: PretrainConfig, machine: Machine) -> dict[str, Any]:
    return {
        "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()},
        "machine": asdict(machine),
        "corpus": training.path.name,
        "corpus_sha256": training.sha256,
        "corpus_chains": len(training),
        "corpus_clusters_sha256": training.clusters_sha256,
    }


def _callbacks(out: Path, config: PretrainConfig) -> list[pl.Callback]:
    monitor = "val_share" if config.pair_map else "val_type_nats"
    callbacks: list[pl.Callback] = [
        Best(out, filename="best", monitor=monitor, enable_version_counter=False),
        Last(out, filename="last", every_n_train_steps=CHECKPOINT_EVERY, enable_version_counter=False),
    ]
    if config.ema is not None:
        callbacks.append(Averaging(decay=config.ema))
    return callbacks
