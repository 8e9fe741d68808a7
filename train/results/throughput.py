"""Training throughput: the trainer compared with a plain PyTorch loop of the same network and batches.

    python train/results/throughput.py corpus.arrow -o train/results/throughput.md

The plain loop creates batches, computes the loss, clips, steps Adam and updates the moving average; the
trainer does so through Lightning, and also logs and writes checkpoints. The two alternate, and medians are
compared. On a CPU only: clocks do not include pending work of a GPU.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import lightning.pytorch as pl
import torch
import typer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from protemb_sdk._base.output import writable_target, write_text_whole
from protemb_train.corpus.corpus import Corpus
from protemb_train.network.presets import PRESETS
from protemb_train.pretrain import pretrain as rooms
from protemb_train.pretrain.crops import CropBatches
from protemb_train.pretrain.objective import Pretraining, type_loss


class Clock(pl.Callback):
    """The time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())


def trainer(corpus: Path, preset: str, steps: int) -> list[float]:
    """Return the end times of the steps of a run of `pretrain`."""
    clock, make = Clock(), rooms._callbacks
    rooms._callbacks = lambda *arguments: [*make(*arguments), clock]
    try:
        with tempfile.TemporaryDirectory() as folder:
            rooms.pretrain(corpus, *PRESETS[preset], Path(folder), steps=steps, progress=False)
    finally:
        rooms._callbacks = make
    return clock.ends


def plain_loop(corpus: Path, preset: str, steps: int) -> list[float]:
    """Return the end times of the steps of a plain loop."""
    network, config = PRESETS[preset]
    pl.seed_everything(0, verbose=False)
    training = Corpus(corpus, ["train"])
    module = Pretraining(training, training, network, config, steps, 0, {})
    for weight in module.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    average = None
    if config.ema is not None:
        average = AveragedModel(module.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
    stream, ends = CropBatches(training, network, config, seed=0), []
    for step in range(steps):
        batch = stream.batch(step)
        gradient, logits = module(batch)[:2]
        error = (
            batch["sigma"][:, None, None] * gradient
            - (batch["coords"] - batch["noisy"]) / batch["sigma"][:, None, None]
        )
        loss = error.square().mean()
        if logits is not None:
            loss = loss + config.type_loss * type_loss(logits, batch["asked"], batch["true_types"])
        optimizer.zero_grad()
        loss.backward()
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        if average is not None:
            average.update_parameters(module.network)
        ends.append(time.perf_counter())
    return ends


def main(
    corpus: Path,
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write.")],
    steps: Annotated[int, typer.Option(min=8, help="Steps per round; the first five are not counted.")] = 40,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    preset: str = "base",
    threads: int = 1,
) -> None:
    """Measure, and write the table."""
    if torch.cuda.is_available():
        raise typer.BadParameter("this is measured on a CPU; hide the GPUs (CUDA_VISIBLE_DEVICES=)")
    writable_target(out)
    torch.set_num_threads(threads)
    config = PRESETS[preset][1]
    chains, pairs = config.batch, config.batch * min(config.crops) ** 2
    seconds: dict[str, list[float]] = {"plain loop": [], "protemb-train": []}
    for _ in range(rounds):
        for name, run in (("plain loop", plain_loop), ("protemb-train", trainer)):
            ends = run(corpus, preset, steps)[5:-1]  # without warm-up, and writing at the end
            seconds[name] += [b - a for a, b in zip(ends, ends[1:], strict=False)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [
        f"Preset {preset}, {chains} chains and {pairs:,} residue pairs per step, {threads} thread(s), "
        f"{rounds} x {steps} steps, alternating; median step.",
        "",
        "| | s per step | chains/s | pairs/s | relative to the plain loop |",
        "|---|---|---|---|---|",
    ]
    for name, median in medians.items():
        ratio = medians["plain loop"] / median
        rows.append(
            f"| {name} | {median:.3f} | {chains / median:.1f} | {pairs / median:,.0f} | {ratio:.2f} |"
        )
    write_text_whole(out, "\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    typer.run(main)
