"""Short runs of equal budget, one change each: architecture, ablation of the recipe, widths.

    python train/results/trials.py corpus.arrow runs/trials -o train/results --steps 200

Existing runs are not repeated. They are evaluated on whole validation chains, all with the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from protemb_sdk._base.output import writable_target, write_text_whole
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.network import network as rooms
from protemb_train.network.checkpoint import load_network
from protemb_train.network.features import BaseFeatures
from protemb_train.network.loss import score_matching_loss
from protemb_train.network.noise import denoising_score
from protemb_train.network.presets import BASE_1, BASE_1_TRAINING, PAPER, PAPER_TRAINING
from protemb_train.pretrain.crops import WholeChains
from protemb_train.pretrain.pretrain import pretrain

VALIDATION_CHAINS = 64


class NoStretch(BaseFeatures):
    """Without the deviation of bonds from 3.8 angstrom in units of the noise."""

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        pair, residue = super().forward(*arguments)
        keep = pair.new_ones(pair.shape[1])
        keep[self.radial_bins + 1] = 0
        return pair * keep[:, None, None], residue


class NoHandedness(BaseFeatures):
    """Without virtual angles, torsions, and directions in frames: invariant to reflection."""

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        pair, residue = super().forward(*arguments)
        keep_pair, keep_residue = pair.new_ones(pair.shape[1]), residue.new_ones(residue.shape[2])
        keep_pair[-6:] = 0  # the directions
        keep_residue[-5:-2] = 0
        return pair * keep_pair[:, None, None], residue * keep_residue


class WideBins(BaseFeatures):
    """Distance bins of one width, 3 angstrom, as in the paper, instead of the log-spaced ones."""

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        pair, residue = super().forward(*arguments)
        distance = (pair[:, self.radial_bins : self.radial_bins + 1] + 3.0).exp()
        centres = torch.linspace(3.0, 100.0, self.radial_bins, device=pair.device)[:, None, None]
        bins = torch.exp(((distance - centres) / 3.0).square() * -0.5)
        return torch.cat([bins, pair[:, self.radial_bins :]], dim=1), residue


@dataclass(frozen=True)
class Trial:
    """One run, with its changes to `base`."""

    what: str
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    features: type[BaseFeatures] = BaseFeatures
    seed: int = 0


FOUR = (1, 2, 4, 8)
TRIALS: dict[str, list[Trial]] = {
    "ablation": [
        Trial("base"),
        Trial("base, another seed", seed=1),
        Trial("pairs weighed by 1 / sqrt(L), not by distance", {"reach": "length"}),
        Trial("learning rate of the paper, constant", {}, {"learning_rate": 1e-4, "schedule": "constant"}),
        Trial("constant learning rate", {}, {"schedule": "constant"}),
        Trial("no moving average", {}, {"ema": None}),
        Trial("no masked residues", {}, {"type_loss": 0.0, "mask_types": 0.0}),
        Trial("no two-window crops", {}, {"two_windows": 0.0}),
        Trial("spatial crops too (.3)", {}, {"sphere": 0.3}),
        Trial("crops of 32", {}, {"crops": (32,), "batch": 32}),
        Trial("chains drawn, not clusters", {}, {"draw": "chain"}),
        Trial("bins of 3 angstrom, as the paper's", features=WideBins),
        Trial("no bond stretch in units of the noise", features=NoStretch),
        Trial("no angles, torsions, directions", features=NoHandedness),
    ],
    "architecture": [
        Trial("bottleneck 16, 16 blocks", {"bottleneck": 16, "dilations": FOUR * 4}),
        Trial("bottleneck 32, 6 blocks", {"bottleneck": 32, "dilations": (*FOUR, 1, 2)}),
        Trial("bottleneck 32, 8 blocks (base)"),
        Trial("bottleneck 32, 12 blocks", {"bottleneck": 32, "dilations": FOUR * 3}),
        Trial("bottleneck 48, 4 blocks", {"bottleneck": 48, "dilations": FOUR}),
    ],
    "widths": [
        Trial(f"{channels} channels", {"channels": channels, "bottleneck": channels // 2})
        for channels in (16, 32, 64, 128)
    ],
    "paper": [Trial("paper", {"family": "paper"})],
}


@torch.no_grad()
def share_on_whole_chains(checkpoint: Path, corpus: Path) -> float:
    """Return the mean loss relative to the zero predictor over all noise levels."""
    network, _ = load_network(checkpoint)
    chains = WholeChains(Corpus(corpus, ["val"]), network.config, VALIDATION_CHAINS)
    if not len(chains):
        raise CorpusError(f"{corpus}: has no validation chain of a suitable length; use a larger corpus")
    shares = []
    for position in range(len(chains)):
        batch = chains[position]
        gradient = network(batch["noisy"], batch["types"], batch["index"], batch["sigma"])
        target = denoising_score(batch["coords"], batch["noisy"], batch["sigma"])
        loss = score_matching_loss(gradient, target, batch["sigma"])
        shares.append(loss.mean().item() / (3 * batch["types"].shape[1]))
    return float(sum(shares) / len(shares))


def run(trial: Trial, corpus: Path, folder: Path, steps: int) -> float:
    """Train and evaluate one trial."""
    short: dict[str, Any] = {"warmup_steps": 30, "ema": 0.98}
    paper = trial.network.get("family") == "paper"
    network, training = (
        (PAPER, PAPER_TRAINING)
        if paper
        else (
            replace(BASE_1, **trial.network),
            replace(BASE_1_TRAINING, **short | trial.training),
        )
    )
    rooms.BaseFeatures = trial.features  # type: ignore[attr-defined]
    last = pretrain(corpus, network, training, folder, steps=steps, seed=trial.seed, progress=False)
    return share_on_whole_chains(last, corpus)


def main(
    corpus: Path,
    runs: Path,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for a table per set.")],
    steps: int = 200,
    sets: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(TRIALS),
    threads: int = 1,
) -> None:
    """Run the sets and write a table for each."""
    unknown = set(sets.split(",")) - set(TRIALS)
    if unknown:
        raise typer.BadParameter(f"there is no set {min(unknown)!r}; available are {', '.join(TRIALS)}")
    torch.set_num_threads(threads)
    for name in sets.split(","):
        table = writable_target(out / f"{name}.md")
        rows = [
            f"Mean share of the zero predictor's loss over all noise levels on {VALIDATION_CHAINS} whole "
            f"validation chains after {steps} steps of {8 * 64**2:,} residue pairs.",
            "",
            "| change | share |",
            "|---|---|",
        ]
        for trial in TRIALS[name]:
            folder = runs / "".join(c if c.isalnum() else "-" for c in trial.what)
            share = run(trial, corpus, folder, steps)
            print(f"{name}: {trial.what}: {share:.4f}", flush=True)
            rows.append(f"| {trial.what} | {share:.3f} |")
        write_text_whole(table, "\n".join(rows) + "\n")


if __name__ == "__main__":
    typer.run(main)
